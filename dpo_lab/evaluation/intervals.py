"""Shares and rank probabilities with the intervals that belong to them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Float
from torch import Tensor

from dpo_lab.checks import check_same_shape
from dpo_lab.errors import InputError


@dataclass(frozen=True)
class Interval:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f}  [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Proportion(Interval):
    """A share of pairs with its 95 % interval."""


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
    return Proportion(_area(above, below), *_middle(torch.tensor(resampled, dtype=torch.float64)))


def bootstrap(
    statistic: Callable[..., float],
    *columns: Float[Tensor, "pairs"],
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """`statistic(*columns)` and the 95 % percentile interval of a bootstrap over rows (Efron 1979).

    A draw takes the same rows of every column. So two models that were measured on the same
    pairs are compared pair by pair, and the interval of their difference is the one that counts:
    it is narrower than two separate ones suggest where both err on the same pairs. The rows must
    be independent. Raises `InputError` for no columns, and for fewer than two rows.
    """
    if not columns or len(columns[0]) < 2:
        raise InputError("a bootstrap needs a column of at least two rows")
    check_same_shape(**{f"column_{place}": column for place, column in enumerate(columns)})
    generator = torch.Generator().manual_seed(seed)
    rows = len(columns[0])
    drawn = torch.empty(draws, dtype=torch.float64)
    for draw in range(draws):
        picks = torch.randint(rows, (rows,), generator=generator)
        drawn[draw] = float(statistic(*(column[picks] for column in columns)))
    return Interval(float(statistic(*columns)), *_middle(drawn))


def _middle(values: Float[Tensor, "draws"]) -> tuple[float, float]:
    """The ends of the middle 95 % of some draws."""
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = torch.quantile(values, ends).tolist()
    return low, high


def _area(above: Tensor, below: Tensor) -> float:
    order = below.sort().values
    beaten = torch.searchsorted(order, above) + torch.searchsorted(order, above, right=True)
    return beaten.double().mean().item() / (2 * len(below))
