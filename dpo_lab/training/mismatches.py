"""KTO's mismatched rows: prompts with answers that belong to other prompts."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence

import numpy as np

from dpo_lab.encoded import EncodedPair, EncodedResponse
from dpo_lab.errors import InputError
from dpo_lab.lazy_rows import LazyRows, beside
from dpo_lab.pair_sets import as_digests, digest


def mismatched_rows(
    rows: Sequence[EncodedResponse], max_length: int, seed: int
) -> Sequence[EncodedResponse]:
    """Each row's prompt with the response of another row that has another prompt.

    KTO's reference point is measured on such rows. The partner is the next one with another
    prompt in an order drawn by `seed`, so it does not depend on how batches are shuffled. A
    prompt that leaves too little room loses tokens on the left, behind its first one. Partners
    are held, 8 bytes a row; a row is made when it is asked for. Raises `InputError` where all
    prompts are the same.
    """
    partner = _partners(_prompt_numbers(rows), seed)

    def row(number: int) -> EncodedResponse:
        own, other = rows[number], rows[partner[number]]
        response = other.input_ids[other.prompt_length :]
        prompt = own.input_ids[: own.prompt_length]
        room = max_length - len(response)
        if len(prompt) > room:
            prompt = prompt[:1] + prompt[len(prompt) - room + 1 :]
        return EncodedResponse([*prompt, *response], len(prompt))

    return LazyRows(len(rows), row)


def mismatched_pairs(
    pairs: Sequence[EncodedPair], max_length: int, seed: int
) -> Sequence[EncodedPair]:
    """`mismatched_rows` of the chosen and of the rejected answers, with the same partners."""
    sides = [LazyRows(len(pairs), lambda i, side=side: pairs[i][side]) for side in (0, 1)]
    return beside(EncodedPair, *(mismatched_rows(side, max_length, seed) for side in sides))


def _prompt_numbers(rows: Sequence[EncodedResponse]) -> np.ndarray:
    """A number for each row's prompt, the same for the same prompt."""
    digests = bytearray()
    for row in rows:
        digests += digest(array("q", row.input_ids[: row.prompt_length]).tobytes())
    return np.unique(as_digests(digests), return_inverse=True)[1]


def _partners(prompts: np.ndarray, seed: int) -> array:
    """The partner of each row."""
    if len(np.unique(prompts)) < 2:
        raise InputError("KTO needs answers to at least two different prompts")
    order = array("q", range(len(prompts)))
    random.Random(seed).shuffle(order)
    partner = array("q", bytes(8 * len(order)))
    following = _next_with_another_prompt(array("q", prompts[np.asarray(order)].tobytes()))
    for place, row in enumerate(order):
        partner[row] = order[following[place]]
    return partner


def _next_with_another_prompt(prompts: Sequence[int]) -> array:
    """For each place of a circle, the next place whose prompt differs."""
    size = len(prompts)
    following = array("q", bytes(8 * size))
    last = next(i for i in range(size) if prompts[i] != prompts[0])
    # Backwards over the circle, from behind the first change of prompt, which has a known partner.
    following[last - 1] = last
    for step in range(1, size):
        place = (last - 1 - step) % size
        after = (place + 1) % size
        following[place] = after if prompts[after] != prompts[place] else following[after]
    return following
