"""Training on the fast path: the plain path's losses and weights, and when it is taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from training_fixtures import make_trainer

from dpo_lab.batching import encode_pairs
from dpo_lab.cli import main
from dpo_lab.errors import InputError
from dpo_lab.fast import score_packed
from dpo_lab.losses import LOSSES
from dpo_lab.models import load_policy, load_tokenizer
from dpo_lab.pairs import read_pairs
from dpo_lab.scoring import ScoredPairs, score_pairs
from dpo_lab.training.examples import (
    Mismatches,
    PreferenceCollator,
    attach_reference,
    packed_of,
    pieces,
)
from dpo_lab.training.mismatches import mismatched_pairs
from dpo_lab.training.objective import LossConfig


def train(tiny_model, examples, folder, losses: LossConfig, budget: int | None):
    """Losses of six steps, the evaluation, and the weights at the end."""
    trainer = make_trainer(
        tiny_model,
        examples,
        folder,
        losses,
        per_device_eval_batch_size=4,
        gradient_accumulation_steps=2,
        token_budget=budget,
    )
    trainer.train()
    evaluation = trainer.evaluate(examples[:10])  # a last batch of 2
    logged = [row for row in trainer.state.log_history if "loss" in row]
    weights = torch.cat([weight.detach().flatten() for weight in trainer.model.parameters()])
    return logged, evaluation, weights


@pytest.mark.parametrize("name", ["dpo", "ipo_avg", "simpo", "kto", "aot"])
def test_it_trains_as_the_plain_path_does(name: str, tiny_model, encoded, tmp_path) -> None:
    """In pieces of 40 tokens where the loss allows it (kto and aot look at the whole batch)."""
    reference = load_policy(tiny_model)
    logps = score_pairs(reference, encoded, 0, progress=False)
    mismatches = None
    if name == "kto":
        others = mismatched_pairs(encoded, 64, seed=3)
        scored = score_pairs(reference, others, 0, progress=False)
        mismatches = Mismatches(others, torch.cat(scored))
    examples = attach_reference(encoded, logps, None, mismatches)
    losses = LossConfig({name: 1.0})
    plain, fast = (train(tiny_model, examples, tmp_path, losses, b) for b in (None, 40))
    assert losses.splittable == (name not in ("kto", "aot"))
    assert len(plain[0]) == 6
    for slow_row, fast_row in zip(plain[0], fast[0], strict=True):
        shared = {k: v for k, v in slow_row.items() if "logps" not in k}
        if slow_row["step"] == 1:  # policy and reference are equal: rounding decides who wins
            del shared["rewards/accuracies"]
        assert {k: fast_row[k] for k in shared} == pytest.approx(shared, abs=2e-4, rel=1e-3)
    names = ["eval_loss", "eval_rewards/margins", "eval_lengths/chosen", "eval_logps/chosen"]
    assert [fast[1][n] for n in names] == pytest.approx([plain[1][n] for n in names], rel=1e-4)
    start = torch.cat([weight.detach().flatten() for weight in reference.parameters()])
    assert (fast[2] - plain[2]).norm() < 0.02 * (plain[2] - start).norm()


def test_pieces_cover_a_batch_and_carry_its_columns(encoded) -> None:
    numbers = torch.arange(8.0)
    examples = attach_reference(encoded[:8], ScoredPairs(numbers, -numbers))
    batch = PreferenceCollator(0, token_budget=60)(examples)
    parts = list(pieces(batch))
    assert len(parts) > 2
    assert torch.equal(torch.cat([part["ref_chosen_logps"] for part in parts]), numbers)
    assert torch.equal(torch.cat([part["ref_rejected_logps"] for part in parts]), -numbers)
    assert sum(part["share"] for part in parts) == pytest.approx(1)
    ids = [i for part in parts for i in packed_of(part).input_ids[0].tolist()]
    assert ids == [
        i
        for pair in encoded[:8]
        for i in pair.chosen.input_ids + pair.rejected.input_ids[pair.rejected.prompt_length :]
    ]
    # transformers reads the size of a batch off its first tensor: two sequences a pair
    assert len(next(iter(batch.values()))) == 16
    (whole,) = pieces(PreferenceCollator(0)(examples))
    assert whole["share"] == 1.0
    assert "packed" not in whole


def test_scores_of_many_pairs_equal_the_plain_ones(tiny_model, encoded) -> None:
    model = load_policy(tiny_model)
    fast = score_packed(model, encoded, 100, progress=False)
    slow = torch.cat(score_pairs(model, encoded, 0, progress=False))
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=0)


def run(tiny_model, pair_file, folder: Path, *words: str) -> dict:
    where = ["--pairs", str(pair_file), "--model", str(tiny_model), "--output_dir", str(folder)]
    short = ["--max_steps", "2", "--max_length", "64", "--sample_prompts", "0"]
    assert main(["train", *where, *short, *words]) == 0
    return json.loads((folder / "run.json").read_text())


def test_the_command_takes_it_where_it_can_and_says_where_not(
    tiny_model, pair_file, cache, tmp_path, capsys
) -> None:
    evaluations = {}
    for name, words, path in (
        ("fast", [], "fast"),
        ("off", ["--fast_path", "off"], "plain: asked for"),
        ("tdpo", ["--loss", "tdpo1"], "plain: tdpo1 reads whole logits"),
    ):
        record = run(tiny_model, pair_file, tmp_path / name, *words)
        assert record["path"] == path
        evaluations[name] = record["evaluation"]
        said = capsys.readouterr().out
        assert ("padded batches, every token's logits" in said) == (path != "fast")
    assert evaluations["fast"]["margin"] == pytest.approx(evaluations["off"]["margin"], abs=1e-3)
    # Packed and padded scores of the reference are two entries of the cache.
    assert len(list(cache.iterdir())) == 4


def test_a_loss_that_reads_logits_is_refused_a_budget(tiny_model, encoded, tmp_path) -> None:
    examples = attach_reference(encoded, score_pairs(load_policy(tiny_model), encoded, 0))
    with pytest.raises(InputError, match="token_budget: the fast path keeps no logits"):
        make_trainer(tiny_model, examples, tmp_path, LossConfig({"wpo": 1.0}), token_budget=100)


def test_losses_that_look_at_their_batch_are_not_split() -> None:
    split = {name for name in LOSSES if LossConfig({name: 1.0}).splittable}
    whole = {"aot", "aot_unpaired", "kto", "beta_dpo", "bco_pair"}
    assert split == set(LOSSES) - whole
    assert LossConfig({"bco_pair": 1.0}, options={"shift": 0.0}).splittable


def test_real_tokenizers_give_pairs_that_share_their_prompt(tiny_model, pair_file) -> None:
    pairs, _ = read_pairs(pair_file)
    encoded, _ = encode_pairs(load_tokenizer(tiny_model), pairs, 20)  # prompts cut from the left
    assert len(list(pieces({"packs": PreferenceCollator(0, 50).tokens(encoded)["packs"]}))) > 3
