"""`dpo-lab train` with every loss of the table, on pairs and on labelled answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dpo_lab.cli import main
from dpo_lab.losses import LOSSES, find_loss
from dpo_lab.models import load_policy, model_hash
from dpo_lab.pairs import write_pairs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unrendered")]


@pytest.fixture(scope="module")
def scored_file(review_pairs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pairs with margins of 1/2, 1 and 3/2, which ODPO needs."""
    file = tmp_path_factory.mktemp("scored") / "pairs.jsonl"
    margins = [0.5 * (1 + index % 3) for index in range(len(review_pairs))]
    write_pairs([p._replace(margin=m) for p, m in zip(review_pairs, margins, strict=True)], file)
    return file


def train(loss: str, pair_file: Path, tiny_model: Path, folder: Path, *more: str) -> dict:
    """Two optimiser steps of 4 pairs, and what the run recorded."""
    options = {
        "pairs": pair_file,
        "model": tiny_model,
        "output_dir": folder,
        "max_steps": 2,  # the first one warms up from a rate of 0
        "learning_rate": 1e-3,
        "max_length": 64,
        "per_device_train_batch_size": 4,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    assert main(["train", "--loss", *loss.split(), *words, *more]) == 0
    return json.loads((folder / "run.json").read_text())


@pytest.mark.parametrize("name", [*LOSSES, "ipo", "dpo bco_pair sft"])
def test_every_loss_trains_on_pairs(name, scored_file, tiny_model, cache, tmp_path):
    record = train(name, scored_file, tiny_model, tmp_path / "run")
    assert record["status"] == "complete"
    assert record["config"]["loss"] == name.split()
    assert record["model_sha256"] != model_hash(load_policy(tiny_model))
    compared = any("reference" in find_loss(each).needs for each in name.split())
    assert compared == ("reference_sha256" in record)
    assert record["evaluation"]["reward"] == ("implicit" if compared else "own")


def test_options_and_beta_reach_the_loss(pair_file, tiny_model, cache, tmp_path):
    """SimPO at the model that training starts from: its first held-out loss moves with its target
    margin."""
    losses = {}
    for gamma in ("0", "1.5"):
        folder = tmp_path / gamma
        more = ["--beta", "4", "--loss_options", f"simpo_gamma={gamma}"]
        train("simpo", pair_file, tiny_model, folder, *more)
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        losses[gamma] = next(row["eval_loss"] for row in rows if "eval_loss" in row)
    # -log sigmoid(m - 1.5) exceeds -log sigmoid(m) by 1.5 at most, and by .75 or so near m = 0
    assert 0.5 < losses["1.5"] - losses["0"] < 1.5


@pytest.fixture(scope="module")
def labelled_file(review_pairs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pairs taken apart: every answer with a label of its own."""
    rows = [
        {"prompt": pair.prompt, "completion": completion, "label": label}
        for pair in review_pairs
        for completion, label in ((pair.chosen, True), (pair.rejected, False))
    ]
    file = tmp_path_factory.mktemp("labelled") / "answers.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


@pytest.mark.parametrize("name", [name for name, spec in LOSSES.items() if spec.answers])
def test_losses_of_single_answers_train_on_labels(name, labelled_file, tiny_model, cache, tmp_path):
    record = train(name, labelled_file, tiny_model, tmp_path / "run", "--logging_steps", "1")
    assert record["data"]["kind"] == "labelled answers"
    assert record["model_sha256"] != record["reference_sha256"]
    assert record["evaluation"]["good"] > 0
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    last = next(row for row in reversed(rows) if "eval_loss" in row)
    rewards = record["evaluation"]["reward_good"] - record["evaluation"]["reward_bad"]
    assert last["eval_rewards/margins"] == pytest.approx(rewards, abs=1e-4)
    assert ("eval_kl" in last) == (name == "kto")


def test_a_model_can_be_made_from_labelled_answers(labelled_file, cache, tmp_path):
    size = ["--hidden_size", "16", "--num_hidden_layers", "1", "--num_attention_heads", "2"]
    words = ["--loss", "kto", "--pairs", str(labelled_file), "--vocab_size", "320", *size]
    folder = tmp_path / "run"
    assert main(["train", *words, "--sft_epochs", "1", "--output_dir", str(folder)]) == 0
    assert json.loads((folder / "run.json").read_text())["status"] == "complete"


REFUSED = [
    (["--loss", "dpo"], "labelled", "single labelled answers, not pairs; loss dpo compares two"),
    (["--loss", "kto", "bco_pair"], "labelled", "One of these can be used: bco_pair, apo_zero"),
    (["--loss", "simpo", "--reference", "x"], "pairs", "simpo has none, so it cannot be given"),
    (["--loss", "kto", "--per_device_train_batch_size", "1"], "pairs", "needs at least 2, got 1"),
    (["--loss", "odpo"], "pairs", "pair 1 has no margin, nor score_chosen"),
    (["--loss", "dpo", "sigmoid"], "pairs", "'dpo' and 'sigmoid' are one loss"),
    (["--loss", "dpo", "sft", "--loss_weights", "1"], "pairs", "1 weights for 2 losses"),
    (["--loss", "dpo", "--loss_weights", "-1"], "pairs", "must be finite and above 0, got -1"),
    (["--loss", "dpo", "sft", "--loss_options", "shift=1"], "pairs", "has no option 'shift'"),
]


@pytest.mark.parametrize(("words", "data", "message"), REFUSED)
def test_what_cannot_be_is_said_before_anything_is_loaded(
    words, data, message, labelled_file, pair_file, tmp_path, capsys
):
    """The model named here does not exist, so loading it would be another message."""
    source = {"labelled": labelled_file, "pairs": pair_file}[data]
    where = ["--pairs", str(source), "--output_dir", str(tmp_path / "run")]
    assert main(["train", *words, *where, "--model", str(tmp_path / "no model")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()
