"""Bradley-Terry: from rewards to win probabilities, and from wins back to rewards.

The model (Bradley & Terry 1952) gives every item i a real reward r_i and says
P(i beats j) = sigmoid(r_i - r_j). Only differences count, so a fit has one free
constant in every connected component of the graph of comparisons, and it has finite
values only if, inside a component, every item can be reached from every other one
along "has beaten" (Ford 1957; Hunter 2004).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dpo_lab.checks import check_finite, check_probability, check_same_shape
from dpo_lab.errors import InputError


def win_probability(
    chosen_rewards: Float[Tensor, "*shape"], rejected_rewards: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """P(chosen beats rejected) = sigmoid(chosen - rejected).

    Bradley & Terry 1952; Rafailov et al. 2023, eq. 1. Shapes are equal; rewards are in nats.
    """
    check_same_shape(chosen_rewards=chosen_rewards, rejected_rewards=rejected_rewards)
    return torch.sigmoid(chosen_rewards - rejected_rewards)


def win_matrix(rewards: Float[Tensor, "items"]) -> Float[Tensor, "items items"]:
    """P(i beats j) for all i, j: sigmoid(r_i - r_j); the diagonal is 1/2."""
    return torch.sigmoid(rewards[:, None] - rewards[None, :])


def count_wins(
    winners: Int[Tensor, "pairs"], losers: Int[Tensor, "pairs"], items: int
) -> Float[Tensor, "items items"]:
    """Table of counts: entry (i, j) says how often i beat j.

    Raises `InputError` if an index lies outside 0..items-1 or an item meets itself.
    """
    check_same_shape(winners=winners, losers=losers)
    both = torch.cat([winners, losers])
    if both.numel() and not 0 <= int(both.min()) <= int(both.max()) < items:
        raise InputError(f"winners and losers must lie in 0..{items - 1}")
    if bool((winners == losers).any()):
        row = int((winners == losers).nonzero()[0])
        raise InputError(f"pair {row}: item {int(winners[row])} is compared with itself")
    wins = torch.zeros(items, items, dtype=torch.float64)
    wins.index_put_((winners, losers), torch.ones(len(winners), dtype=wins.dtype), accumulate=True)
    return wins


def log_likelihood(
    rewards: Float[Tensor, "items"], wins: Float[Tensor, "items items"]
) -> Float[Tensor, ""]:
    """Log-likelihood of a table of wins: sum over i, j of wins[i, j] log sigmoid(r_i - r_j)."""
    return (wins * F.logsigmoid(rewards[:, None] - rewards[None, :])).sum()


def pair_log_likelihood(
    rewards: Float[Tensor, "items"], winners: Int[Tensor, "pairs"], losers: Int[Tensor, "pairs"]
) -> Float[Tensor, "pairs"]:
    """Log-likelihood of each observed comparison: log sigmoid(r_winner - r_loser)."""
    return F.logsigmoid(rewards[winners] - rewards[losers])


class BradleyTerryFit(NamedTuple):
    """Maximum-likelihood rewards and what the data do and do not say about them.

    rewards: (items,), each connected component centred at mean 0.
    components: (items,) label of the connected component; differences of rewards across
        components carry no information.
    covariance: (items, items) inverse Fisher information in the centred gauge; the variance
        of r_i - r_j (same component) is C_ii + C_jj - 2 C_ij.
    log_likelihood: at the maximum, without the ridge term.
    iterations: Newton steps taken.
    """

    rewards: Float[Tensor, "items"]
    components: Int[Tensor, "items"]
    covariance: Float[Tensor, "items items"]
    log_likelihood: float
    iterations: int


def fit(
    wins: Float[Tensor, "items items"], *, ridge: float = 0.0, max_iterations: int = 100
) -> BradleyTerryFit:
    """Maximum likelihood by damped Newton steps; with `ridge` a Gaussian prior on the rewards.

    Maximises log_likelihood(r, wins) - ridge/2 * sum_i r_i^2. Without a ridge, one constant per
    connected component is free and is fixed by centring. Entries of `wins` may be fractions
    (expected counts).

    Raises `InputError` if `wins` is not a square table of finite counts >= 0 with an empty
    diagonal, or if `ridge` is 0 and no finite maximum exists: some group of items never lost to
    the rest of its component, so its reward runs to infinity.
    """
    _check_wins(wins)
    if ridge < 0:
        raise InputError(f"ridge must be at least 0, got {ridge}")
    components = connected_components(wins)
    if ridge == 0:
        _check_strongly_connected(wins, components)
    wins = wins.double()
    games = wins + wins.T
    # Adding the projector on each component's constant makes the Laplacian invertible
    # without moving the solution, because the gradient has no part along it.
    same = (components[:, None] == components[None, :]).double()
    gauge = (
        same / same.sum(1, keepdim=True) if ridge == 0 else ridge * torch.eye(len(wins)).double()
    )
    rewards = torch.zeros(len(wins), dtype=torch.float64)

    def goal(r: Tensor) -> float:
        return float(log_likelihood(r, wins) - 0.5 * ridge * r.square().sum())

    for iteration in range(1, max_iterations + 1):  # noqa: B007  (reported after the loop)
        p = win_matrix(rewards)
        gradient = wins.sum(1) - (games * p).sum(1) - ridge * rewards
        step = torch.linalg.solve(_laplacian(games, p) + gauge, gradient)
        scale, start = 1.0, goal(rewards)
        while goal(rewards + scale * step) < start - 1e-12 * abs(start) and scale > 1e-8:
            scale /= 2
        rewards = rewards + scale * step
        if float(step.abs().max()) < 1e-13 * (1 + float(rewards.abs().max())):
            break
    information = _laplacian(games, win_matrix(rewards)) + gauge
    covariance = torch.linalg.inv(information) - (gauge if ridge == 0 else 0)
    value = float(log_likelihood(rewards, wins))
    return BradleyTerryFit(rewards, components, covariance, value, iteration)


def connected_components(wins: Float[Tensor, "items items"]) -> Int[Tensor, "items"]:
    """Label of each item's connected component in the graph of who met whom (0, 1, ...)."""
    met = _reachable((wins + wins.T) > 0)
    # Two items of one component reach the same set, so the set's first member names it.
    return torch.unique(met.int().argmax(1), return_inverse=True)[1]


