"""Checkers of chapter 01: win probabilities, the likelihood's gradient, existence, rankings."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dpo_lab.bradley_terry import fit, log_likelihood, win_matrix
from dpo_lab.exercises import NotYet, exercise, require, require_answered

# Exercise "repair": A and B beat each other, so do C and D, and nobody of C, D ever beat A or B.
SPLIT_WINS = torch.tensor(
    [[0, 3, 4, 5], [2, 0, 3, 2], [0, 0, 0, 2], [0, 0, 3, 0]], dtype=torch.float64
)


@exercise("chapter_01.chain")
def check_chain(answer: Any) -> None:
    """P(A beats C) where A beats B and B beats C with probability 0.9 each: 81 / 82."""
    require_answered(answer)
    value = float(answer)

    def said(other: float) -> bool:
        return math.isclose(value, other, rel_tol=5e-3)

    require(not said(0.81), "0.81 multiplies probabilities; Bradley-Terry multiplies odds")
    require(not said(81.0), "81 are the odds of A against C; a probability p has odds p / (1 - p)")
    require(not said(2 * math.log(9)), "4.39 is the gap of the rewards; put it through the sigmoid")
    require(not said(8100 / 82), "give a probability between 0 and 1, not per cent")
    require(0 <= value <= 1, f"{value:g} is no probability")
    require(value > 0.9, "A is as far above B as B is above C, so it must win more than 0.9 of C")
    require(
        abs(value - 0.99) > 5e-4,
        "0.99 multiplies the chances of losing; multiply the odds 9 : 1 with 9 : 1 instead",
    )
    require(abs(value - 81 / 82) < 5e-4, "not quite: add the two gaps, then take the sigmoid")


@exercise("chapter_01.gradient")
def check_gradient(answer: Any) -> None:
    """A function (rewards, wins) -> gradient of the log-likelihood, compared with autograd."""
    generator = torch.Generator().manual_seed(1)
    wins = torch.randint(0, 6, (4, 4), generator=generator).double().fill_diagonal_(0)
    rewards = torch.randn(4, generator=generator, dtype=torch.float64)
    got = answer(rewards.clone(), wins.clone())
    require_answered(got)
    require(isinstance(got, Tensor), f"return a tensor, not {type(got).__name__}")
    require(got.shape == (4,), f"the gradient has shape (4,), one number an item: {got.shape}")
    right = torch.func.grad(log_likelihood)(rewards, wins)
    p = win_matrix(rewards)
    for wrong, hint in (
        (-right, "every sign is turned round: it is observed minus expected wins"),
        (
            wins.sum(1) - (wins * p).sum(1),
            "these are expected wins over the games that i won; count all games of i and j",
        ),
        (
            wins.sum(1) - ((wins + wins.T) * p.T).sum(1),
            "the expected wins use P(j beats i); row i needs P(i beats j)",
        ),
        (right / 4, "the direction is right, but this is a mean; the gradient is a sum"),
    ):
        require(not torch.allclose(got.double(), wrong), hint)
    off = float((got - right).abs().max())
    require(off < 1e-9, f"it differs from autograd's gradient by up to {off:.3g}")


@exercise("chapter_01.repair")
def check_repair(answer: Any) -> None:
    """One comparison (winner, loser) that gives SPLIT_WINS a finite maximum."""
    require_answered(answer)
    try:
        winner, loser = (int(item) for item in answer)
    except (TypeError, ValueError):
        raise NotYet("answer with two numbers, (winner, loser); A is 0 and D is 3") from None
    require(0 <= min(winner, loser) <= max(winner, loser) < 4, "the items are 0, 1, 2 and 3")
    require(winner != loser, "an item cannot meet itself")
    top = {0, 1}
    require(
        (winner in top) != (loser in top),
        "these two have already lost to each other; which group never lost to the other?",
    )
    require(
        winner not in top, "A and B have beaten C and D before; that is what makes them run off"
    )
    wins = SPLIT_WINS.clone()
    wins[winner, loser] += 1
    fit(wins)


@exercise("chapter_01.ranking")
def check_ranking(answer: Any) -> None:
    """A function rewards -> Plackett-Luce probability of the order 0, 1, ..., K - 1."""
    two = torch.tensor([math.log(3), 0.0], dtype=torch.float64)
    three = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64).log()
    five = torch.tensor([0.3, -1.0, 1.2, 0.0, 0.5], dtype=torch.float64)
    for rewards in (two, three, five):
        _check_ranking_of(answer, rewards)


def _check_ranking_of(answer: Any, rewards: Tensor) -> None:
    got = answer(rewards.clone())
    require_answered(got)
    value, items = float(got), len(rewards)
    strengths = rewards.exp()
    right = math.prod(float(strengths[k] / strengths[k:].sum()) for k in range(items))
    p = win_matrix(rewards)
    shares = strengths / strengths.sum()
    adjacent = math.prod(float(p[k, k + 1]) for k in range(items - 1))
    every = math.prod(float(p[i, j]) for i in range(items) for j in range(i + 1, items))
    for wrong, hint in (
        (math.log(right), "this is the log-probability; take its exponential"),
        (float(shares.prod()), "who has been placed no longer competes: leave it out of the sum"),
        (float(shares[0]), "this is the chance that item 0 comes first; go on with the others"),
        (adjacent, "the first must beat all the others at once, not only the next one"),
        (every, "pairwise wins are not independent; draw the places one after the other"),
    ):
        if not math.isclose(wrong, right):
            require(not math.isclose(value, wrong), f"with {items} items: {hint}")
    require(
        math.isclose(value, right, rel_tol=1e-9),
        f"with rewards {[round(r, 3) for r in rewards.tolist()]} the answer is "
        f"{right:.4f}, yours is {value:.4f}",
    )
