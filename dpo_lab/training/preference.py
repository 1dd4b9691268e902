"""Preference training: transformers' Trainer with our pairs, log-probabilities and losses.

Checkpoints, mixed precision, progress bars, trackers and several GPUs come with the Trainer.
The reference is not in memory while training: its log-probabilities come with the data.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, Trainer, TrainingArguments

from dpo_lab.batching import Batch, EncodedPair, collate
from dpo_lab.errors import InputError
from dpo_lab.losses import LossOutput, PairLogps, compute_loss
from dpo_lab.models import disable_dropout
from dpo_lab.scoring import ScoredPairs, batch_logps

STEP_ZERO_TOLERANCE = 1e-3
STEP_ZERO_ROUNDING = 1e-6  # of float32, for losses that are large at the reference


class PreferenceExample(NamedTuple):
    """One encoded pair with the reference's summed log-probabilities of its two answers."""

    pair: EncodedPair
    ref_chosen_logps: float
    ref_rejected_logps: float


def attach_reference(
    pairs: Sequence[EncodedPair], reference: ScoredPairs
) -> list[PreferenceExample]:
    """Put each pair and its reference log-probabilities together, in order."""
    chosen, rejected = reference.chosen.tolist(), reference.rejected.tolist()
    return [PreferenceExample(*row) for row in zip(pairs, chosen, rejected, strict=True)]


class PreferenceCollator:
    """Turns examples into one padded batch: B chosen rows, then B rejected rows."""

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def __call__(self, examples: Sequence[PreferenceExample]) -> dict[str, Tensor]:
        batch = collate([example.pair for example in examples], self.pad_id)
        return {
            **batch._asdict(),
            "ref_chosen_logps": torch.tensor([e.ref_chosen_logps for e in examples]),
            "ref_rejected_logps": torch.tensor([e.ref_rejected_logps for e in examples]),
        }


@dataclass(frozen=True)
class LossConfig:
    """Which loss of `dpo_lab.losses.LOSSES`, its beta, and its options."""

    loss: str = "dpo"
    beta: float = 0.1
    options: Mapping[str, float] = field(default_factory=dict)


class PreferenceTrainer(Trainer):
    """Trains a policy on `PreferenceExample`s with any loss of the table.

    Logs, under TRL's names, the means since the last log of rewards/{chosen, rejected, margins,
    accuracies} and logps/{chosen, rejected}, and besides logps_ref/*, logratios/* and lengths/*
    (response tokens, EOS included). rewards/accuracies counts strict wins: a tie is 0.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: TrainingArguments,
        loss_config: LossConfig,
        pad_id: int,
        **kwargs: Any,
    ) -> None:
        disable_dropout(model)
        args.remove_unused_columns = False
        super().__init__(model, args, data_collator=PreferenceCollator(pad_id), **kwargs)
        self.loss_config = loss_config
        self._sums: dict[str, dict[str, Tensor]] = {"train": {}, "eval": {}}
        self._counts: dict[str, int] = defaultdict(int)

    def pair_logps(self, model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> PairLogps:
        """Policy log-probabilities of a collated batch beside the reference's."""
        batch = Batch(**{name: inputs[name] for name in Batch._fields})
        policy_chosen, policy_rejected = batch_logps(model, batch).chunk(2)
        chosen_lengths, rejected_lengths = (batch.ends - batch.starts).chunk(2)
        return PairLogps(
            policy_chosen,
            policy_rejected,
            inputs["ref_chosen_logps"].to(policy_chosen.dtype),
            inputs["ref_rejected_logps"].to(policy_chosen.dtype),
            chosen_lengths,
            rejected_lengths,
        )

    def evaluate_loss(self, logps: PairLogps) -> LossOutput:
        """The configured loss, unreduced."""
        config = self.loss_config
        return compute_loss(config.loss, logps, config.beta, **config.options)

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, dict]:
        logps = self.pair_logps(model, inputs)
        output = self.evaluate_loss(logps)
        self._record("train" if model.training else "eval", logps, output)
        loss = output.losses.mean()
        return (loss, {}) if return_outputs else loss

    def prediction_step(
        self,
        model: PreTrainedModel,
        inputs: dict[str, Tensor],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor, None, None]:
        with torch.no_grad():
            loss = self.compute_loss(model, self._prepare_inputs(inputs))
        return loss.detach(), None, None

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs.update(self._means("train"))
        elif "eval_loss" in logs:
            logs.update({f"eval_{name}": mean for name, mean in self._means("eval").items()})
        super().log(logs, start_time)

    def check_step_zero(self) -> float:
        """Loss of the first pairs before any update. Raises `InputError` if it is off.

        At step 0 the policy is the reference, so every log-ratio is 0 and the loss is known
        (log 2 for DPO). Another value means another model, other tokens, or dropout. A loss
        without a reference is compared with its value for the model that training starts from.
        """
        self.model.eval()
        first = self.train_dataset[: self.args.per_device_train_batch_size]
        inputs = self._prepare_inputs(self.data_collator(first))
        with torch.no_grad():
            logps = self.pair_logps(self.model, inputs)
            at_reference = logps._replace(
                policy_chosen=logps.ref_chosen, policy_rejected=logps.ref_rejected
            )
            loss = self.evaluate_loss(logps).losses.mean().item()
            expected = self.evaluate_loss(at_reference).losses.mean().item()
        near = {"rel_tol": STEP_ZERO_ROUNDING, "abs_tol": STEP_ZERO_TOLERANCE}
        if not math.isclose(loss, expected, **near):
            ratio = torch.cat([logps.chosen_logratios, logps.rejected_logratios]).abs().max()
            raise InputError(
                f"the loss at step 0 is {loss:.4f} but must be {expected:.4f} within "
                f"{STEP_ZERO_TOLERANCE}: the policy is not the reference "
                f"(largest log-ratio {ratio:.3g} nats). Is --reference the model that training "
                "starts from?"
            )
        return loss

    def _record(self, mode: str, logps: PairLogps, output: LossOutput) -> None:
        """Add one micro-batch to the sums; they stay on the device, so nothing waits for it."""
        wins = output.chosen_rewards > output.rejected_rewards
        values = {
            "rewards/chosen": output.chosen_rewards,
            "rewards/rejected": output.rejected_rewards,
            "rewards/margins": output.chosen_rewards - output.rejected_rewards,
            "rewards/accuracies": wins,
            "logps/chosen": logps.policy_chosen,
            "logps/rejected": logps.policy_rejected,
            "logps_ref/chosen": logps.ref_chosen,
            "logps_ref/rejected": logps.ref_rejected,
            "logratios/chosen": logps.chosen_logratios,
            "logratios/rejected": logps.rejected_logratios,
            "lengths/chosen": logps.chosen_lengths,
            "lengths/rejected": logps.rejected_lengths,
        }
        sums = self._sums[mode]
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value.detach().float().sum()
        self._counts[mode] += len(wins)

    def _means(self, mode: str) -> dict[str, float]:
        """Means per pair since the last call, over all processes."""
        sums, count = self._sums[mode], self._counts.pop(mode, 0)
        self._sums[mode] = {}
        if not count:
            return {}
        totals = torch.stack([*sums.values(), torch.full_like(next(iter(sums.values())), count)])
        totals = self.accelerator.reduce(totals, "sum")
        return dict(zip(sums, (totals[:-1] / totals[-1]).tolist(), strict=True))
