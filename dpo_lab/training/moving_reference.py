"""TR-DPO's moving reference: pulled towards the policy every few optimiser steps."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import nn
from transformers import (
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

REFERENCE_FILE = "moving_reference.safetensors"


class MovingReference(TrainerCallback):
    """Every `sync_steps` steps: reference <- alpha policy + (1 - alpha) reference.

    TR-DPO (Gorbatovski et al. 2024): alpha < 1 is the soft, alpha = 1 the hard update. TRL's
    names: ref_model_mixup_alpha and ref_model_sync_steps. `reference` is changed in place.
    """

    def __init__(self, reference: PreTrainedModel, alpha: float, sync_steps: int) -> None:
        self.reference, self.alpha, self.sync_steps = reference, alpha, sync_steps

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: nn.Module | None = None,
        **kwargs: object,
    ) -> None:
        if state.global_step % self.sync_steps:
            return
        policy = dict(model.named_parameters())
        with torch.no_grad():
            for name, weight in self.reference.named_parameters():
                weight.lerp_(policy[name].to(weight), self.alpha)

    def save(self, checkpoint: Path) -> None:
        """Write the reference as it is now into a checkpoint."""
        save_model(self.reference, str(checkpoint / REFERENCE_FILE))

    def load(self, checkpoint: Path) -> None:
        """Go on with the reference of a checkpoint."""
        load_model(self.reference, str(checkpoint / REFERENCE_FILE))
