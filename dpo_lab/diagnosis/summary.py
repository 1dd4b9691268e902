"""A run in one paragraph: where it ended, in numbers, and what there is to look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dpo_lab.diagnosis.curves import Curves, Finding, Row


def summary(rows: Sequence[Row], record: Mapping[str, Any], findings: Sequence[Finding]) -> str:
    """What the rows of a run show, as sentences; `findings` are those of `diagnose`.

    A sentence stands there only where its numbers were logged.
    """
    curves = Curves(rows, record)
    sentences = (_loss(curves), _margin(curves), _ratios(curves), _own_answers(curves))
    said = [sentence for sentence in sentences if sentence]
    if findings:
        problems = sum(finding.level == "problem" for finding in findings)
        signs = ", ".join(finding.sign for finding in findings)
        said.append(f"To look at ({problems} of {len(findings)} a problem): {signs}.")
    else:
        said.append("Nothing in the curves asks for attention.")
    return " ".join(said)


def _loss(curves: Curves) -> str | None:
    held_out, trained = curves.series("eval_loss"), curves.series("loss")
    values, which = (held_out, "held-out") if len(held_out) > 1 else (trained, "training")
    if len(values) < 2:
        return None
    return f"The {which} loss went from {values[0]:.3f} to {values[-1]:.3f}."


def _margin(curves: Curves) -> str | None:
    margin = curves.end("rewards/margins")
    if margin is None or not math.isfinite(margin):
        return None
    accuracy = curves.series("eval_rewards/accuracies")
    ranked = f"; {100 * accuracy[-1]:.0f} % of held-out pairs rank right" if accuracy else ""
    return f"The mean training margin ended at {margin:.2f}{ranked}."


def _ratios(curves: Curves) -> str | None:
    sides = {side: curves.held_out_end(f"logratios/{side}") for side in ("chosen", "rejected")}
    if None in sides.values():
        return None
    moves = " and ".join(
        f"{side} answers became {'more' if value > 0 else 'less'} likely by {abs(value):.2f} nats"
        for side, value in sides.items()
    )
    return f"Against the reference, {moves} on average."


def _own_answers(curves: Curves) -> str | None:
    kls, errors = curves.series("kl/policy"), curves.series("kl/policy_error")
    if not kls:
        return None
    said = f"The policy's own answers are {kls[-1]:.2f} ± {errors[-1]:.2f} nats from the reference"
    gold = curves.series("gold/reward")
    if len(gold) > 1:
        said += f", and their true reward went from {gold[0]:.2f} to {gold[-1]:.2f}"
    return said + "."
