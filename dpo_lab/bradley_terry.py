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
    _check_distinct(torch.stack([winners, losers], -1), items, "pair")
    wins = torch.zeros(items, items, dtype=torch.float64)
    wins.index_put_((winners, losers), torch.ones(len(winners), dtype=wins.dtype), accumulate=True)
    return wins


def log_likelihood(
    rewards: Float[Tensor, "items"], wins: Float[Tensor, "items items"]
) -> Float[Tensor, ""]:
    """Log-likelihood of a table of wins: sum over i, j of wins[i, j] log sigmoid(r_i - r_j).

    Raises `InputError` if the table's sides are not the number of rewards.
    """
    if wins.shape != (len(rewards), len(rewards)):
        raise InputError(f"wins has shape {tuple(wins.shape)} for {len(rewards)} rewards")
    return (wins * F.logsigmoid(rewards[:, None] - rewards[None, :])).sum()


def pair_log_likelihood(
    rewards: Float[Tensor, "items"], winners: Int[Tensor, "pairs"], losers: Int[Tensor, "pairs"]
) -> Float[Tensor, "pairs"]:
    """Log-likelihood of each observed comparison: log sigmoid(r_winner - r_loser).

    Raises `InputError` if an index lies outside the rewards or an item meets itself.
    """
    check_same_shape(winners=winners, losers=losers)
    _check_distinct(torch.stack([winners, losers], -1), len(rewards), "pair")
    return F.logsigmoid(rewards[winners] - rewards[losers])


class BradleyTerryFit(NamedTuple):
    """Maximum-likelihood rewards and what the data do and do not say about them.

    rewards: (items,), each connected component centred at mean 0.
    components: (items,) label of the connected component; differences of rewards across
        components carry no information.
    covariance: (items, items) inverse Fisher information in the centred gauge (with a ridge,
        inverse of information plus ridge); the variance of r_i - r_j (same component) is
        C_ii + C_jj - 2 C_ij.
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
    diagonal, if `ridge` is 0 and no finite maximum exists (some group of items never lost to
    the rest of its component, so its reward runs to infinity), or if `max_iterations` steps
    were not enough.
    """
    if not 0 <= ridge < float("inf"):
        raise InputError(f"ridge must be finite and at least 0, got {ridge}")
    components = connected_components(wins)
    if ridge == 0:
        _check_strongly_connected(wins, components)
    wins = wins.double()
    same = (components[:, None] == components[None, :]).double()
    average = same / same.sum(1)  # the projector on the free constants
    rewards = torch.zeros(len(wins), dtype=torch.float64)
    for iteration in range(1, max_iterations + 1):  # noqa: B007  (reported after the loop)
        invertible, _ = _invertible_information(wins, rewards, average, ridge)
        step = torch.linalg.solve(invertible, _gradient(wins, rewards, ridge))
        rewards = rewards + _damping(wins, rewards, step, ridge) * step
        # Newton's error squares with every step, so what is left after this one is rounding.
        if float(step.abs().max()) < 1e-9 * (1 + float(rewards.abs().max())):
            break
    else:
        raise InputError(f"no convergence in max_iterations={max_iterations} Newton steps")
    rewards = rewards - average @ rewards
    invertible, added = _invertible_information(wins, rewards, average, ridge)
    covariance = torch.linalg.inv(invertible) - added
    value = float(log_likelihood(rewards, wins))
    return BradleyTerryFit(rewards, components, covariance, value, iteration)


def connected_components(wins: Float[Tensor, "items items"]) -> Int[Tensor, "items"]:
    """Label of each item's connected component in the graph of who met whom (0, 1, ...).

    Raises `InputError` if `wins` is not a table of finite counts >= 0 with an empty diagonal.
    """
    _check_wins(wins)
    met = _reachable((wins + wins.T) > 0)
    # Two items of one component reach the same set, so the set's first member names it.
    return torch.unique(met.int().argmax(1), return_inverse=True)[1]


