"""The command as a user meets it: one clear message for each mistake, and numbers that agree."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dpo_lab import __version__
from dpo_lab.cli import main
from dpo_lab.errors import InputError
from dpo_lab.training.config import TrainConfig, changed_setting
from dpo_lab.training.run_folder import RunFolder


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_version_and_help_need_no_model_library() -> None:
    code = "import sys; from dpo_lab.cli import main; main(['--version'])"
    probe = f"try:\n {code}\nexcept SystemExit: print('transformers' in sys.modules)".replace(
        "import sys;", "import sys\n"
    ).replace("\n from", "\n from")
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert result.stdout.split() == ["dpo-lab", __version__, "False"], result.stderr


def test_help_of_train_names_every_setting(capsys: pytest.CaptureFixture) -> None:
    from dataclasses import fields

    from dpo_lab.training.config import TrainConfig

    with pytest.raises(SystemExit) as stop:
        run("train", "--help")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for setting in fields(TrainConfig):
        assert f"--{setting.name}" in text
        assert setting.metadata["help"].split()[0] in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--beta", "0"], "beta must be finite and greater than 0"),
        (["--beta", "nan"], "beta must be finite and greater than 0"),
        (["--loss", "nope"], "unknown loss 'nope'; known: dpo, cdpo"),
        (["--label_smoothing", "0.1"], "loss 'dpo' has no option 'label_smoothing'"),
        (["--loss_options", "x=1"], "loss 'dpo' has no option 'x'; its options: none"),
        (["--loss", "simpo", "--loss_options", "simpo_gamma=x"], "is not name=value"),
        (["--loss", "simpo", "--loss_options", "simpo_gamma=-1"], "must lie in [0, inf)"),
        (
            ["--loss", "simpo", "--loss_options", "simpo_gamma=1", "gamma_beta_ratio=1"],
            "give gamma_beta_ratio or simpo_gamma, not both",
        ),
        (
            ["--loss", "cdpo", "--loss_options", "label_smoothing=.1", "--label_smoothing", ".1"],
            "label_smoothing is given twice",
        ),
        (["--loss", "cdpo", "--label_smoothing", "0.7"], "must lie in [0, 0.5)"),
        (["--learning_rate", "-1"], "learning_rate must be greater than 0"),
        (["--eval_fraction", "1"], "eval_fraction must lie in (0, 1)"),
        (["--eval_pairs", "x.jsonl"], "needs --pairs as well"),
        (["--pairs", "nowhere/no.jsonl"], "nowhere/no.jsonl"),
        (["--model", "./nowhere"], "./nowhere: no such folder"),
        (["--resume"], "holds no run"),
        (["--hidden_size", "30"], "hidden_size must be a multiple"),
        (["--vocab_size", "100"], "vocab_size must be at least 259"),
    ],
)
def test_mistakes_in_train_are_one_message_and_leave_nothing(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    cache: Path,
) -> None:
    target = tmp_path / "run"
    assert run("train", "--output_dir", target, "--world_pairs", 40, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("dpo-lab train: ")
    assert message in error
    assert "Traceback" not in error
    assert not target.exists()


def test_an_output_folder_that_holds_something_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    assert run("train", "--output_dir", tmp_path) == 2
    assert "is not empty; nothing was changed" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_run_that_was_killed_before_it_wrote_anything_can_start_again(tmp_path: Path) -> None:
    (tmp_path / "run.json.unfinished").write_text('{"status": "runn')
    RunFolder(tmp_path).check_free()
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(InputError, match="is not empty"):
        RunFolder(tmp_path).check_free()


def test_an_output_path_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "run").write_text("a file")
    assert run("train", "--output_dir", tmp_path / "run") == 2
    assert "is a file" in capsys.readouterr().err
    assert run("train", "--output_dir", tmp_path / "run" / "below") == 2
    assert "nothing can be written below" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b'{"a": 1}\n{"a": 2}\n', "columns"),
        (gzip.compress(b'{"prompt": "p", "chosen": " a", "rejected": " b"}\n' * 500)[:-9], "cut"),
    ],
)
def test_files_that_hold_no_pairs(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / ("pairs.jsonl.gz" if content[:2] == b"\x1f\x8b" else "pairs.jsonl")
    file.write_bytes(content)
    assert run("train", "--pairs", file, "--output_dir", tmp_path / "run") == 2
    error = capsys.readouterr().err
    assert str(file) in error
    assert message in error
    assert not (tmp_path / "run").exists()


def test_strict_names_the_row_and_report_goes_on(
    tmp_path: Path,
    tiny_model: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    file = tmp_path / "pairs.jsonl"
    rows = [{"prompt": "the soup", "chosen": " was good", "rejected": " was bad"} for _ in range(3)]
    rows[1]["rejected"] = ""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("inspect", "--pairs", file, "--model", tiny_model)
    assert run(*arguments, "--odd_rows", "strict") == 2
    error = capsys.readouterr().err
    assert str(file) in error
    assert "rejected" in error
    assert "empty" in error
    assert run(*arguments, "--row", 2) == 0
    captured = capsys.readouterr()
    assert "3 rows, 2 kept, 1 odd" in captured.err
    assert "BOS" in captured.out
    assert captured.out.count("EOS") == 2  # once an answer
    assert run(*arguments, "--row", 3) == 2
    assert "row must lie in 1..2" in capsys.readouterr().err


def test_score_agrees_with_what_the_trainer_logged(
    tmp_path: Path,
    tiny_model: Path,
    pair_file: Path,
    cache: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    folder, scores = tmp_path / "run", tmp_path / "scores.jsonl"
    common = ("--beta", 0.2, "--max_length", 64)
    arguments = ("--pairs", pair_file, "--eval_pairs", pair_file, "--model", tiny_model)
    schedule = ("--learning_rate", 1e-3, "--eval_steps", 4, "--save_steps", 100)
    assert run("train", *arguments, *common, *schedule, "--output_dir", folder) == 0
    shown = "".join(capsys.readouterr())
    for name in ("rewards/accuracies", "logps/chosen", "logps_ref/rejected", "logratios/chosen"):
        assert f"{name} " in shown
        assert f"eval_{name} " in shown
    assert "lengths/rejected " in shown
    models = ("--policy", folder / "model", "--reference", tiny_model)
    assert run("score", "--pairs", pair_file, *models, *common, "--output", scores) == 0
    rows = [json.loads(line) for line in scores.read_text().splitlines()]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    record = json.loads((folder / "run.json").read_text())
    assert record["data"]["held_out_with_seen_prompt"] == len(rows)  # the same file twice
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in metrics if "eval_loss" in row][-1]
    for name in rows[0]:
        mean = sum(row[name] for row in rows) / len(rows)
        assert mean == pytest.approx(last[f"eval_{name}"], abs=1e-4), name
    assert abs(last["eval_rewards/margins"]) > 1e-3  # the policy did move
    capsys.readouterr()
    assert run("score", "--pairs", pair_file, *models, *common, "--output", scores) == 2
    assert "exists already; nothing was changed" in capsys.readouterr().err


def test_resuming_with_other_settings_is_refused(
    tmp_path: Path,
    tiny_model: Path,
    pair_file: Path,
    cache: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    folder = tmp_path / "run"
    arguments = ("--pairs", pair_file, "--model", tiny_model, "--max_steps", 2)
    assert run("train", *arguments, "--output_dir", folder) == 0
    assert run("train", *arguments, "--output_dir", folder, "--resume", "--beta", 0.5) == 2
    assert "cannot resume: beta was 0.1 and is now 0.5" in capsys.readouterr().err
    settings = json.loads((folder / "run.json").read_text())["config"]
    same = TrainConfig(**settings)
    assert changed_setting(settings, same) is None
    del settings["fast_path"]  # a run from before there was such a setting had its default
    assert changed_setting(settings, same) is None
    assert "fast_path was 'auto'" in changed_setting(settings, replace(same, fast_path="off"))
    assert run("train", *arguments, "--output_dir", folder) == 2
    assert "add --resume to go on" in capsys.readouterr().err


def test_the_installed_command_exits_with_2_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dpo_lab", "train", "--beta", "-1"]
    result = subprocess.run(
        [*command, "--output_dir", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("dpo-lab train: beta must be")


def test_odd_cases_of_real_pairs_are_trained_on_or_named(
    shared_data: Path,
    tmp_path: Path,
    tiny_model: Path,
    cache: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    file = shared_data / "hh_odd_cases.jsonl"
    rows = file.read_text(encoding="utf-8").splitlines()
    arguments = ("--pairs", file, "--model", tiny_model, "--max_steps", 1, "--max_length", 4096)
    assert run("train", *arguments, "--eval_fraction", 0.3, "--output_dir", tmp_path / "run") == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    report = record["data"]["reports"]["train"]
    assert report["rows"] == len(rows)
    assert report["kept"] == record["data"]["train_pairs"] + record["data"]["held_out_pairs"]
    assert report["kept"] + len(report["odd"]) == len(rows)
    named = {row["row"] for row in report["odd"]}
    whys = {i: json.loads(line)["why"] for i, line in enumerate(rows, 1)}
    for number, why in whys.items():
        must_be_named = any(w in why for w in ("identical", "prompts differ", "speaker marker"))
        assert (number in named) == must_be_named, (number, why)
    assert capsys.readouterr().out.count("odd") >= 1
