"""A disk that fills up while a run trains: one message, and the last checkpoint resumes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from dpo_lab.training.write_failures import is_write_failure

SCRIPT = """
import resource, signal, sys
from pathlib import Path
from dpo_lab import cli
from dpo_lab.training import checkpoints

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then writing fails with an error, as on a full disk
on_save = checkpoints.CheckpointMarker.on_save
def then_full(self, args, state, control, **more):
    on_save(self, args, state, control, **more)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
checkpoints.CheckpointMarker.on_save = then_full
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_disk_that_fills_up_costs_no_more_than_the_last_checkpoint(
    tiny_model, pair_file, cache, tmp_path
) -> None:
    """No file may grow over 20 kB once the first checkpoint is written."""
    run = tmp_path / "run"
    words = ["train", "--pairs", str(pair_file), "--model", str(tiny_model)]
    words += ["--output_dir", str(run), "--max_steps", "6", "--save_steps", "2"]
    words += ["--max_length", "64", "--sample_prompts", "0", "--logging_steps", "1"]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2, done.stderr[-3000:]
    assert "writing failed" in done.stderr
    assert "checkpoint-2 is whole; make room and go on with --resume" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (run / "model").exists()

    from dpo_lab.cli import main

    assert main([*words, "--resume"]) == 0
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps if "loss" in row] == [1, 2, 3, 4, 5, 6]


def test_what_counts_as_a_write_failure() -> None:
    assert is_write_failure(OSError(errno.ENOSPC, "No space left on device"))
    assert is_write_failure(RuntimeError("[enforce fail] PytorchStreamWriter failed writing file"))
    assert is_write_failure(SafetensorError('IoError(Os { code: 28, message: "No space left" })'))
    assert not is_write_failure(FileNotFoundError(errno.ENOENT, "No such file"))
    assert not is_write_failure(RuntimeError("shapes do not match"))
