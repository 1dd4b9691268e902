"""A real process is killed while it trains; the run goes on and ends where it would have ended."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from dpo_lab.cli import main

ARGUMENTS = [
    "--world_pairs", "160", "--hidden_size", "16", "--num_hidden_layers", "1",
    "--num_attention_heads", "2", "--vocab_size", "320", "--sft_epochs", "1",
    "--logging_steps", "1", "--eval_steps", "20", "--save_steps", "4", "--num_train_epochs", "3",
]  # fmt: skip


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> ForkServerContext:
    """Processes of their own, each forked from a fresh one that has only imported the library."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dpo_lab.cli", "dpo_lab.training.recipe"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPO_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        forkserver.ensure_running()
    return context


def run_command(words: list[str], output: Path) -> None:
    """What `dpo-lab` does in a process: its output goes to a file, its status to the parent."""
    with output.open("w", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        sys.exit(main(words))


def start(processes: ForkServerContext, folder: Path, *more: str) -> BaseProcess:
    words = ["train", *ARGUMENTS, "--output_dir", str(folder), *more]
    process = processes.Process(target=run_command, args=(words, said_by(folder)))
    process.start()
    return process


def said_by(folder: Path) -> Path:
    return folder.with_suffix(".txt")


def finish(process: BaseProcess, folder: Path) -> str:
    process.join(timeout=300)
    output = said_by(folder).read_text()
    assert process.exitcode == 0, output[-2000:]
    return output


def kill(process: BaseProcess) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL, "it had ended before"


def losses(folder: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if "loss" in row]
    assert len({row["step"] for row in trained}) == len(trained), "a step was logged twice"
    return {row["step"]: row["loss"] for row in trained}


def wait_for(path_exists, process: BaseProcess, folder: Path, seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not path_exists():
        assert process.is_alive(), said_by(folder).read_text()[-2000:]
        assert time.monotonic() < deadline, "the run never got there"
        time.sleep(0.005)


@pytest.mark.slow
def test_killed_twice_and_resumed_it_ends_at_the_same_loss(processes, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    finish(start(processes, whole), whole)

    killed = tmp_path / "killed"
    process = start(processes, killed)
    # First in the middle of everything: after the supervised stage began.
    wait_for(lambda: (killed / "run.json").is_file(), process, killed)
    kill(process)
    # Then while the preference stage runs, past its second checkpoint.
    process = start(processes, killed, "--resume")
    marker = killed / "checkpoints" / "checkpoint-8" / "dpo_lab_complete"
    later = killed / "checkpoints" / "checkpoint-12"
    wait_for(lambda: marker.is_file() or later.exists(), process, killed)
    kill(process)
    assert not (killed / "model").exists()
    assert json.loads((killed / "run.json").read_text())["status"] == "running"

    said = finish(start(processes, killed, "--resume"), killed)
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
