"""Sets of pairs, or of unpaired examples: split by prompt, and fingerprinted."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from dpo_lab.errors import InputError
from dpo_lab.pair_types import PreferencePair, Prompt, UnpairedExample

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
    sizes = Counter(pair.prompt for pair in pairs)
    if len(sizes) < 2:
        raise InputError(f"a split needs at least two prompts; there are {len(sizes)}")
    room = max(1, round(eval_fraction * len(pairs)))
    prompts = list(sizes)
    random.Random(seed).shuffle(prompts)
    held_out: set[Prompt] = set()
    for prompt in prompts[1:]:  # One prompt always stays for training.
        if sizes[prompt] <= room:
            held_out.add(prompt)
            room -= sizes[prompt]
    held_out = held_out or {min(prompts, key=sizes.__getitem__)}
    train = [pair for pair in pairs if pair.prompt not in held_out]
    return train, [pair for pair in pairs if pair.prompt in held_out]


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
