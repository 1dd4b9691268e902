"""Tiny reviews: a small language of short reviews whose true reward is known.

A prompt names a thing ("the soup"); a response is one to three clauses ("was very fresh but it
is not warm"). The reward reads the words as a person would: values of words, turned round by
"not", made stronger by an intensifier, worth little when repeated, and worth nothing where a word
does not fit the thing. Pairs come in unlimited supply, labelled by Bradley-Terry on that reward.
All text is the project's own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from dpo_lab.checks import check_probability
from dpo_lab.errors import InputError
from dpo_lab.pairs import PreferencePair

THINGS = {
    "food": ("soup", "bread", "cake", "tea", "stew", "salad"),
    "show": ("film", "book", "song", "play", "story", "concert"),
    "place": ("hotel", "park", "room", "train", "museum", "garden"),
}
# A word counts only for the kinds of thing it fits; "any" fits all.
VALUES = {
    "any": {
        "superb": 2.0, "lovely": 1.5, "good": 1.0, "fine": 0.3,
        "plain": -0.3, "dull": -1.0, "bad": -1.2, "awful": -2.0,
    },
    "food": {"fresh": 1.0, "tasty": 1.5, "warm": 0.7, "bland": -1.2, "stale": -1.5, "cold": -1.0},
    "show": {"clever": 1.5, "moving": 1.2, "funny": 1.0, "slow": -0.7, "loud": -0.8, "long": -0.5},
    "place": {"quiet": 1.0, "clean": 1.2, "sunny": 0.8, "dirty": -1.5, "noisy": -1.2, "dark": -0.6},
}  # fmt: skip
INTENSIFIERS = {"very": 1.5, "really": 1.4, "quite": 0.8, "a bit": 0.5}
NEGATION = -0.7  # "not superb" is bad, but less so than "superb" is good
REPEATED = 0.3
LINKS = ("and", "but", "so")
KIND = {thing: kind for kind, things in THINGS.items() for thing in things}
WORDS = tuple(word for values in VALUES.values() for word in values)


def true_reward(prompt: str, response: str) -> float:
    """The reward of `response` to `prompt`: the sum over its value words.

    A word's value is multiplied by its intensifier and, after "not", by -0.7; a word said before
    counts 0.3 of its value; a word that does not fit the thing counts nothing. Raises
    `InputError` if the prompt names no known thing.
    """
    kind = _kind_of(prompt)
    values = {**VALUES["any"], **VALUES[kind]}
    total, factor, seen = 0.0, 1.0, set()
    words = response.replace("a bit", "a_bit").split()
    for word in words:
        if word == "not":
            factor *= NEGATION
        elif word.replace("_", " ") in INTENSIFIERS:
            factor *= INTENSIFIERS[word.replace("_", " ")]
        elif word in WORDS:
            total += values.get(word, 0.0) * factor * (REPEATED if word in seen else 1.0)
            seen.add(word)
            factor = 1.0
    return total


def sample_prompt(rng: random.Random) -> str:
    """A thing to review, for example "the soup"."""
    return f"the {rng.choice(tuple(KIND))}"


def sample_response(rng: random.Random, prompt: str) -> str:
    """One to three clauses as the language's speakers say them, before any preference.

    Speakers use fitting words four times out of five. The text starts with a space, so that
    prompt + response reads as one sentence.
    """
    kind = _kind_of(prompt)
    fitting = (*VALUES["any"], *VALUES[kind])
    clauses = []
    for index in range(rng.choice((1, 1, 2, 2, 3))):
        opening = "was" if index == 0 else f"{rng.choice(LINKS)} it is"
        negation = "not " if rng.random() < 0.15 else ""
        intensifier = f"{rng.choice(tuple(INTENSIFIERS))} " if rng.random() < 0.4 else ""
        word = rng.choice(fitting if rng.random() < 0.8 else WORDS)
        clauses.append(f"{opening} {negation}{intensifier}{word}")
    return " " + " ".join(clauses)


def sample_pairs(
    count: int, *, seed: int = 0, flip_rate: float = 0.0, length_bonus: float = 0.0
) -> list[PreferencePair]:
    """`count` pairs of different answers, labelled by Bradley-Terry on `true_reward`.

    The first answer is preferred with probability sigmoid(r_first - r_second); each label is then
    turned round with probability `flip_rate`. `length_bonus`: what the labellers, not the true
    reward, see in each word more. Raises `InputError` if count is below 1, flip_rate outside
    [0, 1) or length_bonus not finite.
    """
    if count < 1:
        raise InputError(f"count must be at least 1, got {count}")
    rng = random.Random(seed)
    voters = Voters(rng, flip_rate, length_bonus)
    pairs: list[PreferencePair] = []
    while len(pairs) < count:
        prompt = sample_prompt(rng)
        pair = voters.choose(prompt, sample_response(rng, prompt), sample_response(rng, prompt))
        if pair is not None:
            pairs.append(pair)
    return pairs


def label_answers(
    prompts: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    *,
    seed: int = 0,
    flip_rate: float = 0.0,
    length_bonus: float = 0.0,
) -> list[PreferencePair]:
    """Pairs of given answers, such as two samples of a policy, labelled as by `sample_pairs`.

    Two equal answers make no pair, so the list may be shorter than what was given. Raises
    `InputError` for lists of different lengths.
    """
    if not len(prompts) == len(first) == len(second):
        raise InputError(
            f"{len(prompts)} prompts, {len(first)} first and {len(second)} second answers"
        )
    voters = Voters(random.Random(seed), flip_rate, length_bonus)
    pairs = [voters.choose(*row) for row in zip(prompts, first, second, strict=True)]
    return [pair for pair in pairs if pair is not None]


class Voters:
    """Labels pairs by chance, as people with this world's taste would."""

    def __init__(self, rng: random.Random, flip_rate: float, length_bonus: float) -> None:
        check_probability(flip_rate, "flip_rate")
        if not math.isfinite(length_bonus):
            raise InputError(f"length_bonus must be finite, got {length_bonus}")
        self._rng, self._flip_rate, self._length_bonus = rng, flip_rate, length_bonus

    def choose(self, prompt: str, first: str, second: str) -> PreferencePair | None:
        """The pair with its label, or None where the two answers are one."""
        if first == second:
            return None
        gap = true_reward(prompt, first) - true_reward(prompt, second)
        gap += self._length_bonus * (len(first.split()) - len(second.split()))
        first_wins = self._rng.random() < 1 / (1 + math.exp(-gap))
        if self._rng.random() < self._flip_rate:
            first_wins = not first_wins
        chosen, rejected = (first, second) if first_wins else (second, first)
        return PreferencePair(prompt, chosen, rejected)


def _kind_of(prompt: str) -> str:
    words = prompt.split()
    kind = KIND.get(words[-1]) if words else None
    if kind is None:
        raise InputError(f"prompt {prompt!r} names no thing of the tiny-reviews world")
    return kind
