"""Gradient checkpointing, and a push to the hub: tried before the run, done after it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict
from training_fixtures import make_trainer

from dpo_lab.cli import main
from dpo_lab.errors import InputError
from dpo_lab.models import load_policy
from dpo_lab.pairs import read_pairs
from dpo_lab.scoring import score_pairs
from dpo_lab.training import config_checks, hub
from dpo_lab.training.config import TrainConfig
from dpo_lab.training.examples import attach_reference
from dpo_lab.training.objective import LossConfig
from dpo_lab.training.recipe import _arguments, train
from dpo_lab.training.run_folder import RunFolder


@pytest.mark.parametrize("budget", [None, 4096])
def test_checkpointed_activations_change_no_number(budget, tiny_model, encoded, tmp_path) -> None:
    examples = attach_reference(encoded, score_pairs(load_policy(tiny_model), encoded, 0))
    ends, calls = [], []
    for on in (False, True):
        trainer = make_trainer(
            tiny_model,
            examples,
            tmp_path,
            LossConfig(),
            token_budget=budget,
            max_steps=2,
            gradient_checkpointing=on,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
        layer = trainer.model.model.layers[0]
        count = []
        layer.self_attn.register_forward_hook(lambda *_, c=count: c.append(1))
        trainer.train()
        ends.append(torch.cat([w.detach().flatten() for w in trainer.model.parameters()]))
        calls.append(len(count))
    assert calls == [2, 4]  # with it, every layer runs once more in the backward pass
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-6)


class Hub:
    """Stands where `HfApi` stands, and writes down what it is asked for."""

    asked: list[tuple]

    def whoami(self) -> dict:
        self.asked.append(("whoami",))
        return {"name": "reader"}

    def create_repo(self, repo_id: str, private: bool, exist_ok: bool) -> str:
        self.asked.append(("create", repo_id, private, exist_ok))
        return f"https://hub/{repo_id}"

    def upload_folder(self, folder_path: str, repo_id: str, commit_message: str) -> None:
        names = {path.name for path in Path(folder_path).iterdir()}
        self.asked.append(("upload", repo_id, {"config.json", "model.safetensors"} <= names))


def words(tiny_model, pair_file, run: Path, name: str) -> list[str]:
    where = ["--pairs", str(pair_file), "--model", str(tiny_model), "--output_dir", str(run)]
    return ["train", *where, "--max_steps", "1", "--sample_prompts", "0", "--hub_model_id", name]


def test_the_model_is_pushed_when_all_is_done(
    tiny_model, pair_file, cache, tmp_path, monkeypatch, capsys
) -> None:
    Hub.asked = []
    monkeypatch.setattr(hub, "HfApi", Hub)
    assert main(words(tiny_model, pair_file, tmp_path / "run", "reader/tiny")) == 0
    assert Hub.asked == [
        ("whoami",),
        ("create", "reader/tiny", True, True),
        ("upload", "reader/tiny", True),
    ]
    assert "pushed to https://hub/reader/tiny" in capsys.readouterr().out


def test_a_push_that_cannot_work_stops_the_run_before_it_begins(
    tiny_model, pair_file, cache, tmp_path, monkeypatch, capsys
) -> None:
    run = tmp_path / "run"
    assert main(words(tiny_model, pair_file, run, "no such name")) == 2
    assert "hub_model_id 'no such name'" in capsys.readouterr().err

    class NotLoggedIn(Hub):
        def whoami(self) -> dict:
            raise hub.LocalTokenNotFoundError("no token")

    monkeypatch.setattr(hub, "HfApi", NotLoggedIn)
    assert main(words(tiny_model, pair_file, run, "reader/tiny")) == 2
    assert "not logged in to the hub" in capsys.readouterr().err
    assert not run.exists()


@pytest.mark.parametrize("wanted", [False, True])
def test_activations_are_checkpointed_on_request_under_the_name_of_this_transformers(
    tmp_path, wanted
) -> None:
    config = TrainConfig(gradient_checkpointing=wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        arguments = _arguments(config, RunFolder(tmp_path), fresh=True)
    name = next(n for n in ("activation", "gradient") if hasattr(arguments, f"{n}_checkpointing"))
    assert getattr(arguments, f"{name}_checkpointing") is wanted
    if wanted:
        assert getattr(arguments, f"{name}_checkpointing_kwargs") == {"use_reentrant": False}


@pytest.mark.parametrize("tracker", ["mlflow", "no such tracker"])
def test_a_tracker_that_is_not_there_stops_the_run_before_it_begins(
    tiny_model, pair_file, cache, tmp_path, monkeypatch, capsys, tracker
) -> None:
    monkeypatch.setattr(
        config_checks, "get_available_reporting_integrations", lambda: ["tensorboard"]
    )
    run = tmp_path / "run"
    where = ["--pairs", str(pair_file), "--model", str(tiny_model), "--output_dir", str(run)]
    assert main(["train", *where, "--report_to", tracker]) == 2
    said = capsys.readouterr().err
    assert f"report_to: {tracker!r} is not installed" in said
    assert "here are: none, all, tensorboard" in said
    assert not run.exists()


def test_a_split_is_taken_from_a_saved_data_set_and_from_nothing_else(
    tiny_model, pair_file, cache, tmp_path, capsys
) -> None:
    pairs = [pair._asdict() | {"margin": 1.0} for pair in read_pairs(pair_file)[0]]
    parts = {"prefs": pairs[:-2], "held": pairs[-2:], "train": pairs[:3]}
    saved = DatasetDict({name: Dataset.from_list(rows) for name, rows in parts.items()})
    saved.save_to_disk(tmp_path / "saved")
    run, both = tmp_path / "run", str(tmp_path / "saved")
    where = ["train", "--model", str(tiny_model), "--output_dir", str(run), "--max_steps", "1"]
    split = ["--pairs_split", "prefs", "--eval_pairs", both, "--eval_pairs_split", "held"]
    assert main([*where, "--pairs", both, *split]) == 0
    counts = json.loads((run / "run.json").read_text())["data"]
    assert (counts["train_pairs"], counts["held_out_pairs"]) == (len(pairs) - 2, 2)
    assert main([*where, "--pairs", str(pair_file), "--pairs_split", "prefs"]) == 2
    assert f"{pair_file} has no splits" in capsys.readouterr().err
    assert main([*where, "--pairs", f"{both}/prefs", "--pairs_split", "held"]) == 2
    assert f"{both}/prefs has no splits" in capsys.readouterr().err
    assert main([*where, "--pairs", both, "--eval_pairs_split", "held"]) == 2
    assert "eval_pairs is not given" in capsys.readouterr().err


def test_one_process_that_sees_two_cards_is_told_what_to_do(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match=r"2 GPUs are visible .*'accelerate launch"):
        train(TrainConfig(output_dir=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()
