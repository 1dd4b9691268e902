"""Preference training: transformers' Trainer with our pairs, log-probabilities and losses.

Checkpoints, mixed precision, progress bars, trackers and several GPUs come with the Trainer.
The reference's summed log-probabilities come with the data. A reference model is in memory while
training only for a loss that needs more than those sums.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainingArguments

from dpo_lab.adapters import reference_mode
from dpo_lab.batching import Batch
from dpo_lab.errors import InputError
from dpo_lab.fast import packed_logps, use_fast_path
from dpo_lab.logprobs import sequence_logps
from dpo_lab.losses import AnswerLogps, AnswerOutput, LossOutput, PairLogps
from dpo_lab.models import disable_dropout
from dpo_lab.scoring import batch_logits, batch_logps
from dpo_lab.training.examples import (
    MISMATCHED,
    PreferenceCollator,
    batch_of,
    packed_of,
    pieces,
)
from dpo_lab.training.joined import of_all_processes
from dpo_lab.training.metrics import first_rows, gradient_weight, pair_metrics
from dpo_lab.training.moving_reference import MovingReference
from dpo_lab.training.objective import (
    LossConfig,
    Objective,
    at_reference,
    inputs_from_logits,
)
from dpo_lab.training.piecewise import PieceTrainer
from dpo_lab.training.processes import sharded
from dpo_lab.training.sample_metrics import SampleMetrics

STEP_ZERO_TOLERANCE = 1e-3
STEP_ZERO_ROUNDING = 1e-6  # of float32, for losses that are large at the reference
LOSS_STATE = "loss_state.json"


class PreferenceTrainer(PieceTrainer):
    """Trains a policy on `PreferenceExample`s with the losses of a `LossConfig`.

    `reference`: a frozen model, for losses that need more of it than sums; a policy with an
    adapter needs none. `moving`: a reference that follows the policy, in the place of the sums
    that come with the data. `token_budget`: take the fast path (`dpo_lab.fast`), in pieces of at
    most so many tokens; None for the plain one. Logs the means of `metrics.pair_metrics` since
    the last log, `grad_weight` in training, and with each evaluation what `sample_metrics`
    measures.
    """

    collator = PreferenceCollator

    def __init__(
        self,
        model: nn.Module,
        args: TrainingArguments,
        loss_config: LossConfig,
        pad_id: int,
        reference: PreTrainedModel | None = None,
        moving: MovingReference | None = None,
        sample_metrics: SampleMetrics | None = None,
        token_budget: int | None = None,
        **kwargs: Any,
    ) -> None:
        disable_dropout(model)
        args.remove_unused_columns = False
        if token_budget is not None:
            if loss_config.needs_logits or moving is not None:
                raise InputError(
                    "token_budget: the fast path keeps no logits, and these are needed"
                )
            use_fast_path(model)
            if not loss_config.splittable or sharded():
                token_budget = sys.maxsize  # shards are gathered in step, so all need one piece
        if moving is not None:
            reference = moving.reference
            kwargs["callbacks"] = [*kwargs.get("callbacks", []), moving]
        super().__init__(model, args, data_collator=self.collator(pad_id, token_budget), **kwargs)
        self.loss_config = loss_config
        self.objective = Objective(loss_config)
        self.reference = None if reference is None else reference.to(args.device).eval()
        self.moving = moving
        self.sample_metrics = sample_metrics

    def batch_logps(
        self, model: nn.Module, inputs: Mapping[str, Any]
    ) -> tuple[PairLogps | AnswerLogps, dict[str, Tensor]]:
        """Policy log-probabilities of a batch, or of a piece of it, beside the reference's, and
        what else the loss needs."""
        packed, batch = packed_of(inputs), None
        if packed is not None:
            rows, lengths = packed_logps(model, packed), packed.lengths
        else:
            batch = batch_of(inputs)
            logits = batch_logits(model, batch)
            rows = sequence_logps(logits, batch.input_ids, batch.starts, batch.ends)
            lengths = batch.ends - batch.starts
            ref_logits = self._reference_logits(model, batch)
        chosen, rejected = rows.chunk(2)
        reference = [
            inputs[name].to(rows.dtype) if name in inputs else None
            for name in ("ref_chosen_logps", "ref_rejected_logps")
        ]
        wanted = self.loss_config.inputs
        if self.moving is not None:
            moved = sequence_logps(ref_logits, batch.input_ids, batch.starts, batch.ends)
            reference = moved.to(rows.dtype).chunk(2)
        extra = {} if batch is None else inputs_from_logits(wanted, batch, logits, ref_logits)
        if "score_difference" in wanted:
            extra["score_difference"] = inputs["margins"].to(rows.dtype)
        extra |= self.mismatched_logratios(model, inputs)
        return PairLogps(chosen, rejected, *reference, *lengths.chunk(2)), extra

    def _reference_logits(self, model: nn.Module, batch: Batch) -> Tensor | None:
        """Logits of the reference on a batch, where sums are not enough; else None."""
        if self.reference is not None:
            with torch.no_grad(), self.accelerator.autocast():
                return batch_logits(self.reference, batch)
        if not self.loss_config.needs_reference_model:
            return None
        with reference_mode(self.accelerator.unwrap_model(model)) as reference:
            return batch_logits(reference, batch)

    def mismatched_logratios(
        self, model: nn.Module, inputs: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """KTO's measurement of the KL: one number for each mismatched row."""
        if "ref_mismatched_logps" not in inputs:
            return {}
        with torch.no_grad():
            logps = batch_logps(model, batch_of(inputs, MISMATCHED))
        return {"mismatched_logratios": logps - inputs["ref_mismatched_logps"].to(logps.dtype)}

    def evaluate_loss(
        self, logps: PairLogps, extra: Mapping[str, Tensor], training: bool = False
    ) -> tuple[PairLogps, LossOutput | AnswerOutput]:
        """The configured loss, unreduced, and the log-probabilities that it stands for."""
        return self.objective.of_pairs(logps, extra, training=training)

    metrics = staticmethod(pair_metrics)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, dict]:
        logps, extra = self.batch_logps(model, inputs)
        real = inputs.get("real", sys.maxsize)
        if not self.loss_config.splittable:
            logps, extra = of_all_processes(logps, extra, real)
            real = sys.maxsize
        logps, output = self.evaluate_loss(logps, extra, training=model.training)
        if model.training:
            values = self.metrics(logps, output, extra) | gradient_weight(logps, output)
            self.means["train"].add(values)
        else:
            kept = [first_rows(each, real) for each in (logps, output)]
            self.means["eval"].add(self.metrics(*kept, extra) | {"loss": kept[1].losses})
        loss = inputs["share"] * output.losses.mean()
        return (loss, {}) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        self.add_means(logs)
        if "eval_loss" in logs and self.sample_metrics is not None:
            policy = self.accelerator.unwrap_model(self.model)
            logs.update(self.sample_metrics(policy, self.state.global_step))
        super().log(logs, start_time)

    def check_step_zero(self) -> float:
        """Loss of the first examples before any update. Raises `InputError` if it is off.

        At step 0 the policy is the reference, so every log-ratio is 0 and the loss is known
        (log 2 for DPO). Another value means another model or other tokens. Losses that
        all lack a reference have no known value there: nothing can be checked.
        """
        self.model.eval()
        first = self.train_dataset[: self.args.per_device_train_batch_size]
        inputs = next(pieces(self._prepare_inputs(self.data_collator(first))))
        # The Trainer wraps the model for mixed precision only when training begins.
        with torch.no_grad(), self.accelerator.autocast():
            logps, extra = self.batch_logps(self.model, inputs)
            loss = self.evaluate_loss(logps, extra)[1].losses.mean().item()
            known, _ = at_reference(logps)
            expected = self.evaluate_loss(known, extra)[1].losses.mean().item()
        near = {"rel_tol": STEP_ZERO_ROUNDING, "abs_tol": STEP_ZERO_TOLERANCE}
        if self.loss_config.needs_reference and not math.isclose(loss, expected, **near):
            raise InputError(
                f"the loss at step 0 is {loss:.4f} but must be {expected:.4f} within "
                f"{STEP_ZERO_TOLERANCE}: the policy is not the reference "
                f"(largest log-ratio {at_reference(logps)[1]:.3g} nats). Is --reference the model "
                "that training starts from?"
            )
        return loss

    def write_beside(self, folder: Path) -> None:
        text = json.dumps(self.objective.state_dict())
        (folder / LOSS_STATE).write_text(text, encoding="utf-8")
        if self.moving is not None:
            self.moving.save(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        file = Path(resume_from_checkpoint, LOSS_STATE)
        self.objective.load_state_dict(json.loads(file.read_text(encoding="utf-8")))
        if self.moving is not None:
            self.moving.load(file.parent)
