"""A run holds no more rows of its data than it works on; temporary files hold the rest."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_lab import disk_rows, encoding, pair_files, pair_rows
from dpo_lab.cli import main
from dpo_lab.models import load_policy, load_tokenizer
from dpo_lab.training import first_stage, run_data
from dpo_lab.training.config import TrainConfig
from dpo_lab.training.examples import MISMATCHED, AnswerCollator, PreferenceCollator
from dpo_lab.training.scratch import scratch_folder
from dpo_lab.training.task import Task, prepare_task, rows_of

ROWS, AT_ONCE, MOST = 160, 5, 60
MISMATCHED_IDS = f"{MISMATCHED}input_ids"


class Alive:
    """Counts rows of text and of ids: made so far, alive now, and at most."""

    made = now = most = 0

    def counted(self, kind: type) -> type:
        """The same type, whose rows are counted."""
        alive = self

        class Counted(kind):
            def __new__(cls, *fields: Any) -> Any:
                alive.made += 1
                alive.now += 1
                alive.most = max(alive.most, alive.now)
                return super().__new__(cls, *fields)

            def __del__(self) -> None:
                alive.now -= 1

        return Counted


@pytest.fixture
def alive(monkeypatch) -> Alive:
    """All rows count themselves: those that are read, made, encoded, and taken from the disk."""
    alive, forms = Alive(), dict(disk_rows._FORMS)
    monkeypatch.setattr(pair_files, "RawRow", alive.counted(pair_files.RawRow))
    for kind, form in disk_rows._FORMS.items():
        counted = alive.counted(kind)
        for module in (pair_rows, encoding, disk_rows):
            if hasattr(module, kind.__name__):
                monkeypatch.setattr(module, kind.__name__, counted)
        row = counted if form.row is kind else form.row
        forms[kind] = forms[counted] = form._replace(row=row)
    monkeypatch.setattr(disk_rows, "_FORMS", forms)
    monkeypatch.setattr(disk_rows, "BATCH", AT_ONCE)
    monkeypatch.setattr(encoding, "AT_ONCE", AT_ONCE)
    return alive


def write_rows(file: Path, paired: bool) -> Path:
    with file.open("w") as lines:
        for number in range(ROWS):
            row = {"prompt": f"question {number // 2}"}
            if paired:
                row |= {"chosen": f" good {number}", "rejected": f" bad {number}", "margin": 1}
            else:
                row |= {"completion": f" answer {number}", "label": number % 4 > 1}
            lines.write(json.dumps(row) + "\n")
    return file


@pytest.mark.parametrize("paired", [True, False])
def test_a_run_holds_few_rows_at_once(paired, alive, tiny_model, cache, tmp_path, monkeypatch):
    """All that a run does with its data, but for the model's part. KTO asks for most: sums of the
    reference, and another prompt's answer to each row."""
    file = write_rows(tmp_path / "rows.jsonl", paired)
    config = TrainConfig(pairs=str(file), loss=["kto"], eval_fraction=0.5, vocab_size=300)
    tokenizer, model = load_tokenizer(tiny_model), load_policy(tiny_model)

    def lengths(task: Task, model, encoded, *_) -> torch.Tensor:
        return torch.tensor([float(len(row.input_ids)) for row in rows_of(encoded)])

    monkeypatch.setattr(Task, "_score", lengths)
    data = run_data.load_data(config, tmp_path, lambda _: None)
    first_stage.prepare_models(config, first_stage.RunFolder(tmp_path / "run"), data)
    encoded = run_data.encode(tokenizer, data, config, tmp_path, lambda _: None)
    assert 0 < sum(1 for _ in encoded.good_answers) < ROWS
    task = prepare_task(config.loss_config(), encoded, 0, config)
    parts = task.examples(model)
    collate = (PreferenceCollator if paired else AnswerCollator)(0)
    for start in range(0, len(parts.train), 4):
        assert MISMATCHED_IDS in collate(parts.train[start : start + 4])
    task.evaluate(model, parts.held_out_logps)
    assert task.why_plain(model) is None
    assert alive.most < MOST
    assert alive.made > 10 * ROWS


WORDS = ["--sample_prompts", "0", "--max_length", "64", "--max_steps", "1", "--loss", "simpo"]


def test_temporary_files_are_in_the_run_s_folder_and_gone_at_its_end(
    tiny_model, pair_file, unrendered, tmp_path, monkeypatch
) -> None:
    """Also those of a run that was killed before there was anything else."""
    run, seen = tmp_path / "run", []
    (run / "rows.killed.unfinished").mkdir(parents=True)
    (run / "rows.killed.unfinished" / "train_text.arrow").touch()
    monkeypatch.setattr(
        run_data, "_say_encoding", lambda *_: seen.append({p.name for p in run.rglob("*")})
    )
    where = ["--pairs", str(pair_file), "--model", str(tiny_model), "--output_dir", str(run)]
    assert main(["train", *where, *WORDS]) == 0
    assert seen[-1] >= {"train_text.arrow", "train_ids.arrow", "held_out_ids.arrow"}
    assert "rows.killed.unfinished" not in seen[0]
    left = {path.name for path in run.iterdir()}
    assert left == {
        "run.json",
        "metrics.jsonl",
        "samples.jsonl",
        "curves.png",
        "model",
        "checkpoints",
    }


def test_a_second_run_leaves_the_rows_of_the_first_alone(
    tiny_model, pair_file, tmp_path, capsys
) -> None:
    run = tmp_path / "run"
    with scratch_folder(run) as rows:
        (rows / "train_text.arrow").touch()
        where = ["--pairs", str(pair_file), "--model", str(tiny_model), "--output_dir", str(run)]
        assert main(["train", *where, *WORDS]) == 2
        assert f"output_dir {run}: another run is at work there" in capsys.readouterr().err
        assert (rows / "train_text.arrow").is_file()
    assert not run.exists()


def test_a_disk_too_small_for_the_rows_is_one_message(
    tiny_model, pair_file, tmp_path, monkeypatch, capsys
) -> None:
    def full(file: Path, rows: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_data, "write_rows", full)
    run = tmp_path / "more" / "run"
    where = ["--pairs", str(pair_file), "--model", str(tiny_model), "--output_dir", str(run)]
    assert main(["train", *where, *WORDS]) == 2
    error = capsys.readouterr().err
    assert "train_text.arrow: writing failed" in error
    assert len(error.splitlines()) == 1
    assert not run.parent.exists()
