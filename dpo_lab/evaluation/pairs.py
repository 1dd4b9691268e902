"""How well implicit rewards rank held-out pairs, with an interval and a baseline beside it."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import nn

from dpo_lab.batching import EncodedPair
from dpo_lab.evaluation.intervals import Proportion, proportion
from dpo_lab.losses import PairLogps, compute_weighted_loss, find_loss, pair_rewards
from dpo_lab.pairs import PreferencePair
from dpo_lab.scoring import ScoredPairs, score_pairs


@dataclass(frozen=True)
class PairEvaluation:
    """Held-out ranking of pairs.

    reward: what ranks; a loss without a reference has its own (`dpo_lab.losses.pair_rewards`).
    accuracy: share whose chosen answer has the higher reward; a tie counts one half.
    longer_wins: the same for the rule "the answer with more characters is better".
    margin: mean of the implicit-reward difference, in units of reward (nats times beta).
    logratio_chosen, logratio_rejected: mean log pi/pi_ref in nats; None without a reference.
    """

    pairs: int
    reward: Literal["implicit", "own"]
    accuracy: Proportion
    longer_wins: Proportion
    ties: int
    margin: float
    logratio_chosen: float | None
    logratio_rejected: float | None

    def to_dict(self) -> dict:
        """Plain numbers, ready for JSON."""
        return asdict(self)

    def table(self) -> str:
        """The evaluation as plain text."""
        lines = [
            f"held-out pairs                    {self.pairs}",
            f"{self.reward + ' reward ranks right':<34}{self.accuracy}",
            f"baseline: the longer answer wins  {self.longer_wins}",
            f"mean margin                       {self.margin:+.3f}",
        ]
        if self.logratio_chosen is not None:
            lines += [
                f"mean log-ratio of chosen          {self.logratio_chosen:+.3f} nats",
                f"mean log-ratio of rejected        {self.logratio_rejected:+.3f} nats",
            ]
        lines += [
            "(brackets: 95 % Wilson intervals; "
            f"ties count one half: {self.ties} of the {self.reward} reward's)"
        ]
        return "\n".join(lines)


def pair_logps(
    pairs: Sequence[EncodedPair], policy: ScoredPairs, reference: ScoredPairs | None
) -> PairLogps:
    """Log-probabilities of encoded pairs under two models, with the answers' lengths in tokens."""
    lengths = array("q")
    for row in itertools.chain.from_iterable(pairs):
        lengths.append(len(row.input_ids) - row.prompt_length)
    sides = torch.tensor(lengths, dtype=torch.int64).view(len(pairs), 2).unbind(1)
    return PairLogps(*policy, *(reference or (None, None)), *sides)


def evaluate_pairs(
    pairs: Sequence[PreferencePair], logps: PairLogps, beta: float, loss: str = "dpo"
) -> PairEvaluation:
    """Rank each pair by the reward of `loss` and by length, and count who is right."""
    logps = PairLogps(*(None if column is None else column.double() for column in logps))
    chosen, rejected = pair_rewards(loss, logps, beta)
    margins = chosen - rejected
    lengths = [len(pair.chosen) - len(pair.rejected) for pair in pairs]
    has_reference = logps.ref_chosen is not None
    return PairEvaluation(
        pairs=len(pairs),
        reward="implicit" if "reference" in find_loss(loss).needs else "own",
        accuracy=proportion(_wins(margins.tolist()), len(pairs)),
        longer_wins=proportion(_wins(lengths), len(pairs)),
        ties=int((margins == 0).sum()),
        margin=margins.mean().item(),
        logratio_chosen=logps.chosen_logratios.mean().item() if has_reference else None,
        logratio_rejected=logps.rejected_logratios.mean().item() if has_reference else None,
    )


def mean_pair_loss(
    model: nn.Module,
    pairs: Sequence[EncodedPair],
    reference: ScoredPairs | None,
    pad_id: int,
    *,
    loss: str | Mapping[str, float] = "dpo",
    beta: float | None = None,
    batch_size: int = 16,
    **options: float,
) -> float:
    """Mean preference loss of a model on encoded pairs, without gradient.

    loss: a name, or several with their weights. It costs one forward pass over both answers of
    every pair; `landscape.weight_surface` calls it once a grid point.
    """
    scored = score_pairs(model, pairs, pad_id, batch_size=batch_size, progress=False)
    logps = pair_logps(pairs, scored, reference)
    weights = {loss: 1.0} if isinstance(loss, str) else loss
    return compute_weighted_loss(weights, logps, beta, **options).losses.double().mean().item()


def _wins(differences: Sequence[float | int]) -> float:
    return sum((d > 0) + 0.5 * (d == 0) for d in differences)
