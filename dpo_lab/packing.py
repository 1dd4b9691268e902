"""Batches without padding: all sequences in one row, a pair's prompt only once.

A row holds, for each pair, prompt, chosen, rejected. The rejected tokens stand where the chosen
ones stand: their positions go on from the prompt's, and attention lets them see the prompt and
themselves (`segments.py`). So every token has the inputs that it has in a row of its own, and the
prompt is computed once for both answers.

Two pairs, prompts of 2 and 3 tokens:

>>> pairs = [
...     EncodedPair(EncodedResponse([1, 5, 7, 8, 2], 2), EncodedResponse([1, 5, 9, 2], 2)),
...     EncodedPair(EncodedResponse([1, 5, 6, 7, 2], 3), EncodedResponse([1, 5, 6, 8, 2], 3)),
... ]
>>> batch = pack(pairs)
>>> print(batch.input_ids[0].tolist())
[1, 5, 7, 8, 2, 9, 2, 1, 5, 6, 7, 2, 8, 2]
>>> print(batch.position_ids[0].tolist())
[0, 1, 2, 3, 4, 2, 3, 0, 1, 2, 3, 4, 3, 4]
>>> print(batch.targets.tolist(), batch.sequences.tolist())
[7, 8, 2, 9, 2, 7, 2, 8, 2] [0, 0, 0, 2, 2, 1, 1, 3, 3]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn.functional import pad

from dpo_lab.encoded import EncodedPair, EncodedResponse
from dpo_lab.errors import InputError

ROUND = 64  # tokens, where lengths are rounded up


class Segment(NamedTuple):
    """A stretch of a packed row: `prompt` and `chosen` tokens, then `rejected` ones that see the
    prompt and not the chosen. A single sequence has rejected = 0."""

    prompt: int
    chosen: int
    rejected: int


class PackedBatch(NamedTuple):
    """One row of tokens, and which of them predict which response tokens.

    `positions[i]` is the place in the row whose state predicts `targets[i]`, a token of sequence
    `sequences[i]`. Of B pairs the chosen answers are sequences 0 to B - 1, the rejected B to
    2B - 1; B single responses are sequences 0 to B - 1. `lengths`: response tokens of each.
    """

    lengths: Int64[Tensor, "sequences"]
    input_ids: Int64[Tensor, "1 tokens"]
    position_ids: Int64[Tensor, "1 tokens"]
    positions: Int64[Tensor, "targets"]
    targets: Int64[Tensor, "targets"]
    sequences: Int64[Tensor, "targets"]
    segments: tuple[Segment, ...]

    def to(self, device: torch.device | str) -> PackedBatch:
        """The same batch with every tensor on `device`."""
        *tensors, segments = self
        return PackedBatch(*(tensor.to(device) for tensor in tensors), segments)


def pack(encoded: Sequence[EncodedPair] | Sequence[EncodedResponse]) -> PackedBatch:
    """One packed row of pairs, or of single responses.

    Raises `InputError` for no rows, and for a pair whose sides have different prompts.
    """
    if not encoded:
        raise InputError("encoded is empty: there is nothing to pack")
    count = len(encoded)
    ids: list[int] = []
    position_ids: list[int] = []
    positions: list[int] = []
    targets: list[int] = []
    sequences: list[int] = []
    segments = []
    for index, item in enumerate(encoded):
        prompt, answers = _parts(item, index)
        start, before = len(ids), len(prompt)
        ids += prompt
        position_ids += range(before)
        for side, answer in enumerate(answers):
            first = len(ids)
            # The last prompt token predicts the first token of either answer.
            positions += [start + before - 1, *range(first, first + len(answer) - 1)]
            targets += answer
            sequences += [index + side * count] * len(answer)
            ids += answer
            position_ids += range(before, before + len(answer))
        segments.append(Segment(before, *(len(a) for a in answers), *[0] * (2 - len(answers))))
    lengths = torch.bincount(torch.tensor(sequences))
    rows = ([ids], [position_ids], positions, targets, sequences)
    return PackedBatch(lengths, *(torch.tensor(row) for row in rows), tuple(segments))


def rounded(count: int) -> int:
    """The next multiple of `ROUND`."""
    return -(-count // ROUND) * ROUND


def round_up(batch: PackedBatch) -> PackedBatch:
    """Row and targets on to the next multiple of `ROUND`, with tokens that nobody sees.

    What is behind the first `len(batch.targets)` log-probabilities means nothing and is cut off.
    For CPUs in half precision: there a product's kernel is compiled for each new shape.
    """
    tokens, targets = batch.input_ids.shape[1], len(batch.targets)
    behind, more = rounded(tokens) - tokens, rounded(targets) - targets
    return batch._replace(
        input_ids=pad(batch.input_ids, (0, behind)),
        position_ids=pad(batch.position_ids, (0, behind)),
        positions=pad(batch.positions, (0, more)),
        targets=pad(batch.targets, (0, more)),
        segments=(*batch.segments, Segment(behind, 0, 0)) if behind else batch.segments,
    )


def split_by_tokens(
    encoded: Sequence[EncodedPair] | Sequence[EncodedResponse], budget: int
) -> Iterator[range]:
    """Neighbours in groups of at most `budget` packed tokens, as ranges of their numbers.

    One that is longer than that is a group alone. A mean over all is the mean of the groups'
    sums, so micro-batches change no gradient. Raises `InputError` for a budget below 1.
    """
    if budget < 1:
        raise InputError(f"the token budget must be at least 1, got {budget}")
    start, filled = 0, 0
    for index, item in enumerate(encoded):
        size = packed_size(item)
        if filled and filled + size > budget:
            yield range(start, index)
            start, filled = index, 0
        filled += size
    yield range(start, len(encoded))


def packed_size(item: EncodedPair | EncodedResponse) -> int:
    """Tokens that a pair or a response takes in a packed row."""
    if isinstance(item, EncodedPair):
        return len(item.chosen.input_ids) + len(item.rejected.input_ids) - item.chosen.prompt_length
    return len(item.input_ids)


def _parts(item: EncodedPair | EncodedResponse, index: int) -> tuple[list[int], list[list[int]]]:
    sides = tuple(item) if isinstance(item, EncodedPair) else (item,)
    before = sides[0].prompt_length
    prompt = sides[0].input_ids[:before]
    if any(side.input_ids[:before] != prompt or side.prompt_length != before for side in sides):
        raise InputError(f"pair {index}: the two sides have different prompts")
    answers = [side.input_ids[before:] for side in sides]
    if not before or not all(answers):
        raise InputError(f"row {index}: prompt and response need at least one id each")
    return prompt, answers
