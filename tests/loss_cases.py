"""Pairs with hand-worked numbers, and inputs for every loss, that the tests of losses share."""

from __future__ import annotations

import torch
from torch import Tensor

from dpo_lab.losses import LOSSES, LossSpec, PairLogps


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


LENGTHS = torch.tensor([2, 5, 4]), torch.tensor([3, 6, 7])
# Margins at beta = .1 are 0, 1 and 2.
SATURATED = PairLogps(
    vector(-0.5, -10, -1),
    vector(-0.1, -30, -21),
    vector(-0.5, -10.1, -0.1),
    vector(-0.1, -20.1, -0.1),
    *LENGTHS,
)
# Log-ratios a = .4, -.4, .9 and b = -.3, .6, -.8.
MODERATE = PairLogps(
    vector(-2, -7.5, -4),
    vector(-3, -6, -9),
    vector(-2.4, -7.1, -4.9),
    vector(-2.7, -6.6, -8.2),
    *LENGTHS,
)
TOKEN_INPUTS = LOSSES["ld_dpo"].required_inputs
TABLE_OF = dict(
    zip(
        TOKEN_INPUTS,
        ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected"),
        strict=True,
    )
)


def random_pairs(size: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> PairLogps:
    """Pairs with sums between -20 and 0 and lengths between 1 and 9."""
    generator = torch.Generator().manual_seed(seed)
    sums = -20 * torch.rand(4, size, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, 10, (2, size), generator=generator)
    return PairLogps(*sums.to(dtype), *lengths)


def inputs_for(spec: LossSpec, logps: PairLogps, seed: int = 0) -> dict[str, Tensor]:
    """Every required input of a loss, drawn at random; token tables add up to the sums."""
    generator = torch.Generator().manual_seed(seed + 1)
    given = {}
    for name in spec.required_inputs:
        if name in TABLE_OF:
            given[name] = spread(logps, TABLE_OF[name])
        else:
            draw = torch.rand(len(logps.policy_chosen), generator=generator, dtype=torch.float64)
            given[name] = (draw + 0.5).to(logps.policy_chosen.dtype)
    return given


def spread(logps: PairLogps, field: str) -> Tensor:
    """A table whose tokens share a sum equally, with a wrong number where the response is over."""
    lengths = logps.chosen_lengths if "chosen" in field else logps.rejected_lengths
    sums = getattr(logps, field)
    place = torch.arange(int(lengths.max()) + 1)
    table = (sums / lengths)[:, None].expand(-1, len(place))
    return torch.where(place < lengths[:, None], table, torch.full_like(table, -99.0))


def part(logps: PairLogps, which: slice) -> PairLogps:
    return PairLogps(*(column[which] for column in logps))
