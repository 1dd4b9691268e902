"""Two real processes under `accelerate launch`: one process's losses, and a rank that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import every_loss
import pytest
from accelerate import PartialState

from dpo_lab.cli import main
from dpo_lab.losses import LOSSES
from dpo_lab.training import recipe

pytestmark = pytest.mark.slow
SHORT = {"max_steps": 4, "learning_rate": 1e-3, "max_length": 64, "logging_steps": 1}
SHORT |= {"eval_steps": 2, "sample_prompts": 4, "max_new_tokens": 4}
TIMES = ("runtime", "per_second", "total_flos")
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
    assert "[rank0]: Traceback" not in output, output[-6000:]  # of the one that lost the other
    reached = max(int(p.parent.name[11:]) for p in marker.glob("*/dpo_lab_complete"))
    before = {row["step"]: row["loss"] for row in rows(folder) if "loss" in row}
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    process = launch("-m", "dpo_lab", *command, "--resume", cache=cache)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    assert f"going on from {marker / f'checkpoint-{reached}'}\n" in output
    after = {row["step"]: row["loss"] for row in rows(folder) if "loss" in row}
    assert list(after) == list(range(1, 61))
    assert 10 <= reached < 60
    # What was done between the checkpoint and the kill is done again, and comes out the same.
    assert {step: after[step] for step in before} == pytest.approx(before, abs=1e-6)


@pytest.fixture(scope="module")
def every_case(tiny_model, pair_file, tmp_path_factory) -> tuple[dict[str, Any], dict[str, Any]]:
    """The logged rows of all cases of every_loss.py, of one process and of two."""
    folder = tmp_path_factory.mktemp("every_loss")
    one, two = folder / "one.json", folder / "two.json"
    given = [str(tiny_model), str(pair_file)]
    process = launch(every_loss.__file__, *given, str(two), cache=folder)
    every_loss.main(*given, str(one))
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    return json.loads(one.read_text()), json.loads(two.read_text())


def test_a_process_that_lost_another_says_what_is_left(tmp_path, monkeypatch, capsys) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "checkpoint-20"
    checkpoint.mkdir(parents=True)
    (checkpoint / "dpo_lab_complete").touch()

    def lost(config: object) -> None:
        raise RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [::1]:1")

    monkeypatch.setattr(recipe, "train", lost)
    words = ["train", "--output_dir", str(tmp_path / "run")]
    with pytest.raises(RuntimeError):  # nobody to lose
        main(words)
    monkeypatch.setattr(PartialState(cpu=True), "num_processes", 2)
    assert main(words) == 2
    assert capsys.readouterr().err == (
        "dpo-lab train: another process of this run has ended; checkpoint-20 is whole; "
        "go on with --resume\n"
    )


def check_equal(one: list[dict[str, float]], two: list[dict[str, float]], case: str) -> None:
    assert [set(row) for row in one] == [set(row) for row in two], case
    for alone, together in zip(one, two, strict=True):
        expected = {name: alone[name] for name in alone if not name.endswith(TIMES)}
        assert {name: together[name] for name in expected} == pytest.approx(
            expected, abs=1e-5, rel=1e-5
        ), case
    steps = [row["grad_norm"] for row in one if "grad_norm" in row]
    assert len(steps) == every_loss.STEPS
    assert min(steps) > 1e-2, case


def test_two_processes_give_every_loss_and_metric_of_one(every_case) -> None:
    """Also of the losses that look at their whole batch: no loss is an exception.

    Pairs and labelled answers, packed and padded, a moving reference, and an evaluation whose
    last round is not full.
    """
    one, two = every_case
    assert {word for case in one for word in case.split()} >= set(LOSSES)
    for case in every_loss.cases():
        check_equal(one[case], two[case], case)
    for case in ("kto", "labelled kto"):
        assert min(row["kl"] for row in one[case] if "kl" in row) > 0.1, case


def test_sharded_weights_train_and_resume_as_whole_ones(every_case) -> None:
    """FSDP of accelerate; the last row is the weights that a run would save."""
    one, two = every_case
    for case in every_loss.SHARDED:
        check_equal(one[f"sharded {case}"], two[f"sharded {case}"], case)


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
