"""The tiny-reviews world: its reward by hand, its labels by frequency."""

from __future__ import annotations

import math
import random
from itertools import islice

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
    stream = reviews._pair_stream(random.Random(0), 0.0)
    assert len(set(islice(stream, 3000))) > 2500
