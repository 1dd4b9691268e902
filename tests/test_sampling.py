"""Samples come from the model's own distribution: counted against exact probabilities."""

from __future__ import annotations

import copy
import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from dpo_lab.batching import encode_prompt
from dpo_lab.errors import InputError
from dpo_lab.models import load_policy, load_tokenizer
from dpo_lab.sampling import sample_responses


@pytest.fixture(scope="module")
def model(tiny_model: Path):
    return load_policy(tiny_model)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path):
    return load_tokenizer(tiny_model)


def test_first_tokens_are_drawn_as_often_as_the_model_says(model, tokenizer) -> None:
    """A chi-square statistic over the likely first tokens, on two prompts of unlike length."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        model.lm_head.weight.mul_(12)  # a random model is nearly uniform; this one has preferences
    prompts = ["the soup", "the very long garden"]
    samples = sample_responses(
        model,
        tokenizer,
        prompts,
        each=1500,
        max_new_tokens=1,
        seed=3,
        batch_size=500,
        progress=False,
    )
    for number, prompt in enumerate(prompts):
        ids = torch.tensor([encode_prompt(tokenizer, prompt)])
        with torch.no_grad():
            probs = model(ids).logits[0, -1].double().softmax(-1)
        rows = samples.encoded[1500 * number : 1500 * (number + 1)]
        assert all(row.input_ids[: row.prompt_length] == ids[0].tolist() for row in rows)
        counts = Counter(row.input_ids[row.prompt_length] for row in rows)
        likely = (probs * 1500 > 8).nonzero().flatten().tolist()
        assert len(likely) >= 8
        statistic = sum(
            (counts[token] - 1500 * p) ** 2 / (1500 * p)
            for token, p in ((token, probs[token].item()) for token in likely)
        )
        # mean len(likely), variance twice that: five standard deviations
        assert statistic < len(likely) + 5 * math.sqrt(2 * len(likely))


def test_same_seed_same_answers_and_the_callers_randomness_is_left_alone(model, tokenizer) -> None:
    prompts = ["the soup", "the very long garden", "the tea"]
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    one, two, other = (
        sample_responses(model, tokenizer, prompts, max_new_tokens=8, seed=seed, progress=False)
        for seed in (5, 5, 6)
    )
    assert torch.equal(torch.rand(3), expected)
    assert one == two
    assert one.texts != other.texts
    assert one.prompts == prompts


def test_an_answer_ends_with_eos_or_says_that_it_was_cut(model, tokenizer) -> None:
    samples = sample_responses(
        model, tokenizer, ["the soup"], each=60, max_new_tokens=30, seed=0, progress=False
    )
    eos = tokenizer.eos_token_id
    for text, row, ended in zip(samples.texts, samples.encoded, samples.ended, strict=True):
        response = row.input_ids[row.prompt_length :]
        assert response.count(eos) == (1 if ended else 0)
        assert (response[-1] == eos) == ended
        assert ended or len(response) == 30
        assert tokenizer.eos_token not in text
    assert samples.share_cut == pytest.approx(1 - sum(samples.ended) / 60)
    with pytest.raises(InputError, match="need prompts"):
        sample_responses(model, tokenizer, [])
