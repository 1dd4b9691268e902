"""A real process is killed while it trains; the run goes on and ends where it would have ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ARGUMENTS = [
    "--world_pairs", "160", "--hidden_size", "16", "--num_hidden_layers", "1",
    "--num_attention_heads", "2", "--vocab_size", "320", "--sft_epochs", "1",
    "--logging_steps", "1", "--eval_steps", "20", "--save_steps", "4", "--num_train_epochs", "3",
]  # fmt: skip


def start(folder: Path, *more: str) -> subprocess.Popen:
    environment = os.environ | {
        "DPO_LAB_CACHE": str(folder.parent / "cache"),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "dpo_lab", "train", *ARGUMENTS, "--output_dir", str(folder), *more],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-2000:]
    return output


def losses(folder: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if "loss" in row]
    assert len({row["step"] for row in trained}) == len(trained), "a step was logged twice"
    return {row["step"]: row["loss"] for row in trained}


def wait_for(path_exists, process: subprocess.Popen, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not path_exists():
        assert process.poll() is None, process.communicate()[0][-2000:]
        assert time.monotonic() < deadline, "the run never got there"
        time.sleep(0.005)


@pytest.mark.slow
def test_killed_twice_and_resumed_it_ends_at_the_same_loss(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    finish(start(whole))

    killed = tmp_path / "killed"
    process = start(killed)
    # First in the middle of everything: after the supervised stage began.
    wait_for(lambda: (killed / "run.json").is_file(), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # Then while the preference stage runs, past its second checkpoint.
    process = start(killed, "--resume")
    marker = killed / "checkpoints" / "checkpoint-8" / "dpo_lab_complete"
    later = killed / "checkpoints" / "checkpoint-12"
    wait_for(lambda: marker.is_file() or later.exists(), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "model").exists()
    assert json.loads((killed / "run.json").read_text())["status"] == "running"

    said = finish(start(killed, "--resume"))
    assert "going on from" in said
    assert losses(killed) == losses(whole)
    for log in ("metrics.jsonl", "samples.jsonl"):
        steps = [
            [json.loads(line)["step"] for line in (folder / log).read_text().splitlines()]
            for folder in (whole, killed)
        ]
        assert steps[0] == steps[1], f"{log}: rows are missing or doubled"
    results = [json.loads((folder / "run.json").read_text()) for folder in (whole, killed)]
    assert results[0]["evaluation"] == results[1]["evaluation"]
    assert results[0]["model_sha256"] == results[1]["model_sha256"]
