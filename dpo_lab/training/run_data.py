"""The pairs of a run: read, told apart into training and held out, encoded, and accounted for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from dpo_lab import reviews
from dpo_lab.batching import EncodedPair, EncodingReport, encode_pairs
from dpo_lab.errors import InputError
from dpo_lab.pairs import PreferencePair, data_hash, read_pairs, split_pairs
from dpo_lab.training.config import TrainConfig

Say = Callable[[str], None]


@dataclass(frozen=True)
class PairData:
    """Training and held-out pairs, and what run.json says about where they came from."""

    train: list[PreferencePair]
    held_out: list[PreferencePair]
    facts: dict[str, Any]


@dataclass(frozen=True)
class EncodedData:
    """Token ids of the usable pairs; `held_out_pairs` are the texts of the held-out ones."""

    train: list[EncodedPair]
    held_out: list[EncodedPair]
    held_out_pairs: list[PreferencePair]
    facts: dict[str, Any]


def load_pairs(config: TrainConfig, say: Say) -> PairData:
    """Read training and held-out pairs, from files or from the embedded world, and report them."""
    if config.pairs is None:
        world = reviews.sample_pairs(config.world_pairs + config.world_pairs // 5, seed=config.seed)
        train_pairs, held_out = world[: config.world_pairs], world[config.world_pairs :]
        reports = {"world": "tiny reviews"}
    else:
        train_pairs, report = read_pairs(config.pairs, odd=config.odd_rows)
        reports = {"train": report.to_dict()}
        if report.odd:
            say(report.table())
        if config.eval_pairs is not None:
            held_out, report = read_pairs(config.eval_pairs, odd=config.odd_rows, split="test")
            reports["held_out"] = report.to_dict()
            if report.odd:
                say(report.table())
        else:
            train_pairs, held_out = split_pairs(train_pairs, config.eval_fraction, config.seed)
    for name, pairs in (("training", train_pairs), ("held-out", held_out)):
        if not pairs:
            raise InputError(f"{config.pairs}: no {name} pairs are left")
    say(f"{len(train_pairs)} training pairs, {len(held_out)} held-out pairs")
    seen = {pair.prompt for pair in train_pairs}
    overlap = sum(pair.prompt in seen for pair in held_out)
    if overlap and config.pairs is not None:  # tiny reviews has few prompts, and says so
        say(f"careful: {overlap} held-out pairs have a prompt that is also trained on")
    facts = {
        "held_out_with_seen_prompt": overlap,
        "train_sha256": data_hash(train_pairs),
        "held_out_sha256": data_hash(held_out),
        "train_pairs": len(train_pairs),
        "held_out_pairs": len(held_out),
        "reports": reports,
    }
    return PairData(train_pairs, held_out, facts)


def encode(
    tokenizer: PreTrainedTokenizerBase, data: PairData, config: TrainConfig, say: Say
) -> EncodedData:
    """Token ids of all pairs; what was dropped or cut is said and recorded."""
    encoded, facts = {}, {}
    for name, pairs in (("train", data.train), ("held_out", data.held_out)):
        encoded[name], report = encode_pairs(tokenizer, pairs, config.max_length)
        facts[name] = report.to_dict()
        _say_encoding(name, report, say)
        if not encoded[name]:
            raise InputError(f"no {name} pair fits into max_length {config.max_length}")
    kept = [data.held_out[row] for row in report.rows]
    return EncodedData(encoded["train"], encoded["held_out"], kept, facts)


def _say_encoding(name: str, report: EncodingReport, say: Say) -> None:
    counts = (report.prompts_cut, report.boundary_merges, report.special_token_texts)
    if report.dropped or any(counts) or report.unknown_tokens:
        say(f"{name}: {report.table()}")
