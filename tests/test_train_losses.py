"""`dpo-lab train` with every loss that preference pairs are enough for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dpo_lab.cli import main
from dpo_lab.losses import LOSSES

TRAINABLE = [name for name, spec in LOSSES.items() if not spec.required_inputs]


def train(loss: str, pair_file: Path, tiny_model: Path, folder: Path, *more: str) -> dict:
    """Two optimiser steps of 4 pairs, and what the run recorded."""
    options = {
        "pairs": pair_file,
        "model": tiny_model,
        "output_dir": folder,
        "loss": loss,
        "max_steps": 2,  # the first one warms up from a rate of 0
        "learning_rate": 1e-3,
        "max_length": 64,
        "per_device_train_batch_size": 4,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    assert main(["train", *words, *more]) == 0
    return json.loads((folder / "run.json").read_text())


@pytest.mark.parametrize("name", [*TRAINABLE, "ipo"])
def test_every_loss_that_pairs_suffice_for_trains(name, pair_file, tiny_model, cache, tmp_path):
    record = train(name, pair_file, tiny_model, tmp_path / "run")
    assert record["status"] == "complete"
    assert record["config"]["loss"] == name
    assert record["model_sha256"] != record["reference_sha256"]


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
