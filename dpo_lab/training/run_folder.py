"""What a run leaves on disk, and how it is written so that a kill at any moment tears no file.

run.json        configuration, versions, data and model hashes, final evaluation
metrics.jsonl   one line a logged step, TRL's metric names
samples.jsonl   one line an answer of the policy to a fixed prompt, at each evaluation
curves.png      the curves of the run
landscape.*     the loss around the trained weights, where `dpo-lab landscape` was called
reference/      the tuned model training started from; never changed afterwards
model/          the trained policy and its tokenizer, as transformers loads them
adapter/        the low-rank adapters alone, where they were trained; they are merged into model/
checkpoints/    what a killed run resumes from

While a run is at work, rows.*.unfinished/ holds its text and token ids.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dpo_lab.errors import InputError
from dpo_lab.training.scratch import left_overs
from dpo_lab.training.write_failures import writing


class RunFolder:
    """Paths of one run under `root`; every file appears whole or not at all."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.run_file = self.root / "run.json"
        self.metrics_file = self.root / "metrics.jsonl"
        self.samples_file = self.root / "samples.jsonl"
        self.curves_file = self.root / "curves.png"
        self.landscape_file = self.root / "landscape.png"
        self.landscape_data = self.root / "landscape.json"
        self.reference = self.root / "reference"
        self.model = self.root / "model"
        self.adapter = self.root / "adapter"
        self.checkpoints = self.root / "checkpoints"
        self.sft_checkpoints = self.root / "sft_checkpoints"

    def check_free(self) -> None:
        """Raise `InputError` if the folder holds anything but a killed run's temporary files."""
        if self.root.exists() and not self.root.is_dir():
            raise InputError(f"output_dir {self.root}: is a file")
        # What a run leaves that was killed before it had written anything whole.
        torn = {unfinished_of(self.run_file), *left_overs(self.root)}
        if self.root.is_dir() and any(path not in torn for path in self.root.iterdir()):
            hint = " (add --resume to go on with it)" if self.run_file.is_file() else ""
            raise InputError(f"output_dir {self.root}: is not empty{hint}; nothing was changed")

    def open_existing(self) -> dict[str, Any]:
        """The content of run.json. Raises `InputError` if this is not a run's folder."""
        try:
            return json.loads(self.run_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(
                f"output_dir {self.root}: holds no run (there is no run.json)"
            ) from None
        except ValueError as error:
            raise InputError(f"{self.run_file}: not readable as JSON ({error})") from error

    def write_run(self, content: Mapping[str, Any]) -> None:
        """Replace run.json in one step; creates the folder."""
        with writing(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        write_atomically(self.run_file, json.dumps(content, indent=2) + "\n")

    def read_metrics(self) -> list[dict[str, float | int]]:
        """All rows of metrics.jsonl. Raises `InputError` where there is none, or a torn line."""
        return _read_lines(self.metrics_file)

    def read_samples(self) -> list[dict[str, Any]]:
        """All rows of samples.jsonl; none where the run drew none. Raises as `read_metrics`."""
        return _read_lines(self.samples_file) if self.samples_file.is_file() else []

    def begin_logs(self, metrics: Iterable[Mapping[str, float | int]], step: int) -> None:
        """Start both logs from a state after `step` steps: what came later is logged again."""
        kept: list[dict[str, Any]] = []
        if step and self.samples_file.is_file():
            # A kill, or a full disk, may have left half a line at the end: it is of a later step.
            whole, _, _ = self.samples_file.read_text(encoding="utf-8").rpartition("\n")
            kept = [row for row in map(json.loads, whole.splitlines()) if row["step"] <= step]
        write_atomically(self.metrics_file, _lines(metrics))
        write_atomically(self.samples_file, _lines(kept))

    def check_writable(self) -> None:
        """Raise `InputError` if nothing can be written into the folder, or it cannot be made."""
        check_writable(self.root, f"output_dir {self.root}")

    def append_metrics(self, row: Mapping[str, float | int]) -> None:
        """Add one row to metrics.jsonl."""
        _append(self.metrics_file, [row])

    def append_samples(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows to samples.jsonl."""
        _append(self.samples_file, rows)

    def save_model(
        self,
        folder: Path,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        weights: dict[str, Tensor] | None = None,
    ) -> None:
        """Save a model and its tokenizer as transformers loads them.

        weights: to be saved in the place of the model's own, where those lie in shards.
        """
        with whole_folder(folder) as unfinished:
            model.save_pretrained(unfinished, state_dict=weights)
            tokenizer.save_pretrained(unfinished)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder`, which takes its place when all is written."""
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}.unfinished")
    with writing(folder):
        shutil.rmtree(unfinished, ignore_errors=True)
        yield unfinished
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _append(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with writing(file), file.open("a", encoding="utf-8") as open_file:
        open_file.write(_lines(rows))


def _read_lines(file: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise InputError(f"{file}: there is no such file yet") from None
    except ValueError as error:
        raise InputError(f"{file}: a line is not JSON ({error})") from error


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to a file next to `path`, then rename it over `path`.

    Raises `WriteError`, which names `path`, where that cannot be done.
    """
    unfinished = unfinished_of(path)
    with writing(path):
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)


def unfinished_of(path: Path) -> Path:
    """Where a file is written before it takes its place."""
    return path.with_name(path.name + ".unfinished")


def check_writable(folder: Path, name: str) -> None:
    """Raise `InputError` that begins with `name` if nothing can be written into `folder`.

    Tries it, in the folder or in the one that it would be made in: permissions do not say
    everything. What is tried has no name, or is gone at once.
    """
    above = folder
    try:
        above = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise InputError(f"{name}: nothing can be written below {above} ({error})") from error
