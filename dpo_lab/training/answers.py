"""Training on unpaired answers, each labelled good or bad: KTO, BCO, APO-zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dpo_lab.fast import packed_logps
from dpo_lab.losses import AnswerLogps, AnswerOutput
from dpo_lab.scoring import batch_logps
from dpo_lab.training.examples import AnswerCollator, batch_of, packed_of
from dpo_lab.training.metrics import answer_metrics
from dpo_lab.training.preference import PreferenceTrainer


class AnswerTrainer(PreferenceTrainer):
    """Trains a policy on `AnswerExample`s with one loss that has a form for single answers."""

    collator = AnswerCollator
    metrics = staticmethod(answer_metrics)

    def batch_logps(
        self, model: nn.Module, inputs: Mapping[str, Any]
    ) -> tuple[AnswerLogps, dict[str, Tensor]]:
        reference = inputs["ref_logps"]
        packed = packed_of(inputs)
        if packed is not None:
            policy = packed_logps(model, packed)
        else:
            policy = batch_logps(model, batch_of(inputs))
        if self.moving is not None:
            with torch.no_grad():
                reference = batch_logps(self.moving.reference, batch_of(inputs))
        reference = reference.to(policy.dtype)
        logps = AnswerLogps(policy, reference, inputs["answer_labels"])
        return logps, self.mismatched_logratios(model, inputs)

    def evaluate_loss(
        self, logps: AnswerLogps, extra: Mapping[str, Tensor], training: bool = False
    ) -> tuple[AnswerLogps, AnswerOutput]:
        return logps, self.objective.of_answers(logps, extra, training=training)
