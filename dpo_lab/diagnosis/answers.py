"""Signs in the answers: where probability went, how good, how far, how long they became."""

from __future__ import annotations

import math

from dpo_lab.diagnosis.curves import Curves, Finding

FALLEN_NATS = 0.05  # mean log-ratio; smaller falls say nothing
FAR_KL = 25.0  # nats a sequence: e^25 answers of the policy fit into one of the reference
LONGER = 1.3  # growth of the policy's own answers
HARDLY_MOVED = 0.05  # nats of log-ratio at the end


def both_fall(curves: Curves) -> Finding | None:
    """Chosen and rejected log-ratios below 0: benign or displacement, by the policy's own KL."""
    chosen = curves.held_out_end("logratios/chosen")
    rejected = curves.held_out_end("logratios/rejected")
    if chosen is None or not (chosen < -FALLEN_NATS and rejected < -FALLEN_NATS):
        return None
    kl = curves.end("kl/policy")
    says = f"both log-ratios fall: chosen {chosen:+.2f} nats, rejected {rejected:+.2f} nats"
    if kl is None:
        means = (
            "Whether that is benign cannot be told from these curves; measure the policy's own "
            "answers (--sample_prompts 64)."
        )
        return Finding("both_fall", "look", says, means, "08_chosen_falls")
    says += f"; KL on the policy's own answers {kl:.2f} nats"
    # At the optimum, the mean log-ratio of answers that the reference drew is -KL(ref || pi),
    # which is of the size of the KL the other way. Far more than that went somewhere else.
    if chosen < -2 * abs(kl) - 1:
        return Finding(
            "displacement",
            "problem",
            says,
            "The chosen answers lose far more than the policy's own answers moved: their "
            "probability went to answers that nobody preferred. Add an NLL term (--loss dpo sft), "
            "or look at pairs whose two answers are nearly alike.",
            "08_chosen_falls",
        )
    return None


def falling_gold(curves: Curves) -> Finding | None:
    """The true reward falls from its best while the training margin goes on rising."""
    gold, errors = curves.series("gold/reward"), curves.series("gold/reward_error")
    if len(gold) < 2:
        return None
    best = max(range(len(gold)), key=gold.__getitem__)
    spread = math.hypot(errors[best], errors[-1])
    if gold[best] - gold[-1] < 3 * spread or spread == 0:
        return None
    return Finding(
        "falling_gold",
        "problem",
        f"the true reward fell from {gold[best]:.3f} to {gold[-1]:.3f} (± {spread:.3f})",
        "Over-optimisation: stop where it was highest, or raise beta.",
        "02_kl_optimum",
    )


def runaway_kl(curves: Curves) -> Finding | None:
    """The policy's own answers are far from what the reference would say."""
    kls = curves.series("kl/policy")
    if not kls or kls[-1] <= FAR_KL:
        return None
    return Finding(
        "runaway_kl",
        "problem",
        f"KL on the policy's own answers is {kls[-1]:.1f} nats a sequence",
        "The reference no longer holds the policy: raise beta, stop earlier, or lower the "
        "learning rate.",
        "02_kl_optimum",
    )


def drifting_length(curves: Curves) -> Finding | None:
    """The policy's own answers grow or shrink."""
    lengths = curves.series("lengths/policy")
    if len(lengths) < 2 or lengths[0] <= 0:
        return None
    ratio = lengths[-1] / lengths[0]
    if 1 / LONGER < ratio < LONGER:
        return None
    return Finding(
        "drifting_length",
        "look",
        f"the policy's own answers went from {lengths[0]:.1f} to {lengths[-1]:.1f} tokens",
        "Compare with the lengths of the chosen answers; a length-normalised loss or rdpo holds "
        "it.",
        "10_losses",
    )


def nothing_learned(curves: Curves) -> Finding | None:
    """Held-out accuracy whose interval does not lie above one half."""
    share = curves.record.get("evaluation", {}).get("accuracy")
    if share is None or share["low"] > 0.5:
        return None
    moved = curves.held_out_end("logratios/chosen")
    still = moved is not None and abs(moved) < HARDLY_MOVED
    return Finding(
        "nothing_learned",
        "look",
        f"held-out accuracy {share['value']:.3f} [{share['low']:.3f}, {share['high']:.3f}] "
        "is not above a coin's",
        "The policy has hardly moved: more steps, or larger ones."
        if still
        else "The policy moved, but not towards the labels: noisy labels, too few pairs, or "
        "pairs that it cannot generalise from.",
        "05_beta" if still else "04_loss_landscape",
    )


def no_better_than_length(curves: Curves) -> Finding | None:
    """The rule "the longer answer wins" inside or above the accuracy's interval."""
    evaluation = curves.record.get("evaluation", {})
    share, rule = evaluation.get("accuracy"), evaluation.get("longer_wins")
    if share is None or rule is None or share["low"] <= 0.5:
        return None
    best_rule = max(rule["value"], 1 - rule["value"])
    if share["low"] > best_rule:
        return None
    which = "longer" if rule["value"] >= 0.5 else "shorter"
    return Finding(
        "no_better_than_length",
        "look",
        f"held-out accuracy {share['value']:.3f} [{share['low']:.3f}, {share['high']:.3f}] is not "
        f"above the rule 'the {which} answer wins', which is right in {best_rule:.3f}",
        "The run has not shown that it learned more than length.",
        "10_losses",
    )
