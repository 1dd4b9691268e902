"""`dpo-lab evaluate` on saved models: a model beside itself, and beside a moved copy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dpo_lab.batching import encode_response
from dpo_lab.cli import main
from dpo_lab.models import load_policy, load_tokenizer, train_tokenizer
from dpo_lab.pairs import read_pairs
from dpo_lab.sampling import sample_responses
from dpo_lab.training.reward_model import build_reward_model, score_rewards


@pytest.fixture(scope="module")
def moved_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moved")
    model = load_policy(tiny_model)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    load_tokenizer(tiny_model).save_pretrained(folder)
    return folder


def evaluate(policy: Path, reference: Path, output: Path, *more: str) -> dict:
    models = ["--policy", str(policy), "--reference", str(reference)]
    small = ["--prompts", "24", "--max_new_tokens", "8", "--output", str(output)]
    assert main(["evaluate", *models, *small, *more]) == 0
    return json.loads(output.read_text())


def test_a_model_beside_itself(tiny_model: Path, tmp_path: Path, capsys) -> None:
    report = evaluate(tiny_model, tiny_model, tmp_path / "report.json")
    assert report["kl"]["k1"] == {"value": 0.0, "error": 0.0}
    assert report["policy"] == report["reference"]  # the same seed draws the same answers
    assert report["win_rate"]["rate"]["value"] == 0.5
    assert report["pairs"]["ties"] == report["pairs"]["pairs"] == 400
    assert report["calibration_error"] == 0
    # Margins of 0 say one half of all pairs, and one half of a tie counts as right.
    half = {"low": 0.5, "high": 0.6, "pairs": 400, "confidence": 0.5, "accuracy": 0.5}
    assert report["reliability"] == [pytest.approx(half)]
    said = capsys.readouterr().out
    assert "true reward: the policy wins" in said
    assert "sure of the winner by 0.50-0.60   right in 0.500 of 400" in said


def test_a_moved_model_on_pairs_whose_truth_nobody_knows(
    tiny_model: Path, moved_model: Path, pair_file: Path, tmp_path: Path, capsys
) -> None:
    where = ["--pairs", str(pair_file)]
    report = evaluate(moved_model, tiny_model, tmp_path / "report.json", *where)
    assert report["kl"]["k1"]["value"] > 0.05
    assert report["win_rate"] is report["gold_correlation"] is report["policy"]["gold"] is None
    said = capsys.readouterr().out
    assert "no win rate: nothing here knows the true reward" in said
    assert report["judged_by"] is None
    # Its pair numbers are those of `dpo-lab score`.
    models = ["--policy", str(moved_model), "--reference", str(tiny_model)]
    assert main(["score", *models, *where]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    mean = sum(row["rewards/margins"] for row in rows) / len(rows)
    assert report["pairs"]["margin"] == pytest.approx(mean, abs=1e-6)


def test_a_reward_model_judges_where_the_truth_is_not_known(
    tiny_model: Path, moved_model: Path, pair_file: Path, tmp_path: Path, capsys
) -> None:
    """Who wins is counted again here, one answer at a time."""
    judge = build_reward_model(tiny_model, seed=9)
    judge.save_pretrained(tmp_path / "judge")
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.save_pretrained(tmp_path / "judge")
    words = ["--pairs", str(pair_file), "--judge", str(tmp_path / "judge")]
    report = evaluate(moved_model, tiny_model, tmp_path / "report.json", *words)
    assert report["judged_by"] == "judge's reward"
    assert "judge's reward: the policy wins" in capsys.readouterr().out
    pairs, _ = read_pairs(pair_file)
    prompts = [pairs[i % len(pairs)].prompt for i in range(24)]
    settings = {"max_new_tokens": 8, "seed": 1, "batch_size": 32, "progress": False}
    scores = []
    for model in (moved_model, tiny_model):
        drawn = sample_responses(load_policy(model), tokenizer, prompts, **settings)
        rows = zip(drawn.prompts, drawn.texts, strict=True)
        encoded = [encode_response(tokenizer, *row) for row in rows]  # one by one, EOS included
        scores.append(
            torch.stack([score_rewards(judge, [r], 0, progress=False)[0] for r in encoded])
        )
    wins = (scores[0] > scores[1]).double() + 0.5 * (scores[0] == scores[1]).double()
    assert report["win_rate"]["rate"]["value"] == pytest.approx(wins.mean().item(), abs=1e-9)
    assert report["policy"]["gold"]["value"] == pytest.approx(scores[0].mean().item(), abs=1e-5)


def test_mistakes_are_one_message(
    tiny_model: Path, pair_file: Path, tmp_path: Path, capsys
) -> None:
    other = tmp_path / "other"
    load_policy(tiny_model).save_pretrained(other)
    train_tokenizer(["quite another text"], 300).save_pretrained(other)
    (tmp_path / "there.json").write_text("{}")
    cases = [
        (["--reference", str(other)], "different tokenizers"),
        (["--reference", str(tiny_model), "--prompts", "1"], "prompts must be at least 2"),
        (["--reference", str(tiny_model), "--beta", "0"], "beta must be finite and greater"),
        (["--reference", str(tiny_model), "--output", str(tmp_path / "there.json")], "exists"),
        (["--reference", str(tiny_model), "--judge", "x"], "give --pairs as well"),
        (
            ["--reference", str(tiny_model), "--pairs", str(pair_file), "--judge", str(tiny_model)],
            "not a reward model",
        ),
    ]
    for words, message in cases:
        assert main(["evaluate", "--policy", str(tiny_model), *words]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
