"""Shares and rank probabilities with the intervals that belong to them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Float
from torch import Tensor

from dpo_lab.errors import InputError


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


def rank_probability(
    above: Float[Tensor, "goods"],
    below: Float[Tensor, "bads"],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Proportion:
    """P(a random entry of `above` exceeds a random one of `below`), ties one half.

    This is the area under the ROC curve, and the Mann-Whitney statistic over its maximum. The
    95 % interval is a percentile bootstrap that draws both groups anew `draws` times. Raises
    `InputError` if a group is empty.
    """
    if not len(above) or not len(below):
        raise InputError("a rank probability needs an entry on both sides")
    generator = torch.Generator().manual_seed(seed)
    above, below = above.double().cpu(), below.double().cpu()
    resampled = []
    for _ in range(draws):
        picks = (
            group[torch.randint(len(group), (len(group),), generator=generator)]
            for group in (above, below)
        )
        resampled.append(_area(*picks))
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = torch.quantile(torch.tensor(resampled, dtype=torch.float64), ends).tolist()
    return Proportion(_area(above, below), low, high)


def _area(above: Tensor, below: Tensor) -> float:
    order = below.sort().values
    beaten = torch.searchsorted(order, above) + torch.searchsorted(order, above, right=True)
    return beaten.double().mean().item() / (2 * len(below))
