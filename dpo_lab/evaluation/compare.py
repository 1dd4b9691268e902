"""Everything about a policy beside its reference on one source of pairs: `dpo-lab evaluate`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dpo_lab.batching import encode_responses, padding_id
from dpo_lab.checks import check_beta
from dpo_lab.errors import InputError
from dpo_lab.evaluation.calibration import correlation, reliability
from dpo_lab.evaluation.pairs import evaluate_pairs
from dpo_lab.evaluation.report import AnswerStatistics, ModelReport
from dpo_lab.evaluation.samples import (
    WinRate,
    diversity,
    estimate,
    sampled_kl,
    win_rate,
)
from dpo_lab.evaluation.source import score_examples
from dpo_lab.models import best_device, load_policy, load_tokenizer
from dpo_lab.pairs import PreferencePair, read_pairs
from dpo_lab.reviews import sample_pairs, true_reward
from dpo_lab.sampling import Samples, sample_responses
from dpo_lab.scoring import score_responses
from dpo_lab.training.reward_model import load_reward_model, score_rewards

WORLD_PAIRS = 400
Judge = Callable[[Samples], torch.Tensor]


@dataclass(frozen=True)
class EvaluateConfig:
    """Everything that `dpo-lab evaluate` can be told.

    pairs: file, saved data set or hub name; default: tiny reviews, whose true reward is known.
    prompts: how many prompts both models answer. judge: a reward model (folder or hub name) that
    decides who wins where nothing knows the truth.
    """

    policy: str
    reference: str
    pairs: str | None = None
    judge: str | None = None
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
        if self.judge is not None and self.pairs is None:
            raise InputError("judge: tiny reviews have a true reward; give --pairs as well")
        for name, least in (("prompts", 2), ("max_new_tokens", 1), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, got {getattr(self, name)}")


def evaluate_models(config: EvaluateConfig, say: Callable[[str], None] = print) -> ModelReport:
    """Judge pairs and sample answers with both models.

    Raises `InputError` for unusable settings, pairs and models, and for two models with
    different tokenizers.
    """
    config.check()
    judged_by, judge = _judge(config)
    pairs = _pairs(config, say)
    tokenizer = load_tokenizer(config.reference)
    policy, reference = (
        load_policy(name).to(best_device()) for name in (config.policy, config.reference)
    )
    scores = score_examples(
        pairs,
        config.policy,
        config.reference,
        max_length=config.max_length,
        batch_size=config.batch_size,
        say=say,
    )
    judged = evaluate_pairs(scores.pairs, scores.logps, config.beta)
    calibration = reliability(config.beta * scores.logps.logratio_differences.double(), bins=5)
    prompts = [scores.pairs[i % len(scores.pairs)].prompt for i in range(config.prompts)]
    drawn = [_draw(model, tokenizer, prompts, config) for model in (policy, reference)]
    own, by_reference = (_logps(m, tokenizer, drawn[0], config) for m in (policy, reference))
    others = _logps(reference, tokenizer, drawn[1], config)
    golds = [None if judge is None else judge(samples) for samples in drawn]
    statistics = [
        _statistics(samples, logps, gold)
        for samples, logps, gold in zip(drawn, (own, others), golds, strict=True)
    ]
    return ModelReport(
        judged,
        calibration.error,
        calibration.rows(),
        sampled_kl(own, by_reference),
        *statistics,
        judged_by,
        *_against_gold(drawn, config.beta * (own - by_reference), golds),
    )


def _judge(config: EvaluateConfig) -> tuple[str | None, Judge | None]:
    """What decides who wins, and its name in the report."""
    if config.pairs is None:
        return "true reward", _true_rewards
    if config.judge is None:
        return None, None
    model, tokenizer = (
        load_reward_model(config.judge).to(best_device()),
        load_tokenizer(config.judge),
    )

    def rewards(samples: Samples) -> torch.Tensor:
        rows = list(zip(samples.prompts, samples.texts, strict=True))
        encoded, report = encode_responses(tokenizer, rows, config.max_length)
        if report.dropped:
            raise InputError(f"judge {config.judge}: {report.table()}")
        size = 2 * config.batch_size
        return score_rewards(model, encoded, padding_id(tokenizer), batch_size=size).double()

    return "judge's reward", rewards


def _true_rewards(samples: Samples) -> torch.Tensor:
    rows = zip(samples.prompts, samples.texts, strict=True)
    return torch.tensor([true_reward(*row) for row in rows], dtype=torch.float64)


def _pairs(config: EvaluateConfig, say: Callable[[str], None]) -> list[PreferencePair]:
    if config.pairs is None:
        return sample_pairs(WORLD_PAIRS, seed=config.seed)
    pairs, report = read_pairs(config.pairs, odd=config.odd_rows)
    if report.odd:
        say(report.table())
    return pairs


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
    samples: Samples, logps: torch.Tensor, gold: torch.Tensor | None
) -> AnswerStatistics:
    return AnswerStatistics(
        length=estimate(_lengths(samples)),
        entropy=estimate(-logps),
        diversity=diversity(samples.texts),
        cut=samples.share_cut,
        gold=None if gold is None else estimate(gold),
    )


def _against_gold(
    drawn: list[Samples], implicit: torch.Tensor, golds: list[torch.Tensor | None]
) -> tuple[WinRate | None, tuple[float, float] | None]:
    if golds[0] is None:
        return None, None
    lengths = [_lengths(samples) for samples in drawn]
    return win_rate(*golds, *lengths), correlation(implicit.double(), golds[0])


def _lengths(samples: Samples) -> torch.Tensor:
    lengths = [len(row.input_ids) - row.prompt_length for row in samples.encoded]
    return torch.tensor(lengths, dtype=torch.float64)
