"""What `dpo-lab evaluate` says of two models, as data and as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dpo_lab.evaluation.pairs import PairEvaluation
from dpo_lab.evaluation.samples import Diversity, Estimate, KLEstimates, WinRate


@dataclass(frozen=True)
class AnswerStatistics:
    """One model's own answers.

    length: tokens, EOS included. entropy: -log pi of an answer in nats, whose mean is the entropy
    of the model's answers. cut: share that reached `max_new_tokens`. gold: the true reward, or the
    judge's, None where there is neither.
    """

    length: Estimate
    entropy: Estimate
    diversity: Diversity
    cut: float
    gold: Estimate | None


@dataclass(frozen=True)
class ModelReport:
    """What two models say and how they judge pairs.

    calibration_error: expected calibration error of sigmoid(margin). reliability: one row a bin of
    how sure the margin is, as `calibration.Reliability.rows` gives it. judged_by: "true reward",
    "judge's reward", or None. win_rate: of the policy's answer by that reward, None without one.
    gold_correlation: Pearson's and Spearman's between it and the implicit reward of the policy's
    answers, None likewise; across prompts, whose implicit rewards have constants of their own.
    """

    pairs: PairEvaluation
    calibration_error: float
    reliability: list[dict[str, float]]
    kl: KLEstimates
    policy: AnswerStatistics
    reference: AnswerStatistics
    judged_by: str | None
    win_rate: WinRate | None
    gold_correlation: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON."""
        return asdict(self)

    def table(self) -> str:
        """The report as plain text."""
        lines = [
            self.pairs.table(),
            f"calibration error                 {self.calibration_error:.3f}",
            *(
                f"  sure of the winner by {row['low']:.2f}-{row['high']:.2f}   right in "
                f"{row['accuracy']:.3f} of {row['pairs']:.0f}"
                for row in self.reliability
            ),
            "",
            f"{'own answers, one a prompt':<34}{'policy':<18}reference",
            *self._own_answers(),
            "",
            "KL(policy || reference), nats, on the policy's answers",
            *(f"  {name}  {getattr(self.kl, name)}" for name in ("k1", "k2", "k3")),
            *self._against_gold(),
            "(±: one standard error; brackets: 95 %)",
        ]
        return "\n".join(lines)

    def _own_answers(self) -> list[str]:
        sides = (self.policy, self.reference)
        lines = []
        for name, field in (("tokens", "length"), ("entropy, nats", "entropy")):
            values = [str(getattr(side, field)) for side in sides]
            lines.append(f"{name:<34}{values[0]:<18}{values[1]}")
        for name in ("distinct_1", "distinct_2", "self_bleu"):
            values = [getattr(side.diversity, name) for side in sides]
            lines.append(f"{name:<34}{values[0]:<18.3f}{values[1]:.3f}")
        lines.append(f"{'cut at max_new_tokens':<34}{sides[0].cut:<18.3f}{sides[1].cut:.3f}")
        if sides[0].gold is not None:
            lines.append(f"{self.judged_by:<34}{sides[0].gold!s:<18}{sides[1].gold}")
        return lines

    def _against_gold(self) -> list[str]:
        if self.win_rate is None:
            return ["no win rate: nothing here knows the true reward, and no --judge was given"]
        pearson, spearman = self.gold_correlation
        return [
            f"{self.judged_by + ': the policy wins':<34}{self.win_rate.rate}",
            f"  at equal length                 {self.win_rate.at_equal_length}",
            f"{'implicit against ' + self.judged_by:<34}r {pearson:.3f}, rank {spearman:.3f}",
        ]
