"""One run in several processes (`accelerate launch`): who writes, who waits, who computes what.

In one process everything here is a plain call.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor

from dpo_lab.errors import InputError

Value = TypeVar("Value")
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")  # gloo's words


def on_cpu() -> bool:
    """Whether there is no accelerator. accelerate joins CPU processes only where it is told so."""
    return not torch.accelerator.is_available()


def _state() -> PartialState:
    return PartialState(cpu=on_cpu())


def check_one_card() -> None:
    """Raise `InputError` where one process sees several cards.

    transformers would split each batch over them (`DataParallel`), which packed rows do not allow.
    """
    cards = torch.cuda.device_count()
    if cards > 1 and _state().num_processes == 1:
        raise InputError(
            f"{cards} GPUs are visible to one process: start one a GPU with 'accelerate launch -m "
            "dpo_lab train ...', or choose one with CUDA_VISIBLE_DEVICES=0"
        )


def is_main() -> bool:
    """Whether this is the process that writes files and speaks."""
    return _state().is_main_process


def wait_for_all() -> None:
    """Go on when every process is here."""
    _state().wait_for_everyone()


def sharded() -> bool:
    """Whether the launcher asked for FSDP, where no process holds all weights while training."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def from_main(value: Value) -> Value:
    """The main process's value, in all of them, so that all take the same branch."""
    if _state().num_processes == 1:
        return value
    return broadcast_object_list([value])[0]


def shared_out(count: int, compute: Callable[[list[int]], Tensor]) -> Tensor:
    """`compute` on a part of 0..count-1 in each process; every process gets the whole.

    compute returns one column for each number that it is given: a tensor (sides, numbers).
    """
    with _state().split_between_processes(list(range(count))) as rows:
        part = compute(rows) if rows else None
    parts = [each for each in gather_object([part]) if each is not None]
    return torch.cat(parts, -1)


def is_lost_process(error: BaseException) -> bool:
    """Whether an exception says that another process of the run is gone."""
    if _state().num_processes == 1:
        return False
    own = isinstance(error, torch.distributed.DistError)
    return own or (isinstance(error, RuntimeError) and any(w in str(error) for w in _LOST))


def leave() -> None:
    """End the process group, where there is one, so that no process waits for this one."""
    _state().destroy_process_group()
