"""The tiny-reviews world: its reward by hand, its labels by frequency."""

from __future__ import annotations

import math
import random

import pytest

from dpo_lab import reviews
from dpo_lab.errors import InputError


@pytest.mark.parametrize(
    ("prompt", "response", "expected"),
    [
        ("the soup", " was fresh", 1.0),
        ("the soup", " was very fresh", 1.5),
        ("the soup", " was not fresh", -0.7),
        ("the soup", " was not very fresh", -1.05),
        ("the soup", " was a bit fresh", 0.5),
        ("the soup", " was fresh and it is fresh", 1.0 + 0.3),
        ("the soup", " was clever", 0.0),  # a word for shows, not for food
        ("the film", " was clever", 1.5),
        ("the hotel", " was superb but it is really dirty", 2.0 - 1.5 * 1.4),
        ("the hotel", " was not awful", 1.4),
        ("the hotel", "", 0.0),
    ],
)
def test_reward_by_hand(prompt: str, response: str, expected: float) -> None:
    assert reviews.true_reward(prompt, response) == pytest.approx(expected, abs=1e-12)


def test_a_prompt_outside_the_world_is_an_error() -> None:
    for prompt in ("the moon", ""):
        with pytest.raises(InputError, match="names no thing"):
            reviews.true_reward(prompt, " was good")


def test_every_word_the_speakers_use_is_understood() -> None:
    rng = random.Random(0)
    known = {*reviews.WORDS, *reviews.LINKS, "was", "it", "is", "not", "a", "bit"}
    known |= set(reviews.INTENSIFIERS)
    for _ in range(500):
        prompt = reviews.sample_prompt(rng)
        assert set(reviews.sample_response(rng, prompt).split()) <= known


def test_the_same_seed_gives_the_same_pairs_and_a_longer_list_begins_alike() -> None:
    first, again = reviews.sample_pairs(50, seed=3), reviews.sample_pairs(80, seed=3)
    assert first == again[:50]
    assert first != reviews.sample_pairs(50, seed=4)
    assert all(pair.chosen != pair.rejected for pair in first)


@pytest.mark.parametrize("flip_rate", [0.0, 0.3])
def test_labels_follow_bradley_terry(flip_rate: float) -> None:
    """Agreement with the better answer, expected from each pair's own reward gap."""
    gaps = [
        reviews.true_reward(p.prompt, p.chosen) - reviews.true_reward(p.prompt, p.rejected)
        for p in reviews.sample_pairs(6000, seed=1, flip_rate=flip_rate)
    ]
    clear = [gap for gap in gaps if gap != 0]
    clean = [1 / (1 + math.exp(-abs(gap))) for gap in clear]
    expected = sum((1 - flip_rate) * p + flip_rate * (1 - p) for p in clean) / len(clear)
    observed = sum(gap > 0 for gap in clear) / len(clear)
    assert observed == pytest.approx(expected, abs=3 * 0.5 / math.sqrt(len(clear)))


@pytest.mark.parametrize("arguments", [{"count": 0}, {"count": 5, "flip_rate": 1.0}])
def test_bad_arguments(arguments: dict) -> None:
    with pytest.raises(InputError):
        reviews.sample_pairs(**arguments)


def test_pairs_come_without_end() -> None:
    assert len(set(reviews.sample_pairs(3000))) > 2500


def test_labellers_who_like_length_follow_it_at_the_rate_that_bradley_terry_gives() -> None:
    pairs = reviews.sample_pairs(6000, seed=2, length_bonus=0.5)
    gaps, longer_wins = [], 0
    for p in pairs:
        words = len(p.chosen.split()) - len(p.rejected.split())
        true = reviews.true_reward(p.prompt, p.chosen) - reviews.true_reward(p.prompt, p.rejected)
        gaps.append(true + 0.5 * words)
        longer_wins += words > 0
    expected = sum(1 / (1 + math.exp(-abs(gap))) for gap in gaps) / len(gaps)
    observed = sum(gap > 0 for gap in gaps) / len(gaps)
    assert observed == pytest.approx(expected, abs=0.02)
    plain = reviews.sample_pairs(6000, seed=2)
    fair = sum(len(p.chosen.split()) > len(p.rejected.split()) for p in plain)
    assert longer_wins > fair + 600


def test_given_answers_are_labelled_and_equal_ones_make_no_pair() -> None:
    prompts = ["the soup", "the film", "the park"] * 400
    first = [" was superb", " was dull", " was clean"] * 400
    second = [" was awful", " was dull", " was dirty"] * 400
    pairs = reviews.label_answers(prompts, first, second, seed=1)
    assert len(pairs) == 800
    soup = [p.chosen == " was superb" for p in pairs if p.prompt == "the soup"]
    # a gap of 4: sigmoid(4) = .982
    assert sum(soup) / len(soup) == pytest.approx(0.982, abs=0.025)
    assert pairs == reviews.label_answers(prompts, first, second, seed=1)
    with pytest.raises(InputError, match="1 prompts, 0 first"):
        reviews.label_answers(["the soup"], [], [])
    with pytest.raises(InputError, match="length_bonus"):
        reviews.sample_pairs(3, length_bonus=math.inf)
