"""A sweep: its grid, a point that fails, going on after an interruption, a Dask cluster."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from dpo_lab.cli import main
from dpo_lab.errors import InputError
from dpo_lab.plotting.sweep import draw_sweep
from dpo_lab.training.checkpoints import complete_checkpoints
from dpo_lab.training.config import TrainConfig
from dpo_lab.training.run_folder import RunFolder
from dpo_lab.training.sweep import PointResult, SweepConfig, plane, run_sweep, table, to_words


def test_points_are_the_grid_in_order_each_with_a_folder_of_its_own() -> None:
    config = SweepConfig(
        output_dir="s", sweep_beta=[0.1, 0.5], sweep_loss=["dpo", "ipo_avg"], max_steps=3
    )
    points = config.points()
    assert [Path(p.output_dir).name for p in points] == [
        "beta=0.1,loss=dpo",
        "beta=0.1,loss=ipo_avg",
        "beta=0.5,loss=dpo",
        "beta=0.5,loss=ipo_avg",
    ]
    assert [(p.beta, p.loss, p.max_steps) for p in points[1:3]] == [
        (0.1, ["ipo_avg"], 3),
        (0.5, ["dpo"], 3),
    ]
    assert {p.sample_prompts for p in points} == {64}  # the KL is measured unless asked not to
    assert config.settings_of(points[3]) == {"beta": 0.5, "loss": "ipo_avg"}


def test_the_words_of_a_point_give_its_settings_back() -> None:
    from transformers.hf_argparser import HfArgumentParser

    point = TrainConfig(
        pairs="a b.jsonl", loss=["dpo", "sft"], loss_weights=[1.0, 0.2], bf16=True, beta=0.3,
        loss_options=None, learning_rate=1e-05, resume=True,
    )  # fmt: skip
    (again,) = HfArgumentParser(TrainConfig).parse_args_into_dataclasses(to_words(point))
    assert again == point


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to sweep over: give one of sweep_beta"),
        (["--sweep_beta", "0.1", "0.5", "0.1"], "sweep_beta: 0.1 is given twice"),
        (["--sweep_beta", "0.1", "0"], "sweep_beta must be finite and greater than 0"),
        (["--sweep_beta", "-1"], "sweep_beta must be finite and greater than 0"),
        (["--sweep_loss", "dpo", "nope"], "unknown loss 'nope'"),
        (["--sweep_learning_rate", "0"], "learning_rate must be greater than 0"),
        (["--sweep_seed", "1", "--resume"], "a sweep goes on by itself"),
        (["--sweep_seed", "1", "--workers", "0"], "workers must be at least 1"),
    ],
)
def test_mistakes_are_one_message_and_leave_nothing(words, message, tmp_path, capsys) -> None:
    folder = tmp_path / "sweep"
    assert main(["sweep", "--output_dir", str(folder), *words]) == 2
    assert message in capsys.readouterr().err
    assert not folder.exists()


def kill_once_there_is_a_checkpoint(folder: Path) -> None:
    """SIGKILL for the process that trains in `folder`, as the system does where memory is short."""
    while not list(folder.glob("checkpoints/*/dpo_lab_complete")):
        time.sleep(0.005)
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # gone meanwhile
            if str(folder).encode() in entry.read_bytes().split(b"\0"):
                os.kill(int(entry.parent.name), signal.SIGKILL)


def without_times(folder: Path) -> list[dict]:
    """The logged rows; but the last, of transformers, is about what one process did."""
    rows = [row for row in RunFolder(folder).read_metrics() if "train_loss" not in row]
    times = ("runtime", "per_second")
    return [{k: v for k, v in row.items() if not k.endswith(times)} for row in rows]


@pytest.mark.slow
def test_a_killed_point_goes_on_a_failed_one_is_reported_and_a_finished_one_is_read(
    tiny_model, pair_file, cache, tmp_path, monkeypatch, capsys
) -> None:
    """On a local Dask cluster first, where a point is killed; then on this machine."""
    from distributed import Client

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    config = SweepConfig(
        pairs=str(pair_file),
        model=str(tiny_model),
        output_dir=str(tmp_path / "sweep"),
        sweep_loss=["dpo", "odpo"],  # odpo needs margins, which these pairs do not have
        max_steps=100,
        logging_steps=1,
        save_steps=5,
        max_length=64,
        sample_prompts=4,
        max_new_tokens=4,
    )
    good_folder = tmp_path / "sweep" / "loss=dpo"
    killer = threading.Thread(target=kill_once_there_is_a_checkpoint, args=[good_folder])
    killer.start()
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as here:
        changed = {"sweep_loss": ["dpo"], "dask": here.scheduler.address}
        (killed,) = run_sweep(SweepConfig(**{**config.__dict__, **changed}), lambda _: None)
    killer.join()
    assert killed.error.startswith("exit status -9; loss=dpo.train.log ends with: ")
    assert killed.record is None

    reached = max(complete_checkpoints(good_folder / "checkpoints"))
    assert reached < 100
    words = [word for word in to_words(config) if word != "dpo"]
    words = words[: words.index("--loss")] + words[words.index("--loss") + 1 :]
    words += ["--workers", "2", "--sweep_loss"]
    assert main(["sweep", *words, "dpo", "odpo"]) == 2
    said = capsys.readouterr()
    log = tmp_path / "sweep" / "loss=dpo.train.log"
    assert f"going on from {good_folder / 'checkpoints' / f'checkpoint-{reached}'}\n" in (
        log.read_text()
    )
    assert "1 of 2 points failed: loss=odpo" in said.err
    assert "loss=dpo   0." in said.out
    assert "loss=odpo  failed: exit status 2" in said.out
    stored = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [point["name"] for point in stored] == ["loss=dpo", "loss=odpo"]
    assert [point["record"] is None for point in stored] == [False, True]
    assert "odpo needs them" in stored[1]["error"]
    assert (tmp_path / "sweep" / "sweep.png").read_bytes().startswith(b"\x89PNG")

    # The point that nobody killed ends with the same weights, and logged the same.
    alone = replace(config.points()[0], output_dir=str(tmp_path / "alone"))
    monkeypatch.setattr("dpo_lab.plotting.curves.save_curves", lambda rows, file: None)
    assert main(["train", *to_words(alone)]) == 0
    records = [RunFolder(folder).open_existing() for folder in (good_folder, tmp_path / "alone")]
    assert records[0]["model_sha256"] == records[1]["model_sha256"]
    assert records[0]["evaluation"] == records[1]["evaluation"]
    assert without_times(good_folder) == without_times(tmp_path / "alone")

    before = log.read_bytes()
    (good,) = run_sweep(SweepConfig(**{**config.__dict__, "sweep_loss": ["dpo"]}), lambda _: None)
    assert log.read_bytes() == before  # it was read, not trained again
    assert good.error is None
    assert good.record["status"] == "complete"
    assert good.last["kl/policy_error"] >= 0

    other = SweepConfig(**{**config.__dict__, "max_steps": 3})
    with pytest.raises(InputError, match="another sweep: max_steps was 100 and is now 3"):
        run_sweep(other, lambda _: None)


def test_no_cluster_at_an_address_is_one_message(tmp_path) -> None:
    config = SweepConfig(output_dir=str(tmp_path / "s"), sweep_seed=[1], dask="nonsense://x")
    with pytest.raises(InputError, match="no scheduler answers at nonsense://x"):
        run_sweep(config, lambda _: None)


def result(beta: float, gold: float | None, error: str | None = None) -> PointResult:
    last = {"kl/policy": 1 / beta, "kl/policy_error": 0.1, "eval_rewards/margins": 0.5}
    if gold is not None:
        last |= {"gold/reward": gold, "gold/reward_error": 0.2}
    accuracy = {"value": 0.7, "low": 0.6, "high": 0.8}
    record = {"evaluation": {"accuracy": accuracy}, "seconds": 12.3}
    settings = {"beta": beta, "loss": "dpo"}
    if error is not None:
        return PointResult(f"beta={beta}", settings, None, {}, error)
    return PointResult(f"beta={beta}", settings, record, last)


def test_the_table_and_the_plane_show_what_was_measured() -> None:
    results = [result(0.5, 1.25), result(0.1, 2.0), result(0.01, None, "killed")]
    lines = table(results).splitlines()
    assert lines[1] == "beta=0.5   0.700     0.500   2.00 ± 0.10     1.25 ± 0.20      12"
    assert lines[3] == "beta=0.01  failed: killed"
    reward, points = plane(results)
    assert reward == "true reward"
    assert [(p["kl"], p["reward"], p["reward_error"]) for p in points] == [
        (2.0, 1.25, 0.2),
        (10.0, 2.0, 0.2),
    ]
    ax = draw_sweep(Figure().subplots(), points, "beta")
    (line,) = [each for each in ax.lines if len(each.get_xdata()) == 2]
    assert list(line.get_xdata()) == [10.0, 2.0]  # by beta, whatever their order was
    assert {text.get_text() for text in ax.texts} == {"0.1", "0.5"}
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["loss dpo"]

    reward, points = plane([result(0.5, None)])
    assert (reward, points[0]["reward"]) == ("held-out accuracy", 0.7)
    assert points[0]["reward_error"] == pytest.approx(0.05)
