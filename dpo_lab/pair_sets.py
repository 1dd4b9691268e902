"""Sets of pairs, or of unpaired examples: split by prompt, and fingerprinted."""

from __future__ import annotations

import hashlib
import json
import random
from array import array
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from dpo_lab.errors import InputError
from dpo_lab.pair_types import PreferencePair, UnpairedExample

Example = TypeVar("Example", PreferencePair, UnpairedExample)


def split_pairs(
    pairs: Sequence[Example], eval_fraction: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Split pairs or unpaired examples into (train, eval); no prompt stands on both sides.

    The order is kept. Whole prompts are drawn in a seeded order while the evaluation side stays
    within `round(eval_fraction * len(pairs))` pairs, and within 1 where that rounds to 0. If
    every prompt has more pairs than that, the prompt with the fewest is taken.

    Raises `InputError` unless `0 < eval_fraction < 1` and there are at least two prompts.
    """
    if not 0 < eval_fraction < 1:
        raise InputError(f"eval_fraction must lie between 0 and 1, not {eval_fraction}")
    numbers = split_numbers(prompt_digests(pairs), eval_fraction, seed)
    train, held_out = ([pairs[i] for i in part] for part in numbers)
    return train, held_out


def split_numbers(digests: np.ndarray, eval_fraction: float, seed: int) -> list[np.ndarray]:
    """`split_pairs` by `prompt_digests` alone: the row numbers of both sides."""
    if not 0 < eval_fraction < 1:
        raise InputError(f"eval_fraction must lie between 0 and 1, not {eval_fraction}")
    _, first, prompt_of, sizes = np.unique(
        digests, return_index=True, return_inverse=True, return_counts=True
    )
    if len(sizes) < 2:
        raise InputError(f"a split needs at least two prompts; there are {len(sizes)}")
    room = max(1, round(eval_fraction * len(digests)))
    prompts = array("q", np.argsort(first).tolist())  # as they are met first
    random.Random(seed).shuffle(prompts)
    is_held_out = np.zeros(len(sizes), dtype=bool)
    for prompt in prompts[1:]:  # One prompt always stays for training.
        if sizes[prompt] <= room:
            is_held_out[prompt] = True
            room -= sizes[prompt]
    if not is_held_out.any():
        is_held_out[min(prompts, key=sizes.__getitem__)] = True
    rows = is_held_out[prompt_of]
    return [np.flatnonzero(~rows), np.flatnonzero(rows)]


def prompt_digests(pairs: Iterable[Example]) -> np.ndarray:
    """16 bytes for each row's prompt (BLAKE2b), to compare prompts that are not in memory.

    A text prompt never equals a conversation.
    """
    digests = bytearray()
    for pair in pairs:
        digests += digest(json.dumps(pair.prompt).encode())
    return as_digests(digests)


def digest(content: bytes) -> bytes:
    """16 bytes that stand for `content`."""
    return hashlib.blake2b(content, digest_size=16).digest()


def as_digests(joined: bytearray) -> np.ndarray:
    """Digests that were written one behind the other, as a vector that can be sorted."""
    return np.frombuffer(bytes(joined), dtype="S16")


def data_hash(pairs: Sequence[Example]) -> str:
    """SHA-256 (hex) of the content of pairs or unpaired examples, in order.

    Each example is hashed as one JSON line, so text cannot move from one field or example to the
    next without changing the hash, and a text prompt never equals a conversation. A margin that
    the data do not have leaves no trace.
    """
    digest = hashlib.sha256()
    for pair in pairs:
        fields = pair[:3] if pair[3:] == (None,) else pair
        digest.update(json.dumps(fields).encode() + b"\n")
    return digest.hexdigest()
