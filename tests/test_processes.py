"""Two real processes under `accelerate launch`: one process's losses, and a rank that is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sharded

from dpo_lab.cli import main

pytestmark = pytest.mark.slow
SHORT = {"max_steps": 4, "learning_rate": 1e-3, "max_length": 64, "logging_steps": 1}
SHORT |= {"eval_steps": 2, "sample_prompts": 4, "max_new_tokens": 4}
SHARDED = Path(sharded.__file__)
METRICS = {"rewards/margins", "eval_rewards/margins", "logps/chosen", "kl", "grad_weight"}


def words(folder: Path, pair_file: Path, tiny_model: Path, batch: int, **more: object) -> list[str]:
    options = {"pairs": pair_file, "model": tiny_model, "output_dir": folder}
    options |= SHORT | {"per_device_train_batch_size": batch} | more
    return ["train", *(word for k, v in options.items() for word in (f"--{k}", str(v)))]


def launch(*what: str, cache: Path) -> subprocess.Popen:
    # Without --multi_gpu accelerate starts a single process where there is no card; with it two,
    # which find no card and talk through gloo.
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += ["--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DPO_LAB_CACHE": str(cache)}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    return subprocess.Popen(
        [*command, "--main_process_port", "0", *what],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_train_as_one(tiny_model, pair_file, cache, tmp_path) -> None:
    """Losses and metrics step by step; KTO's reference point is a mean over both processes."""
    both = ["--loss", "dpo", "kto"]  # their sum
    two = words(tmp_path / "two", pair_file, tiny_model, 4)
    process = launch("-m", "dpo_lab", *two, *both, cache=cache)
    assert main([*words(tmp_path / "one", pair_file, tiny_model, 8), *both]) == 0
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    assert output.count("loss at step 0") == 1  # one process speaks
    alone, together = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert [row["step"] for row in alone] == [row["step"] for row in together]
    for one, other in zip(alone, together, strict=True):
        for key in one.keys() & {"loss", "eval_loss"}:
            assert other[key] == pytest.approx(one[key], abs=1e-5, rel=1e-5), key
        for key in one.keys() & METRICS:
            assert other[key] == pytest.approx(one[key], abs=2e-4, rel=1e-4), key
    records = [json.loads((tmp_path / n / "run.json").read_text()) for n in ("one", "two")]
    margins = [record["evaluation"]["margin"] for record in records]
    assert margins[0] == pytest.approx(margins[1], abs=1e-4)
    assert abs(margins[0]) > 1e-3  # the steps were large enough to tell
    samples = (tmp_path / "two" / "samples.jsonl").read_text().splitlines()
    assert len(samples) == 3 * 4  # by one process, at steps 0, 2 and 4


def test_a_killed_rank_ends_the_run_and_the_checkpoint_resumes(
    tiny_model, pair_file, cache, tmp_path
) -> None:
    settings = {"save_steps": 10, "max_steps": 60, "sample_prompts": 0, "eval_steps": 1000}
    folder = tmp_path / "run"
    command = words(folder, pair_file, tiny_model, 4, **settings)
    process = launch("-m", "dpo_lab", *command, cache=cache)
    marker = folder / "checkpoints"
    deadline = time.monotonic() + 200
    while not list(marker.glob("*/dpo_lab_complete")):
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(rank_one(process.pid), signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "SIGKILL" in output or "Signal 9" in output, output[-3000:]
    reached = max(int(p.parent.name[11:]) for p in marker.glob("*/dpo_lab_complete"))
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    process = launch("-m", "dpo_lab", *command, "--resume", cache=cache)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    assert "going on from" in output
    steps = [row["step"] for row in rows(folder) if "loss" in row]
    assert steps == list(range(1, 61))
    assert 10 <= reached < 60


def test_sharded_weights_train_as_whole_ones(tiny_model, pair_file, tmp_path, capsys) -> None:
    """FSDP (torch's fully_shard) around the fast path; accelerate itself shards on cards only."""
    process = launch(str(SHARDED), str(tiny_model), str(pair_file), cache=tmp_path)
    sharded.main(str(tiny_model), str(pair_file))
    alone = json.loads(capsys.readouterr().out.splitlines()[-1])
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output[-3000:]
    (line,) = [line for line in output.splitlines() if re.fullmatch(r"\[[\d., ]+\]", line)]
    assert json.loads(line) == pytest.approx(alone, abs=1e-5)
    assert abs(alone[2] - alone[0]) > 1e-2


def rank_one(launcher: int) -> int:
    """The process id of the second worker."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == launcher and b"RANK=1" in environment:
            return int(entry.name)
    raise AssertionError("there is no second worker")
