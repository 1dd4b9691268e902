"""How well implicit rewards rank held-out pairs, with an interval and a baseline beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Literal

import torch
from transformers import PreTrainedModel

from dpo_lab.batching import EncodedPair, encode_pairs, padding_id
from dpo_lab.errors import InputError
from dpo_lab.losses import PairLogps, compute_loss
from dpo_lab.models import load_policy, load_tokenizer
from dpo_lab.pairs import PreferencePair, read_pairs
from dpo_lab.scoring import ScoredPairs, score_pairs


@dataclass(frozen=True)
class Proportion:
    """A share of pairs with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f}  [{self.low:.3f}, {self.high:.3f}]"


def proportion(successes: float | int, total: int, confidence: float = 0.95) -> Proportion:
    """A share and its Wilson score interval (Wilson 1927), which stays inside [0, 1].

    Raises `InputError` unless 0 <= successes <= total and total >= 1.
    """
    if total < 1 or not 0 <= successes <= total:
        raise InputError(f"need 0 <= successes <= total and total >= 1, got {successes}/{total}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    spread = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total**2)) / (1 + z * z / total)
    return Proportion(p, max(0.0, centre - spread), min(1.0, centre + spread))


@dataclass(frozen=True)
class PairEvaluation:
    """Held-out ranking of pairs.

    accuracy: share whose chosen answer has the higher implicit reward; a tie counts one half.
    longer_wins: the same for the rule "the answer with more characters is better".
    margin: mean of the implicit-reward difference, in units of reward (nats times beta).
    logratio_chosen, logratio_rejected: mean log pi/pi_ref in nats.
    """

    pairs: int
    accuracy: Proportion
    longer_wins: Proportion
    ties: int
    margin: float
    logratio_chosen: float
    logratio_rejected: float

    def to_dict(self) -> dict:
        """Plain numbers, ready for JSON."""
        return asdict(self)

    def table(self) -> str:
        """The evaluation as plain text."""
        return "\n".join(
            [
                f"held-out pairs                    {self.pairs}",
                f"implicit reward ranks right       {self.accuracy}",
                f"baseline: the longer answer wins  {self.longer_wins}",
                f"mean margin                       {self.margin:+.3f}",
                f"mean log-ratio of chosen          {self.logratio_chosen:+.3f} nats",
                f"mean log-ratio of rejected        {self.logratio_rejected:+.3f} nats",
                "(brackets: 95 % Wilson intervals; "
                f"ties count one half: {self.ties} of the implicit reward's)",
            ]
        )


@dataclass(frozen=True)
class PairScores:
    """Usable pairs of a source with their log-probabilities under a policy and a reference."""

    pairs: list[PreferencePair]
    lengths: list[tuple[int, int]]
    policy: ScoredPairs
    reference: ScoredPairs

    def rows(self, beta: float) -> Iterator[dict[str, float]]:
        """One dictionary a pair: log-probabilities, implicit rewards, margin, response lengths."""
        columns = zip(*self.policy, *self.reference, self.lengths, strict=True)
        for chosen, rejected, ref_chosen, ref_rejected, lengths in columns:
            rewards = beta * (chosen - ref_chosen), beta * (rejected - ref_rejected)
            yield {
                "logps/chosen": chosen.item(),
                "logps/rejected": rejected.item(),
                "logps_ref/chosen": ref_chosen.item(),
                "logps_ref/rejected": ref_rejected.item(),
                "rewards/chosen": rewards[0].item(),
                "rewards/rejected": rewards[1].item(),
                "rewards/margins": (rewards[0] - rewards[1]).item(),
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
    tokenizer, ref_tokenizer = load_tokenizer(policy), load_tokenizer(reference)
    encoded, encoding = encode_pairs(tokenizer, pairs, max_length)
    if encoding.dropped:
        say(encoding.table())
    if not encoded:
        raise InputError(f"{source}: no pair is left to score")
    if encode_pairs(ref_tokenizer, pairs, max_length)[0] != encoded:
        raise InputError(f"{policy} and {reference} have different tokenizers")
    scored = [
        score_pairs(load_policy(name), encoded, padding_id(tokenizer), batch_size=batch_size)
        for name in (policy, reference)
    ]
    lengths = [tuple(len(r.input_ids) - r.prompt_length for r in pair) for pair in encoded]
    return PairScores([pairs[row] for row in encoding.rows], lengths, *scored)


def evaluate_pairs(
    pairs: Sequence[PreferencePair], policy: ScoredPairs, reference: ScoredPairs, beta: float
) -> PairEvaluation:
    """Rank each pair by implicit reward and by length, and count who is right."""
    chosen = (policy.chosen - reference.chosen).double()
    rejected = (policy.rejected - reference.rejected).double()
    margins = beta * (chosen - rejected)
    lengths = [len(pair.chosen) - len(pair.rejected) for pair in pairs]
    return PairEvaluation(
        pairs=len(pairs),
        accuracy=proportion(_wins(margins.tolist()), len(pairs)),
        longer_wins=proportion(_wins(lengths), len(pairs)),
        ties=int((margins == 0).sum()),
        margin=margins.mean().item(),
        logratio_chosen=chosen.mean().item(),
        logratio_rejected=rejected.mean().item(),
    )


def mean_pair_loss(
    model: PreTrainedModel,
    pairs: Sequence[EncodedPair],
    reference: ScoredPairs,
    pad_id: int,
    *,
    loss: str = "dpo",
    beta: float = 0.1,
    batch_size: int = 16,
    **options: float,
) -> float:
    """Mean preference loss of a model on encoded pairs, without gradient.

    It costs one forward pass over both answers of every pair; `landscape.weight_surface` calls
    it once a grid point.
    """
    scored = score_pairs(model, pairs, pad_id, batch_size=batch_size, progress=False)
    lengths = [
        torch.tensor([len(r.input_ids) - r.prompt_length for r in side])
        for side in zip(*pairs, strict=True)
    ]
    logps = PairLogps(*scored, *reference, *lengths)
    return compute_loss(loss, logps, beta, **options).losses.double().mean().item()


def _wins(differences: Sequence[float | int]) -> float:
    return sum((d > 0) + 0.5 * (d == 0) for d in differences)
