"""Everything about a policy beside its reference on one source of pairs: `dpo-lab evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dpo_lab.batching import padding_id
from dpo_lab.checks import check_beta
from dpo_lab.errors import InputError
from dpo_lab.evaluation.calibration import correlation, reliability
from dpo_lab.evaluation.pairs import PairEvaluation, evaluate_pairs
from dpo_lab.evaluation.samples import (
    Diversity,
    Estimate,
    KLEstimates,
    WinRate,
    diversity,
    estimate,
    sampled_kl,
    win_rate,
)
from dpo_lab.evaluation.source import score_examples
from dpo_lab.models import load_policy, load_tokenizer
from dpo_lab.pairs import PreferencePair, read_pairs
from dpo_lab.reviews import sample_pairs, true_reward
from dpo_lab.sampling import Samples, sample_responses
from dpo_lab.scoring import score_responses

WORLD_PAIRS = 400


@dataclass(frozen=True)
class EvaluateConfig:
    """Everything that `dpo-lab evaluate` can be told.

    pairs: file, saved data set or hub name; default: tiny reviews, whose true reward is known.
    prompts: how many prompts both models answer.
    """

    policy: str
    reference: str
    pairs: str | None = None
    beta: float = 0.1
    prompts: int = 128
    max_new_tokens: int = 64
    max_length: int = 512
    batch_size: int = 16
    odd_rows: Literal["strict", "report"] = "report"
    seed: int = 1
    output: str | None = None

    def check(self) -> None:
        """Raise `InputError` naming the first setting that cannot be right."""
        check_beta(self.beta)
        for name, least in (("prompts", 2), ("max_new_tokens", 1), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class AnswerStatistics:
    """One model's own answers.

    length: tokens, EOS included. entropy: -log pi of an answer in nats, whose mean is the entropy
    of the model's answers. cut: share that reached `max_new_tokens`. gold: the true reward, None
    where nothing knows it.
    """

    length: Estimate
    entropy: Estimate
    diversity: Diversity
    cut: float
    gold: Estimate | None


@dataclass(frozen=True)
class ModelReport:
    """What two models say and how they judge pairs.

    calibration_error: expected calibration error of sigmoid(margin). gold_correlation: Pearson's
    and Spearman's between implicit and true reward of the policy's answers, None where nothing
    knows the truth; across prompts, whose implicit rewards have constants of their own.
    win_rate: of the policy's answer by true reward, None likewise.
    """

    pairs: PairEvaluation
    calibration_error: float
    kl: KLEstimates
    policy: AnswerStatistics
    reference: AnswerStatistics
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
            lines.append(f"{'true reward':<34}{sides[0].gold!s:<18}{sides[1].gold}")
        return lines

    def _against_gold(self) -> list[str]:
        if self.win_rate is None:
            return ["no win rate: nothing here knows the true reward"]
        pearson, spearman = self.gold_correlation
        return [
            f"true reward: the policy wins      {self.win_rate.rate}",
            f"  at equal length                 {self.win_rate.at_equal_length}",
            f"implicit against true reward      r {pearson:.3f}, rank {spearman:.3f}",
        ]


def evaluate_models(config: EvaluateConfig, say: Callable[[str], None] = print) -> ModelReport:
    """Judge pairs and sample answers with both models.

    Raises `InputError` for unusable settings, pairs and models, and for two models with
    different tokenizers.
    """
    config.check()
    pairs, gold = _pairs(config, say)
    tokenizer = load_tokenizer(config.reference)
    policy, reference = load_policy(config.policy), load_policy(config.reference)
    scores = score_examples(
        pairs,
        config.policy,
        config.reference,
        max_length=config.max_length,
        batch_size=config.batch_size,
        say=say,
    )
    judged = evaluate_pairs(scores.pairs, scores.logps, config.beta)
    margins = config.beta * scores.logps.logratio_differences.double()
    prompts = [scores.pairs[i % len(scores.pairs)].prompt for i in range(config.prompts)]
    drawn = [_draw(model, tokenizer, prompts, config) for model in (policy, reference)]
    own, by_reference = (_logps(m, tokenizer, drawn[0], config) for m in (policy, reference))
    others = _logps(reference, tokenizer, drawn[1], config)
    statistics = [
        _statistics(samples, logps, gold)
        for samples, logps in zip(drawn, (own, others), strict=True)
    ]
    return ModelReport(
        judged,
        reliability(margins).error,
        sampled_kl(own, by_reference),
        *statistics,
        *_against_gold(drawn, config.beta * (own - by_reference), gold),
    )


def _pairs(
    config: EvaluateConfig, say: Callable[[str], None]
) -> tuple[list[PreferencePair], Callable[[Any, str], float] | None]:
    if config.pairs is None:
        return sample_pairs(WORLD_PAIRS, seed=config.seed), true_reward
    pairs, report = read_pairs(config.pairs, odd=config.odd_rows)
    if report.odd:
        say(report.table())
    return pairs, None


def _draw(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list,
    config: EvaluateConfig,
) -> Samples:
    return sample_responses(
        model,
        tokenizer,
        prompts,
        max_new_tokens=config.max_new_tokens,
        seed=config.seed,
        batch_size=2 * config.batch_size,
    )


def _logps(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    samples: Samples,
    config: EvaluateConfig,
) -> torch.Tensor:
    return score_responses(
        model, samples.encoded, padding_id(tokenizer), batch_size=2 * config.batch_size
    )


def _statistics(
    samples: Samples, logps: torch.Tensor, gold: Callable[[Any, str], float] | None
) -> AnswerStatistics:
    return AnswerStatistics(
        length=estimate(_lengths(samples)),
        entropy=estimate(-logps),
        diversity=diversity(samples.texts),
        cut=samples.share_cut,
        gold=None if gold is None else estimate(_rewards(samples, gold)),
    )


def _against_gold(
    drawn: list[Samples], implicit: torch.Tensor, gold: Callable[[Any, str], float] | None
) -> tuple[WinRate | None, tuple[float, float] | None]:
    if gold is None:
        return None, None
    rewards = [_rewards(samples, gold) for samples in drawn]
    lengths = [_lengths(samples) for samples in drawn]
    return win_rate(*rewards, *lengths), correlation(implicit.double(), rewards[0])


def _rewards(samples: Samples, gold: Callable[[Any, str], float]) -> torch.Tensor:
    rows = zip(samples.prompts, samples.texts, strict=True)
    return torch.tensor([gold(*row) for row in rows], dtype=torch.float64)


def _lengths(samples: Samples) -> torch.Tensor:
    lengths = [len(row.input_ids) - row.prompt_length for row in samples.encoded]
    return torch.tensor(lengths, dtype=torch.float64)
