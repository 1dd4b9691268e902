"""What a run's curves say, in words, each finding with its evidence.

A finding is raised where the numbers support it and nowhere else: a healthy run gets none. Each
threshold stands beside its reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dpo_lab.diagnosis import answers, optimisation
from dpo_lab.diagnosis.curves import Curves, Finding, Row, Sign
from dpo_lab.diagnosis.summary import summary

__all__ = ["SIGNS", "Curves", "Finding", "diagnose", "summary"]

SIGNS: tuple[Sign, ...] = (
    optimisation.wrong_step_zero,
    optimisation.moving_reference,
    optimisation.too_large_steps,
    answers.falling_gold,
    answers.runaway_kl,
    answers.both_fall,
    optimisation.saturated,
    answers.nothing_learned,
    answers.no_better_than_length,
    answers.drifting_length,
    optimisation.beta_out_of_range,
)


def diagnose(rows: Sequence[Row], record: Mapping[str, Any] | None = None) -> list[Finding]:
    """What the rows of metrics.jsonl, and run.json where given, show: problems first."""
    curves = Curves(rows, record or {})
    found = [finding for sign in SIGNS if (finding := sign(curves)) is not None]
    return sorted(found, key=lambda finding: finding.level != "problem")
