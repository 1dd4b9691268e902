"""The data of a run: read, told apart into training and held out, encoded, accounted for.

A run has pairs, or unpaired answers with labels; its loss must fit. Text and token ids lie in files
(`disk_rows`), so that a data set may be larger than memory: nothing here holds all rows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from dpo_lab import reviews
from dpo_lab.batching import (
    EncodedPair,
    EncodedResponse,
    EncodingReport,
    encode_pairs,
    encode_responses,
)
from dpo_lab.disk_rows import write_rows
from dpo_lab.errors import InputError
from dpo_lab.lazy_rows import beside, picked
from dpo_lab.losses import LOSSES, find_loss
from dpo_lab.pair_sets import data_hash, prompt_digests, split_numbers
from dpo_lab.pairs import PreferencePair, UnpairedExample, read_examples
from dpo_lab.training.config import TrainConfig
from dpo_lab.training.objective import LossConfig
from dpo_lab.training.write_failures import writing

Say = Callable[[str], None]
Examples = Sequence[PreferencePair] | Sequence[UnpairedExample]
Encoded = Sequence[EncodedPair] | Sequence[EncodedResponse]


@dataclass(frozen=True)
class RunData:
    """Training and held-out examples, and what run.json says about where they came from."""

    train: Examples
    held_out: Examples
    facts: dict[str, Any]

    @property
    def paired(self) -> bool:
        """Whether the examples are pairs."""
        return isinstance(self.train[0], PreferencePair)


@dataclass(frozen=True)
class Part:
    """Usable examples of one part of the data and their token ids, in the same order."""

    examples: Examples
    encoded: Encoded


@dataclass(frozen=True)
class EncodedData:
    """Both parts with their token ids, and what encoding did to them."""

    train: Part
    held_out: Part
    facts: dict[str, Any]

    @property
    def good_answers(self) -> Sequence[EncodedResponse]:
        """What a model made here is tuned on first: chosen answers, or those labelled good."""
        examples, encoded = self.train.examples, self.train.encoded
        if isinstance(encoded[0], EncodedPair):
            return beside(lambda pair: pair.chosen, encoded)
        return picked(encoded, (i for i, example in enumerate(examples) if example.label))


def load_data(config: TrainConfig, folder: Path, say: Say) -> RunData:
    """Read training and held-out examples, from files or from the embedded world.

    folder: where the text is kept while it is in use. Reports through `say`. Raises `InputError`
    for data that the loss cannot be computed on.
    """
    if config.pairs is None:
        world = reviews.sample_pairs(config.world_pairs + config.world_pairs // 5, seed=config.seed)
        train, held_out = world[: config.world_pairs], world[config.world_pairs :]
        reports = {"world": "tiny reviews"}
    else:
        train, reports = _read(config, config.pairs, "train", folder, say)
        if config.eval_pairs is not None:
            held_out, more = _read(config, config.eval_pairs, "held_out", folder, say)
            reports |= more
        else:
            numbers = split_numbers(prompt_digests(train), config.eval_fraction, config.seed)
            train, held_out = (picked(train, part) for part in numbers)
    for name, examples in (("training", train), ("held-out", held_out)):
        if not examples:
            raise InputError(f"{config.pairs}: no {name} examples are left")
        check_fit(config.loss_config(), examples, f"{config.pairs or 'tiny reviews'}, {name}")
    kind = "pairs" if isinstance(train[0], PreferencePair) else "labelled answers"
    say(f"{len(train)} training {kind}, {len(held_out)} held-out {kind}")
    overlap = int(np.isin(prompt_digests(held_out), prompt_digests(train)).sum())
    if overlap and config.pairs is not None:  # tiny reviews has few prompts, and says so
        say(f"careful: {overlap} held-out {kind} have a prompt that is also trained on")
    facts = {
        "kind": kind,
        "held_out_with_seen_prompt": overlap,
        "train_sha256": data_hash(train),
        "held_out_sha256": data_hash(held_out),
        "train_pairs": len(train),
        "held_out_pairs": len(held_out),
        "reports": reports,
    }
    return RunData(train, held_out, facts)


def _read(
    config: TrainConfig, source: str, part: str, folder: Path, say: Say
) -> tuple[Examples, dict[str, dict[str, Any]]]:
    split = config.pairs_split if part == "train" else config.eval_pairs_split
    keep = _keep_in(folder / f"{part}_text.arrow")
    examples, report = read_examples(source, odd=config.odd_rows, split=split, keep=keep)
    if report.odd:
        say(report.table())
    return examples, {part: report.to_dict()}


def _keep_in(file: Path) -> Callable[[Iterator[Any]], Sequence[Any]]:
    def keep(rows: Iterator[Any]) -> Sequence[Any]:
        with writing(file):
            return write_rows(file, rows)

    return keep


def check_fit(losses: LossConfig, examples: Sequence[Any], where: str) -> None:
    """Raise `InputError` where the losses cannot be computed on these examples."""
    if isinstance(examples[0], PreferencePair):
        if "score_difference" in losses.inputs:
            _check_margins(losses, examples, where)
        return
    unable = [name for name in losses.weights if find_loss(name).answers is None]
    if unable or len(losses.weights) > 1:
        able = ", ".join(name for name, spec in LOSSES.items() if spec.answers)
        raise InputError(
            f"{where}: single labelled answers, not pairs; loss {' + '.join(losses.weights)} "
            f"compares two answers of one prompt. One of these can be used: {able}"
        )
    for label, word in ((True, "good"), (False, "bad")):
        if all(example.label is not label for example in examples):
            raise InputError(f"{where}: no answer is labelled {word} ({str(label).lower()})")


def _check_margins(losses: LossConfig, pairs: Sequence[PreferencePair], where: str) -> None:
    names = " + ".join(losses.weights)
    for number, pair in enumerate(pairs, start=1):
        if pair.margin is None:
            raise InputError(
                f"{where}: pair {number} has no margin, nor score_chosen and score_rejected; "
                f"loss {names} needs them"
            )
        if not pair.margin > 0:
            raise InputError(
                f"{where}: pair {number} has margin {pair.margin:g}; loss {names} needs it above 0"
            )


def encode(
    tokenizer: PreTrainedTokenizerBase,
    data: RunData,
    config: TrainConfig,
    folder: Path,
    say: Say,
) -> EncodedData:
    """Token ids of all examples, kept in `folder`; what was dropped or cut is said and recorded."""
    parts, facts = {}, {}
    for name, examples in (("train", data.train), ("held_out", data.held_out)):
        keep = _keep_in(folder / f"{name}_ids.arrow")
        if data.paired:
            encoded, report = encode_pairs(tokenizer, examples, config.max_length, keep)
        else:
            rows = beside(lambda example: example[:2], examples)
            encoded, report = encode_responses(tokenizer, rows, config.max_length, keep)
        facts[name] = report.to_dict()
        _say_encoding(name, report, say)
        if not encoded:
            raise InputError(f"no {name} example fits into max_length {config.max_length}")
        parts[name] = Part(picked(examples, report.rows), encoded)
    return EncodedData(parts["train"], parts["held_out"], facts)


def _say_encoding(name: str, report: EncodingReport, say: Say) -> None:
    counts = (report.prompts_cut, report.boundary_merges, report.special_token_texts)
    if report.dropped or any(counts) or report.unknown_tokens:
        say(f"{name}: {report.table()}")