def plackett_luce_log_likelihood(
    rewards: Float[Tensor, "items"], rankings: Int[Tensor, "rankings places"]
) -> Float[Tensor, "rankings"]:
    """Log-likelihood of rankings, best first: sum_k [r_(k) - logsumexp(r_(k), r_(k+1), ...)].

    Plackett 1975; with two places it is `pair_log_likelihood`.
    """
    ranked = rewards[rankings]
    rest = ranked.flip(-1).logcumsumexp(-1).flip(-1)
    return (ranked - rest).sum(-1)


def simulate_votes(
    rewards: Float[Tensor, "items"],
    pairs: Int[Tensor, "pairs 2"],
    *,
    flip_rate: float = 0.0,
    seed: int = 0,
) -> tuple[Int[Tensor, "pairs"], Int[Tensor, "pairs"]]:
    """Winners and losers of simulated comparisons.

    A voter prefers the first item of a pair with probability sigmoid(r_first - r_second);
    afterwards each label is turned round with probability `flip_rate` (in [0, 1)).
    """
    check_probability(flip_rate, "flip_rate")
    check_finite(rewards=rewards)
    generator = torch.Generator().manual_seed(seed)
    first, second = pairs.unbind(-1)
    p = torch.sigmoid(rewards[first] - rewards[second]).double()
    first_wins = torch.rand(len(pairs), generator=generator, dtype=torch.float64) < p
    flipped = torch.rand(len(pairs), generator=generator, dtype=torch.float64) < flip_rate
    first_wins = first_wins ^ flipped
    return torch.where(first_wins, first, second), torch.where(first_wins, second, first)


def _laplacian(games: Tensor, p: Tensor) -> Tensor:
    """Fisher information of the rewards: the graph Laplacian with weights n_ij p_ij p_ji."""
    weights = games * p * p.T
    return torch.diag(weights.sum(1)) - weights


def _reachable(edges: Bool[Tensor, "items items"]) -> Bool[Tensor, "items items"]:
    """Whether j can be reached from i along edges, in any number of steps including none."""
    reach = edges | torch.eye(len(edges), dtype=torch.bool)
    for _ in range(max(1, len(edges)).bit_length()):
        reach = (reach.double() @ reach.double()) > 0  # paths twice as long each time
    return reach


def _check_wins(wins: Tensor) -> None:
    if wins.ndim != 2 or wins.shape[0] != wins.shape[1]:
        raise InputError(f"wins must be a square table, got shape {tuple(wins.shape)}")
    check_finite(wins=wins)
    if bool((wins < 0).any()):
        raise InputError("wins holds a negative count")
    if bool((wins.diagonal() != 0).any()):
        raise InputError("wins has an entry on its diagonal: an item cannot beat itself")


def _check_strongly_connected(wins: Tensor, components: Tensor) -> None:
    beats = _reachable(wins > 0)
    met = components[:, None] == components[None, :]
    gap = (met & ~beats).nonzero()
    if len(gap):
        # Nothing outside the set of items that reach `high` has beaten anything inside it.
        _, high = gap[0].tolist()
        group = beats[:, high].nonzero().flatten().tolist()
        raise InputError(
            f"no finite maximum-likelihood rewards: items {group} never lost to the rest of their "
            "component, so their lead grows without bound; "
            "add comparisons, drop items, or set ridge > 0"
        )
