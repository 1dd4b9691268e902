"""Two saved models on a source of pairs: what `dpo-lab score` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from dpo_lab.batching import encode_pairs, padding_id
from dpo_lab.errors import InputError
from dpo_lab.evaluation.pairs import pair_logps
from dpo_lab.losses import PairLogps
from dpo_lab.models import best_device, load_policy, load_tokenizer
from dpo_lab.pairs import PreferencePair, read_pairs
from dpo_lab.scoring import score_pairs


@dataclass(frozen=True)
class PairScores:
    """Usable pairs of a source with their log-probabilities under a policy and a reference."""

    pairs: list[PreferencePair]
    logps: PairLogps

    def rows(self, beta: float) -> Iterator[dict[str, float]]:
        """One dictionary a pair: log-probabilities, implicit rewards, margin, response lengths."""
        columns = zip(*(column.tolist() for column in self.logps), strict=True)
        for chosen, rejected, ref_chosen, ref_rejected, *lengths in columns:
            rewards = beta * (chosen - ref_chosen), beta * (rejected - ref_rejected)
            yield {
                "logps/chosen": chosen,
                "logps/rejected": rejected,
                "logps_ref/chosen": ref_chosen,
                "logps_ref/rejected": ref_rejected,
                "rewards/chosen": rewards[0],
                "rewards/rejected": rewards[1],
                "rewards/margins": rewards[0] - rewards[1],
                "lengths/chosen": lengths[0],
                "lengths/rejected": lengths[1],
            }


def score_source(
    source: str,
    policy: str,
    reference: str,
    *,
    max_length: int = 512,
    batch_size: int = 16,
    odd_rows: Literal["strict", "report"] = "report",
    say: Callable[[str], None] = print,
) -> PairScores:
    """Log-probabilities of all usable pairs of `source` under two saved models.

    `source`, `policy` and `reference` are files, folders or hub names. Rows that cannot be used
    are listed through `say`. Raises `InputError` for unusable files and models, and for two
    models whose tokenizers give the pairs different ids.
    """
    pairs, report = read_pairs(source, odd=odd_rows)
    if report.odd:
        say(report.table())
    return score_examples(
        pairs, policy, reference, max_length=max_length, batch_size=batch_size, say=say
    )


def score_examples(
    pairs: Sequence[PreferencePair],
    policy: str,
    reference: str,
    *,
    max_length: int = 512,
    batch_size: int = 16,
    say: Callable[[str], None] = print,
) -> PairScores:
    """The same for pairs that have been read."""
    tokenizer, ref_tokenizer = load_tokenizer(policy), load_tokenizer(reference)
    encoded, encoding = encode_pairs(tokenizer, pairs, max_length)
    if encoding.dropped:
        say(encoding.table())
    if not encoded:
        raise InputError("no pair is left to score: none fits into max_length")
    if encode_pairs(ref_tokenizer, pairs, max_length)[0] != encoded:
        raise InputError(f"{policy} and {reference} have different tokenizers")
    scored = [
        score_pairs(
            load_policy(name).to(best_device()),
            encoded,
            padding_id(tokenizer),
            batch_size=batch_size,
        )
        for name in (policy, reference)
    ]
    return PairScores([pairs[row] for row in encoding.rows], pair_logps(encoded, *scored))
