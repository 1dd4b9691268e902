"""Training on unpaired answers, each labelled good or bad: KTO, BCO, APO-zero."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dpo_lab.losses import AnswerLogps, AnswerOutput
from dpo_lab.scoring import batch_logps
from dpo_lab.training.examples import AnswerCollator
from dpo_lab.training.metrics import answer_metrics
from dpo_lab.training.preference import PreferenceTrainer, batch_of


class AnswerTrainer(PreferenceTrainer):
    """Trains a policy on `AnswerExample`s with one loss that has a form for single answers."""

    collator = AnswerCollator
    metrics = staticmethod(answer_metrics)

    def batch_logps(
        self, model: nn.Module, inputs: Mapping[str, Tensor]
    ) -> tuple[AnswerLogps, dict[str, Tensor]]:
        batch = batch_of(inputs)
        policy = batch_logps(model, batch)
        reference = inputs["ref_logps"]
        if self.moving is not None:
            with torch.no_grad():
                reference = batch_logps(self.moving.reference, batch)
        reference = reference.to(policy.dtype)
        logps = AnswerLogps(policy, reference, inputs["answer_labels"])
        return logps, self.mismatched_logratios(model, inputs)

    def evaluate_loss(
        self, logps: AnswerLogps, extra: Mapping[str, Tensor], training: bool = False
    ) -> tuple[AnswerLogps, AnswerOutput]:
        return logps, self.objective.of_answers(
            logps, extra, training=training, reduce=self._sum_over_processes
        )
