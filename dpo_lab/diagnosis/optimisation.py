"""Signs of a run that is set up or driven wrongly: step 0, reference, steps, margin, beta."""

from __future__ import annotations

import math

from dpo_lab.diagnosis.curves import Curves, Finding

STEP_ZERO_NATS = 0.05  # per answer; float32 sums over some hundred tokens differ by less
FROZEN_NATS = 1e-3  # a frozen reference gives the same numbers to the same pairs
SATURATED = 0.02  # share of the force left, sigmoid(-m): at 0.02 the mean margin is about 3.9
SPIKE = 1.25  # times the loss at step 0, where no healthy loss goes
HARDLY_MOVED = 0.05  # nats of log-ratio at the end


def wrong_step_zero(curves: Curves) -> Finding | None:
    """Policy and reference must agree before the first update."""
    for side in ("chosen", "rejected"):
        name = f"logratios/{side}"
        first = next((row for row in curves.rows if name in row or f"eval_{name}" in row), {})
        value = first.get(f"eval_{name}", first.get(name))
        if value is None or first.get("step", 0) > 1 or abs(value) <= STEP_ZERO_NATS:
            continue
        return Finding(
            "wrong_step_zero",
            "problem",
            f"at step {first.get('step', 0)} the mean log-ratio of the {side} answers is "
            f"{value:+.3f} nats; it must be 0",
            "Policy and reference differ before training: another checkpoint, other tokens, "
            "dropout, or another precision.",
            "06_logprobs",
        )
    return None


def moving_reference(curves: Curves) -> Finding | None:
    """The reference's log-probabilities of the held-out pairs must not change, unless asked to."""
    if curves.record.get("config", {}).get("sync_ref_model"):
        return None
    for side in ("chosen", "rejected"):
        values = curves.series(f"eval_logps_ref/{side}")
        if values and max(values) - min(values) > FROZEN_NATS:
            return Finding(
                "moving_reference",
                "problem",
                f"the reference's log-probability of the held-out {side} answers moves from "
                f"{values[0]:.3f} to {values[-1]:.3f} nats",
                "The reference is trained, or it is the policy itself: the KL is measured from a "
                "moving point.",
                "06_logprobs",
            )
    return None


def too_large_steps(curves: Curves) -> Finding | None:
    """A loss that ends far above its start, or is no number, has been thrown out of its basin."""
    losses = curves.series("loss")
    if not losses:
        return None
    bad = [loss for loss in losses if not math.isfinite(loss)]
    end = curves.end("loss")
    if not bad and not (losses[0] > 0 and end > SPIKE * losses[0]):
        return None
    says = (
        f"the loss is not a number in {len(bad)} logged rows"
        if bad
        else f"the training loss ends at {end:.3f}, above its start of {losses[0]:.3f}"
    )
    return Finding(
        "too_large_steps", "problem", says, "Lower the learning rate, or warm up longer.", "05_beta"
    )


def saturated(curves: Curves) -> Finding | None:
    """Nearly no force is left on the training pairs."""
    margin = curves.end("rewards/margins")
    if margin is None or margin <= 0 or 1 / (1 + math.exp(min(margin, 700.0))) > SATURATED:
        return None
    held_out = curves.series("eval_loss")
    worse = len(held_out) > 1 and held_out[-1] > min(held_out) * 1.02
    return Finding(
        "saturated",
        "problem" if worse else "look",
        f"the mean training margin is {margin:.2f}; {100 / (1 + math.exp(margin)):.1f} % of the "
        "force is left"
        + (
            f", and the held-out loss has risen from {min(held_out):.3f} to {held_out[-1]:.3f}"
            if worse
            else ""
        ),
        "With labels that never disagree the margin grows without end at every beta: stop "
        "earlier, or use a loss with a finite optimum (cdpo, ipo_sum).",
        "05_beta",
    )


def beta_out_of_range(curves: Curves) -> Finding | None:
    """Log-ratios that beta makes meaningless: none at all, or tens of nats for a small margin."""
    chosen = curves.held_out_end("logratios/chosen")
    rejected = curves.held_out_end("logratios/rejected")
    margin = curves.held_out_end("rewards/margins")
    if chosen is None or margin is None:
        return None
    gap = chosen - rejected
    if gap > 50 and margin < 1:
        return Finding(
            "beta_too_small",
            "look",
            f"{gap:.0f} nats between chosen and rejected give a margin of only {margin:.2f}",
            "Beta is so small that the reference hardly counts; published values do not carry "
            "over between losses.",
            "05_beta",
        )
    if abs(gap) < HARDLY_MOVED and abs(margin) > 0.1:
        return Finding(
            "beta_too_large",
            "look",
            f"a margin of {margin:.2f} from only {gap:.3f} nats between chosen and rejected",
            "Beta is so large that the policy stays at the reference.",
            "05_beta",
        )
    return None
