"""Who is timed, and what is the same for all of them: optimiser, order, clock."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from transformers import TrainerCallback

RATE, CLIP, BUDGET = 5e-5, 1.0, 4096


@dataclass(frozen=True)
class Contender:
    """How a contender trains. kept: freed memory stays with the process (a setting of glibc's), and
    few compiled kernels do (one of oneDNN's)."""

    label: str
    side: str  # trl, trainer or loop
    settings: dict[str, Any] = field(default_factory=dict)
    kept: bool = False


_PRECOMPUTED = {"gradient_checkpointing": False, "precompute_ref_log_probs": True}
CONTENDERS = {
    "trl-default": Contender("TRL, default", "trl"),
    "trl-precomputed": Contender("TRL, reference precomputed", "trl", _PRECOMPUTED),
    # Pairs one by one: the same mean over the batch, and no padding between pairs.
    "trl-best": Contender("TRL, best", "trl", {**_PRECOMPUTED, "one_by_one": True}, kept=True),
    "plain": Contender("dpo_lab, plain path", "trainer", {"token_budget": None}),
    "ours": Contender("dpo_lab", "trainer", {"token_budget": BUDGET}, kept=True),
    "loop": Contender("dpo_lab, bare loop", "loop", {"form": "shared"}, kept=True),
}
# Each row adds one technique to the row above it.
LADDER = {
    "ladder-padded": Contender(
        "padded rows, all logits, reference beside", "loop", {"form": "logits", "online": True}
    ),
    "ladder-reference": Contender("reference precomputed", "loop", {"form": "logits"}),
    "ladder-answers": Contender("logits at answers only", "loop", {"form": "answers"}),
    "ladder-tiled": Contender("output layer in tiles", "loop", {"form": "tiled"}),
    "ladder-packed": Contender("packed, no padding", "loop", {"form": "packed"}),
    "ladder-shared": Contender("prompt shared", "loop", {"form": "shared"}),
    "ladder-half": Contender("16-bit products", "loop", {"form": "shared"}),
    "ladder-kept": Contender(
        "freed memory kept, few kernels", "loop", {"form": "shared"}, kept=True
    ),
}
CONTENDERS |= LADDER


class Job(NamedTuple):
    """One run of one contender: what the process that runs it is told."""

    contender: str
    shape: str
    half: bool
    steps: int
    warm: int
    pairs: int
    device: str = "cpu"
    threads: int | None = None
    beta: float = 0.1

    @property
    def precision(self) -> torch.dtype | None:
        """bfloat16, float16 on cards without it, None for float32."""
        if not self.half:
            return None
        if self.device == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.float16
        return torch.bfloat16


class Measured(NamedTuple):
    """Of every step its loss and its seconds, warm ones too; `setup`: seconds before the first.

    remark: what the reader of a table should know, such as why the fast path was not taken.
    """

    losses: list[float]
    seconds: list[float]
    setup: float
    remark: str = ""


class Clock(TrainerCallback):
    """When each step ended. The batch's collation falls between two ends, so it is counted."""

    def __init__(self, device: str) -> None:
        self.device, self.times = device, []

    def stamp(self, *_: Any, **__: Any) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())

    on_train_begin = on_step_end = stamp

    @property
    def seconds(self) -> list[float]:
        """Of each step."""
        return [end - begin for begin, end in zip(self.times, self.times[1:], strict=False)]


def trainer_settings(job: Job) -> dict[str, Any]:
    """Arguments of transformers' Trainer that both trainers get."""
    return {
        "max_steps": job.steps + job.warm,
        "per_device_train_batch_size": job.pairs,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": CLIP,
        "bf16": job.precision == torch.bfloat16,
        "fp16": job.precision == torch.float16,
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "use_cpu": job.device == "cpu",
    }


def losses_of(trainer: Any) -> list[float]:
    """The logged loss of each step."""
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]
