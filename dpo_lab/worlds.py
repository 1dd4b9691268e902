"""Worlds whose true reward is known, so that every claim about training can be checked."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Arms(NamedTuple):
    """One prompt with finitely many answers: names, reference log-probabilities, true rewards."""

    names: tuple[str, ...]
    ref_logps: Float[Tensor, "answers"]
    rewards: Float[Tensor, "answers"]


def t8() -> Arms:
    """The book's testbed: eight answers, fixed numbers, float64.

    Every chapter uses it, so that figures share numbers. Its reference mean reward is 0.39,
    the variance 0.8979; the best answer (reward 3) is the rarest (probability 0.02).
    """
    probs = torch.tensor([0.30, 0.20, 0.15, 0.12, 0.09, 0.07, 0.05, 0.02], dtype=torch.float64)
    rewards = torch.tensor([0.0, 1.0, -1.0, 0.5, 2.0, -0.5, 1.5, 3.0], dtype=torch.float64)
    return Arms(tuple("ABCDEFGH"), probs.log(), rewards)