def plackett_luce_log_likelihood(
    rewards: Float[Tensor, "items"], rankings: Int[Tensor, "rankings places"]
) -> Float[Tensor, "rankings"]:
    """Log-likelihood of rankings, best first: sum_k [r_(k) - logsumexp(r_(k), r_(k+1), ...)].

    Plackett 1975; with two places it is `pair_log_likelihood`. Raises `InputError` if a ranking
    names an item twice or one that does not exist.
    """
    _check_distinct(rankings, len(rewards), "ranking")
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
    Raises `InputError` if a pair names an item twice or one that does not exist.
    """
    check_probability(flip_rate, "flip_rate")
    check_finite(rewards=rewards)
    _check_distinct(pairs, len(rewards), "pair")
    generator = torch.Generator().manual_seed(seed)
    first, second = pairs.unbind(-1)
    p = torch.sigmoid(rewards[first] - rewards[second]).double()
    first_wins = torch.rand(len(pairs), generator=generator, dtype=torch.float64) < p
    flipped = torch.rand(len(pairs), generator=generator, dtype=torch.float64) < flip_rate
    first_wins = first_wins ^ flipped
    return torch.where(first_wins, first, second), torch.where(first_wins, second, first)


def _gradient(wins: Tensor, rewards: Tensor, ridge: float) -> Tensor:
    """Wins minus expected wins, as a sum of small terms: 1 - p would lose its last digits."""
    surprise = wins * win_matrix(rewards).T
    return surprise.sum(1) - surprise.sum(0) - ridge * rewards


def _invertible_information(
    wins: Tensor, rewards: Tensor, average: Tensor, ridge: float
) -> tuple[Tensor, Tensor]:
    """Fisher information made invertible, and what that adds to its inverse.

    The information is the Laplacian of the graph of comparisons with weights n_ij p_ij p_ji,
    singular along each component's constant. The gradient has no part there, so a multiple of
    the projector on the constants fixes them without moving the solution; a ridge does it too.
    """
    p = win_matrix(rewards)
    weights = (wins + wins.T) * p * p.T
    laplacian = torch.diag(weights.sum(1)) - weights
    if ridge > 0:
        return laplacian + ridge * torch.eye(len(wins), dtype=wins.dtype), torch.zeros_like(wins)
    size = average @ laplacian.diagonal()  # of one size with the component's own information
    size = torch.where(size > 0, size, 1.0)
    return laplacian + average * size, average / size


def _damping(wins: Tensor, rewards: Tensor, step: Tensor, ridge: float) -> float:
    """The largest 1, 1/2, 1/4, ... with which the step does not lower the goal."""

    def goal(r: Tensor) -> float:
        return float(log_likelihood(r, wins) - 0.5 * ridge * r.square().sum())

    scale, start = 1.0, goal(rewards)
    while goal(rewards + scale * step) < start - 1e-12 * abs(start) and scale > 1e-8:
        scale /= 2
    return scale


def _reachable(edges: Bool[Tensor, "items items"]) -> Bool[Tensor, "items items"]:
    """Whether j can be reached from i along edges, in any number of steps including none."""
    reach = edges | torch.eye(len(edges), dtype=torch.bool)
    for _ in range(max(1, len(edges)).bit_length()):
        reach = (reach.double() @ reach.double()) > 0  # paths twice as long each time
    return reach


def _check_distinct(rows: Tensor, items: int, kind: str) -> None:
    """Raise `InputError` unless every row holds different indices in 0..items-1."""
    outside = (rows < 0) | (rows >= items)
    if bool(outside.any()):
        row, place = outside.nonzero()[0].tolist()
        raise InputError(f"{kind} {row}: item {int(rows[row, place])} is not in 0..{items - 1}")
    ordered = rows.sort(-1).values
    repeated = ordered[:, 1:] == ordered[:, :-1]
    if bool(repeated.any()):
        row, place = repeated.nonzero()[0].tolist()
        raise InputError(f"{kind} {row}: item {int(ordered[row, place])} is compared with itself")


def _check_wins(wins: Tensor) -> None:
    if wins.ndim != 2 or wins.shape[0] != wins.shape[1] or not len(wins):
        raise InputError(f"wins must be a square table of counts, got shape {tuple(wins.shape)}")
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
