"""What the trainers see of a pair or of a labelled answer, and how a batch is made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dpo_lab.batching import Batch, EncodedPair, EncodedResponse, collate
from dpo_lab.lazy_rows import LazyRows, beside, numbers_of
from dpo_lab.packing import PackedBatch, Segment, pack, split_by_tokens
from dpo_lab.scoring import ScoredPairs

MISMATCHED = "mismatched_"


class PreferenceExample(NamedTuple):
    """One encoded pair and what a loss may need besides.

    ref_*_logps: summed log-probabilities under the reference; None without a reference.
    margin: by how much the chosen answer was scored better; None where the data do not say.
    mismatched: the same prompt with another prompt's answers, for KTO, and their
    log-probabilities under the reference.
    """

    pair: EncodedPair
    ref_chosen_logps: float | None = None
    ref_rejected_logps: float | None = None
    margin: float | None = None
    mismatched: EncodedPair | None = None
    ref_mismatched_logps: tuple[float, float] | None = None


class AnswerExample(NamedTuple):
    """One encoded answer, its label (true: good), and the same besides."""

    answer: EncodedResponse
    label: bool
    ref_logps: float
    mismatched: EncodedResponse | None = None
    ref_mismatched_logps: float | None = None


class Mismatches(NamedTuple):
    """KTO's mismatched rows of all examples, and their log-probabilities under the reference."""

    rows: Sequence[EncodedPair] | Sequence[EncodedResponse]
    ref_logps: Float[Tensor, "rows"]


def attach_reference(
    pairs: Sequence[EncodedPair],
    reference: ScoredPairs | None,
    margins: Sequence[float | None] | None = None,
    mismatches: Mismatches | None = None,
) -> Sequence[PreferenceExample]:
    """Put each pair and what the reference and the data say about it together, in order.

    An example is made when it is asked for. Raises `ValueError` for columns of other lengths.
    """
    nothing = LazyRows(len(pairs), lambda _: None)
    logps, others = (nothing, nothing), (nothing, nothing)
    if reference is not None:
        logps = (numbers_of(reference.chosen), numbers_of(reference.rejected))
    if mismatches is not None:
        both = numbers_of(mismatches.ref_logps.view(2, len(pairs)).T)
        others = (mismatches.rows, beside(tuple, both))
    margins = nothing if margins is None else margins
    return beside(PreferenceExample, pairs, *logps, margins, *others)


def attach_labels(
    answers: Sequence[EncodedResponse],
    labels: Sequence[bool],
    ref_logps: Float[Tensor, "rows"],
    mismatches: Mismatches | None = None,
) -> Sequence[AnswerExample]:
    """The same for labelled answers."""
    nothing = LazyRows(len(answers), lambda _: None)
    others = (nothing, nothing)
    if mismatches is not None:
        others = (mismatches.rows, numbers_of(mismatches.ref_logps))
    return beside(AnswerExample, answers, labels, numbers_of(ref_logps), *others)


class Collator:
    """Turns examples into one batch: padded, or packed in pieces of at most `token_budget` tokens.

    A padded batch has the tensors of `Batch`. A packed one has `lengths` (response tokens of each
    sequence) and `packs`: what `packing.pack` makes of each piece. Then come the columns: one
    number an example.
    """

    def __init__(self, pad_id: int, token_budget: int | None = None) -> None:
        self.pad_id, self.token_budget = pad_id, token_budget

    def tokens(self, encoded: Sequence[EncodedPair] | Sequence[EncodedResponse]) -> dict[str, Any]:
        """The tokens of a batch, without its columns."""
        if self.token_budget is None:
            return collate(encoded, self.pad_id)._asdict()
        groups = split_by_tokens(encoded, self.token_budget)
        packs = [pack([encoded[i] for i in group])._asdict() for group in groups]
        for each in packs:  # plain tuples: the Trainer rebuilds tuples without their names
            each["segments"] = tuple(map(tuple, each["segments"]))
        # First, because transformers takes the first tensor's length for the size of the batch.
        return {"lengths": torch.cat([each["lengths"] for each in packs]), "packs": packs}

    def mismatched(self, examples: Sequence[Any]) -> dict[str, Tensor]:
        """KTO's rows, padded in any case: they are scored without gradient."""
        if examples[0].mismatched is None:
            return {}
        batch = collate([example.mismatched for example in examples], self.pad_id)
        return {MISMATCHED + name: tensor for name, tensor in batch._asdict().items()}


class PreferenceCollator(Collator):
    """Batches of pairs: B chosen sequences, then B rejected ones."""

    def __call__(self, examples: Sequence[PreferenceExample]) -> dict[str, Any]:
        batch = self.tokens([example.pair for example in examples])
        columns = {
            "ref_chosen_logps": [e.ref_chosen_logps for e in examples],
            "ref_rejected_logps": [e.ref_rejected_logps for e in examples],
            "margins": [e.margin for e in examples],
        }
        for name, values in columns.items():
            if None not in values:
                batch[name] = torch.tensor(values)
        batch |= self.mismatched(examples)
        if examples[0].mismatched is not None:
            both = torch.tensor([example.ref_mismatched_logps for example in examples])
            batch["ref_mismatched_logps"] = both.T.flatten()
        return batch


class AnswerCollator(Collator):
    """Batches of labelled answers, one sequence each."""

    def __call__(self, examples: Sequence[AnswerExample]) -> dict[str, Any]:
        batch = self.tokens([example.answer for example in examples])
        batch["answer_labels"] = torch.tensor([example.label for example in examples])
        batch["ref_logps"] = torch.tensor([example.ref_logps for example in examples])
        batch |= self.mismatched(examples)
        if examples[0].mismatched is not None:
            logps = [example.ref_mismatched_logps for example in examples]
            batch["ref_mismatched_logps"] = torch.tensor(logps)
        return batch


def pieces(batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A collated batch as it is; a packed one piece by piece, each with its part of the columns.

    `share` is a piece's part of the examples: a mean over all is the sum of the pieces' means
    times their shares. `examples`: how many it has.
    """
    packs = batch.get("packs")
    if packs is None:
        sides = 1 if "answer_labels" in batch else 2
        yield {**batch, "share": 1.0, "examples": len(batch["input_ids"]) // sides}
        return
    columns = {name: value for name, value in batch.items() if name not in ("packs", "lengths")}
    total, start = sum(len(each["segments"]) for each in packs), 0
    for each in packs:
        part = slice(start, start + len(each["segments"]))
        start = part.stop
        own = columns  # a batch in one piece keeps rows that are not one an example
        if len(packs) > 1:
            own = {name: value[part] for name, value in columns.items()}
        count = len(each["segments"])
        yield {**own, "packed": each, "share": count / total, "examples": count}


def batch_of(inputs: Mapping[str, Any], prefix: str = "") -> Batch:
    """The `Batch` in a collated dictionary, whose names may have a prefix."""
    return Batch(**{name: inputs[prefix + name] for name in Batch._fields})


def packed_of(piece: Mapping[str, Any]) -> PackedBatch | None:
    """The `PackedBatch` in a piece, if there is one."""
    if "packed" not in piece:
        return None
    segments = tuple(Segment(*sizes) for sizes in piece["packed"]["segments"])
    return PackedBatch(**{**piece["packed"], "segments": segments})
