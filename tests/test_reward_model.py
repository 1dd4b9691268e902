"""An explicit reward model: read at the right token, fitted by the right likelihood."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dpo_lab.batching import collate, encode_pairs, pair_rows
from dpo_lab.errors import InputError
from dpo_lab.models import load_tokenizer
from dpo_lab.reviews import sample_pairs
from dpo_lab.training.reward_model import (
    RewardModelConfig,
    RewardTrainer,
    batch_rewards,
    build_reward_model,
    score_rewards,
    train_reward_model,
)


def test_the_reward_is_read_at_the_last_response_token(tiny_model: Path, encoded) -> None:
    """One row alone, unpadded, by transformers' own head; and padded with EOS on either side."""
    model = build_reward_model(tiny_model, seed=4)
    rows = pair_rows(encoded[:5])
    with torch.no_grad():
        alone = torch.stack(
            [model.score(model.base_model(torch.tensor([r.input_ids])).last_hidden_state)[0, -1, 0]
             for r in rows]
        )  # fmt: skip
        eos = load_tokenizer(tiny_model).eos_token_id
        for side in ("right", "left"):
            padded = batch_rewards(model, collate(rows, eos, side))
            torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)
    assert alone.std() > 1e-3
    assert torch.allclose(score_rewards(model, rows, 0, batch_size=3, progress=False), alone)
    torch.testing.assert_close(
        alone, score_rewards(build_reward_model(tiny_model, seed=4), rows, 0)
    )


def test_its_loss_is_the_bradley_terry_likelihood(tiny_model: Path, encoded, tmp_path) -> None:
    model = build_reward_model(tiny_model)
    inputs = collate(encoded[:4], 0)._asdict()
    loss = RewardTrainer.compute_loss(None, model, inputs)
    rewards = score_rewards(model, pair_rows(encoded[:4]), 0, progress=False)
    by_hand = torch.log1p(torch.exp(-(rewards[:4] - rewards[4:]))).mean()
    assert loss.item() == pytest.approx(by_hand.item(), abs=1e-6)


@pytest.mark.slow
def test_it_learns_the_true_reward_of_tiny_reviews(tiny_model: Path, tmp_path: Path) -> None:
    """From random weights, on pairs of another seed; guessing gives one half."""
    tokenizer = load_tokenizer(tiny_model)
    pairs, _ = encode_pairs(tokenizer, sample_pairs(1500, seed=5), 64)
    held_out, _ = encode_pairs(tokenizer, sample_pairs(400, seed=6), 64)
    model = build_reward_model(tiny_model)
    config = RewardModelConfig(num_train_epochs=3.0, learning_rate=3e-3)
    train_reward_model(model, pairs, 0, config, tmp_path, disable_tqdm=True, use_cpu=True)
    chosen, rejected = score_rewards(model, pair_rows(held_out), 0, progress=False).chunk(2)
    assert (chosen > rejected).double().mean() > 0.65


def test_what_has_no_such_head_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no reward model could be made"):
        build_reward_model(tmp_path)
