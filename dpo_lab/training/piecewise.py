"""transformers' Trainer with batches in pieces, and with means over examples in its log."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from dpo_lab.training.checkpoints import ResumableTrainer
from dpo_lab.training.examples import pieces
from dpo_lab.training.metrics import Means


class PieceTrainer(ResumableTrainer):
    """A subclass's `compute_loss` gets one piece of a batch (`examples.pieces`) at a time.

    It adds what it measured to `means["train"]` or `means["eval"]`, where `real` says how many of
    the piece's examples count, and puts the means since the last log into it by `add_means`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.means = {"train": Means(), "eval": Means()}

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """One batch of the loader, piece by piece; gradients meet other processes' at the last."""
        *first, last = pieces(self._prepare_inputs(inputs))
        losses = []
        for piece in first:
            with self.accelerator.no_sync(model):
                losses.append(super().training_step(model, piece, num_items_in_batch))
        losses.append(super().training_step(model, last, num_items_in_batch))
        return torch.stack(losses).sum()

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor, None, None]:
        parts = list(pieces(self._prepare_inputs(inputs)))
        real = self._real_examples()
        losses = []
        with torch.no_grad():
            for piece in parts:
                losses.append(self.compute_loss(model, {**piece, "real": max(0, real)}))
                real -= piece["examples"]
        return torch.stack(losses).sum().detach(), None, None

    def _real_examples(self) -> int:
        """How many examples of this process's batch are not there to fill up the last round.

        Of several processes, all get full batches to the end; the last ones repeat examples, which
        must not be counted twice in an evaluation.
        """
        state, size = self.accelerator.gradient_state, self.args.eval_batch_size
        if self.args.world_size == 1 or not state.end_of_dataloader or state.remainder <= 0:
            return sys.maxsize
        return state.remainder - self.args.process_index * size

    def add_means(self, logs: dict[str, float]) -> None:
        """Put the means since the last log, over the examples of all processes, into a log."""
        for mode, sign, prefix in (("train", "loss", ""), ("eval", "eval_loss", "eval_")):
            if sign in logs:
                # eval_loss is among them: transformers' own counts each process's batch as a whole.
                means = self.means[mode].take(self._sum_over_processes)
                logs.update({prefix + name: mean for name, mean in means.items()})
                break

    def whole_weights(self) -> dict[str, Tensor] | None:
        """All weights where they lie in shards; None where the model has them itself."""
        if not self.is_fsdp_enabled:
            return None
        return self.accelerator.get_state_dict(self.model_wrapped)

    def _sum_over_processes(self, values: Tensor) -> Tensor:
        return self.accelerator.reduce(values, "sum")
