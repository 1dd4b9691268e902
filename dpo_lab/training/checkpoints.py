"""What a run writes while it trains: trustworthy checkpoints, the metrics file, the progress bar.

transformers writes a checkpoint file by file; a kill in between leaves a folder that looks like
one. A marker is put in when everything is written, and only marked checkpoints are resumed from.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from transformers import (
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from dpo_lab.training.run_folder import RunFolder
from dpo_lab.training.write_failures import writing

COMPLETE = "dpo_lab_complete"
# The last one is another class in a notebook.
_TRANSFORMERS_OWN = (ProgressCallback, PrinterCallback, DEFAULT_PROGRESS_CALLBACK)


class ResumableTrainer(Trainer):
    """transformers' Trainer, which names the checkpoint that it cannot write, and which trains no
    step more where it is resumed at its end."""

    def write_beside(self, folder: Path) -> None:
        """What else belongs into a checkpoint; the main process is asked."""

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = checkpoint_folder(self.args, self.state)
        with writing(folder):
            super()._save_checkpoint(model, trial)
            if self.is_world_process_zero():
                self.write_beside(folder)
        self.accelerator.wait_for_everyone()  # a marker must vouch for every process's files

    def _init_training_state(self, max_steps: int, *more: Any, **named: Any) -> tuple[int, int]:
        started, skipped = super()._init_training_state(max_steps, *more, **named)
        if self.state.global_step >= max_steps:
            started = self.state.num_train_epochs  # in the middle of an epoch it would go on
        return started, skipped


class CheckpointMarker(TrainerCallback):
    """Marks each checkpoint once transformers has finished writing it."""

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        if state.is_world_process_zero:
            folder = checkpoint_folder(args, state)
            if hasattr(os, "sync"):  # the marker must not reach the disk before what it vouches for
                os.sync()
            with writing(folder):
                (folder / COMPLETE).touch()


class MetricsFile(TrainerCallback):
    """Appends each logged row to metrics.jsonl; after a resume, starts from the checkpoint's rows.

    The answers in samples.jsonl likewise. Rows logged between the checkpoint and the kill are
    dropped, because they are logged again.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        if state.is_world_process_zero:
            self.run.begin_logs(state.log_history, state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: object,
    ) -> None:
        if state.is_world_process_zero:
            self.run.append_metrics(state.log_history[-1])


class ReadableProgress(ProgressCallback):
    """transformers' bar, with a logged row's metrics under TRL's names, one group a line."""

    GROUPS = ("loss", "rewards", "logps", "logps_ref", "logratios", "lengths")
    GROUPS += ("kl", "gold", "cut", "grad_weight")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: object,
    ) -> None:
        if not state.is_world_process_zero or self.training_bar is None:
            return
        for group in self.GROUPS:
            names = [n for n in logs if n.removeprefix("eval_").partition("/")[0] == group]
            if names:
                values = "  ".join(f"{name} {logs[name]:.4g}" for name in names)
                self.training_bar.write(f"step {state.global_step:>4}: {values}")


def use_readable_progress(trainer: Trainer) -> None:
    """Put `ReadableProgress` in the place of transformers' own; nothing with `disable_tqdm`."""
    for callback in list(trainer.callback_handler.callbacks):
        if isinstance(callback, _TRANSFORMERS_OWN) and not isinstance(callback, ReadableProgress):
            trainer.remove_callback(callback)
    if not trainer.args.disable_tqdm:
        trainer.add_callback(ReadableProgress())


@contextmanager
def closed_progress(trainer: Trainer) -> Iterator[None]:
    """Close the bars where training fails: what is said then has a line of its own."""
    try:
        yield
    finally:
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, ReadableProgress):
                for bar in (callback.prediction_bar, callback.training_bar):
                    if bar is not None:
                        bar.close()


def checkpoint_folder(args: TrainingArguments, state: TrainerState) -> Path:
    """Where transformers writes the checkpoint of this step."""
    return Path(args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")


def complete_checkpoints(folder: Path) -> dict[int, Path]:
    """The marked checkpoints under `folder`, by their step, oldest first."""
    marked = (path.parent for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*/{COMPLETE}"))
    return dict(sorted((int(path.name.rpartition("-")[2]), path) for path in marked))


def last_complete_checkpoint(folder: Path) -> str | None:
    """The newest marked checkpoint under `folder`, or None; unfinished ones are removed."""
    found = complete_checkpoints(folder)
    for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        if path not in found.values():
            shutil.rmtree(path, ignore_errors=True)  # another process may be faster
    return str(found[max(found)]) if found else None
