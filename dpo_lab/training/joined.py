"""One batch made of the batches of all processes, for losses that look at the whole of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather, pad_across_processes
from torch import Tensor

from dpo_lab.losses import AnswerLogps, PairLogps

Logps = TypeVar("Logps", PairLogps, AnswerLogps)


def of_all_processes(
    logps: Logps, extra: Mapping[str, Tensor], real: int
) -> tuple[Logps, dict[str, Tensor]]:
    """The first `real` examples of every process's batch, in the order of the processes.

    extra: tensors with a row an example, or with the rows of its sides one below the other. All
    processes must call this, with batches of one size. The gradient of a loss on what comes back
    is right where the processes' gradients are averaged, as DDP and FSDP do. In one process:
    what was given.
    """
    state = PartialState()
    if state.num_processes == 1:
        return logps, dict(extra)
    size = len(logps[0])
    counts = gather(torch.tensor([min(real, size)], device=state.device)).tolist()

    def join(rows: Tensor) -> Tensor:
        by_example = rows.unflatten(0, (-1, size)).transpose(0, 1)
        return _joined(by_example, counts, state.process_index).transpose(0, 1).flatten(0, 1)

    joined = [None if column is None else join(column) for column in logps]
    return type(logps)(*joined), {name: join(rows) for name, rows in extra.items()}


def _joined(rows: Tensor, counts: list[int], own: int) -> Tensor:
    """The first counts[i] rows of each process i, with the gradient of this process's rows."""
    rows = pad_across_processes(rows, dim=2)  # tables of tokens are as wide as their longest row
    parts = list(gather(rows.detach()).chunk(len(counts)))
    if rows.requires_grad:
        # Averaging over processes divides by their number; only this one has these gradients.
        parts[own] = rows + (len(counts) - 1) * (rows - rows.detach())
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
