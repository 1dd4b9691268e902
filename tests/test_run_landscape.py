"""`dpo-lab landscape` on a real run: its centre is the run's own loss, and its cost is said."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dpo_lab.cli import main

TRAIN = ["--loss", "ipo_sum", "sft", "--loss_weights", "1", "0.5", "--beta", "0.7"]
TRAIN += ["--max_steps", "6", "--save_steps", "2", "--learning_rate", "1e-3"]


@pytest.fixture(scope="module")
def run_folder(tiny_model: Path, pair_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("landscape") / "run"
    where = ["--model", tiny_model, "--pairs", pair_file, "--output_dir", folder]
    assert main(["train", *TRAIN, *map(str, where)]) == 0
    return folder


@pytest.mark.parametrize("directions", ["random", "pca"])
def test_the_centre_is_the_loss_of_the_run(directions, run_folder, capsys) -> None:
    assert landscape(run_folder, "--points", "3", "--directions", directions) == 0
    said = capsys.readouterr().out
    surface = json.loads((run_folder / "landscape.json").read_text())
    centre = surface["losses"][1][1]
    assert (run_folder / "landscape.png").stat().st_size > 5000
    # Another way to the same number: the loss of the pairs' own log-probabilities.
    assert main(["score", *scoring(run_folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    losses = []
    for row in map(json.loads, lines):
        h = row["rewards/margins"]
        losses.append((h - 1 / 1.4) ** 2 - 0.5 * row["logps/chosen"] / row["lengths/chosen"])
    assert centre == pytest.approx(sum(losses) / len(losses), abs=1e-4)
    around = [surface["losses"][i][j] for i, j in ((0, 0), (0, 2), (2, 0), (2, 2))]
    assert max(abs(value - centre) for value in around) > 1e-4
    points, pairs, ratio = re.search(r"(\d+) grid points on (\d+) .*ratio ([\d.]+)", said).groups()
    assert (int(points), int(pairs)) == (9, len(lines))
    assert 0.2 < float(ratio) < 5  # one forward pass a point; timings are noisy


def test_every_way_to_set_an_option_reaches_the_surface(
    tiny_model: Path, pair_file: Path, tmp_path: Path, capsys
) -> None:
    """label_smoothing has an option of its own; with it the loss at the centre is larger."""
    centres = []
    for word in (["--label_smoothing", "0.4"], ["--loss_options", "label_smoothing=0.0"]):
        folder = tmp_path / word[1]
        where = ["--model", tiny_model, "--pairs", pair_file, "--output_dir", folder]
        steps = ["--loss", "cdpo", "--beta", "2", "--max_steps", "6", "--learning_rate", "3e-3"]
        assert main(["train", *steps, *word, *map(str, where)]) == 0
        assert landscape(folder, "--points", "3", "--max_pairs", "16") == 0
        centres.append(json.loads((folder / "landscape.json").read_text())["losses"][1][1])
    assert centres[0] > centres[1] + 0.02


def landscape(run_folder: Path, *more: str) -> int:
    return main(["landscape", "--run", str(run_folder), *more])


def scoring(run_folder: Path) -> list[str]:
    """At beta 1 a margin is IPO's h."""
    config = json.loads((run_folder / "run.json").read_text())["config"]
    policy = ["--policy", str(run_folder / "model"), "--reference", config["model"]]
    return ["--pairs", config["pairs"], *policy, "--beta", "1"]


def test_mistakes_are_one_message(run_folder, tmp_path, capsys) -> None:
    cases = [
        (["--run", str(tmp_path)], "holds no run"),
        (["--run", str(run_folder), "--points", "1"], "points must be at least 2"),
        (["--run", str(run_folder), "--span", "0"], "span must be greater than 0"),
        (["--run", str(run_folder), "--pairs", "no.jsonl"], "no.jsonl"),
    ]
    for words, message in cases:
        assert main(["landscape", *words]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
