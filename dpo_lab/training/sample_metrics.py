"""What the policy itself would say, measured while it trains: KL, length, true reward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dpo_lab.adapters import reference_mode
from dpo_lab.batching import padding_id
from dpo_lab.evaluation import estimate, sampled_kl
from dpo_lab.pair_types import Prompt
from dpo_lab.sampling import Samples, sample_responses
from dpo_lab.scoring import score_responses

Gold = Callable[[Prompt, str], float]
Record = Callable[[list[dict[str, Any]]], object]


class SampleMetrics:
    """Draws one answer to each of a fixed set of prompts and measures it.

        measure = SampleMetrics(reference, tokenizer, prompts, seed=0)
        measure(policy)      # {"kl/policy": ..., "kl/policy_error": ..., ...}

    kl/policy: KL(pi || pi_ref) in nats, the unbiased estimate k1 on the policy's own samples,
    with its standard error. lengths/policy: tokens, EOS included. cut/policy: share of answers
    that reached `max_new_tokens`. gold/reward: the true reward, where a world knows it. The same
    seed is used each time, so two policies that are equal give equal numbers. Without a
    `reference`, it is the policy with its adapter switched off. `record` is handed the answers
    themselves: rows of step, prompt, text, logratio (nats, summed) and, where known, gold.
    `precision` is that of `score_responses`, the same for both models.
    """

    def __init__(
        self,
        reference: PreTrainedModel | None,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int = 64,
        batch_size: int = 32,
        seed: int = 0,
        gold: Gold | None = None,
        record: Record | None = None,
        precision: torch.dtype | None = None,
    ) -> None:
        self.reference, self.tokenizer, self.prompts = reference, tokenizer, list(prompts)
        self.max_new_tokens, self.batch_size, self.seed = max_new_tokens, batch_size, seed
        self.gold, self.record, self.precision = gold, record, precision

    def __call__(self, policy: nn.Module, step: int = 0) -> dict[str, float]:
        """The metrics of `policy` as it is now, after `step` optimiser steps."""
        drawn = sample_responses(
            policy,
            self.tokenizer,
            self.prompts,
            max_new_tokens=self.max_new_tokens,
            seed=self.seed,
            batch_size=self.batch_size,
            progress=False,
        )
        logps = self._score(policy, drawn)
        if self.reference is None:
            with reference_mode(policy) as base:
                ref_logps = self._score(base, drawn)
        else:
            ref_logps = self._score(self.reference.to(policy.device), drawn)
        kl = sampled_kl(logps, ref_logps).k1
        lengths = [len(row.input_ids) - row.prompt_length for row in drawn.encoded]
        metrics = {
            "kl/policy": kl.value,
            "kl/policy_error": kl.error,
            "lengths/policy": sum(lengths) / len(lengths),
            "cut/policy": drawn.share_cut,
        }
        columns = {"prompt": drawn.prompts, "text": drawn.texts}
        columns["logratio"] = (logps - ref_logps).tolist()
        if self.gold is not None:
            rewards = [self.gold(*row) for row in zip(drawn.prompts, drawn.texts, strict=True)]
            gold = estimate(torch.tensor(rewards, dtype=torch.float64))
            metrics |= {"gold/reward": gold.value, "gold/reward_error": gold.error}
            columns["gold"] = rewards
        if self.record is not None:
            rows = zip(*columns.values(), strict=True)
            self.record([{"step": step, **dict(zip(columns, row, strict=True))} for row in rows])
        return metrics

    def _score(self, model: nn.Module, drawn: Samples) -> Float[Tensor, "samples"]:
        return score_responses(
            model,
            drawn.encoded,
            padding_id(self.tokenizer),
            batch_size=self.batch_size,
            progress=False,
            precision=self.precision,
        )
