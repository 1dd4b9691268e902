"""DPO's loss with its expectation taken exactly, and its minimiser.

With finitely many answers, a table of how often each pair is shown and a table of who wins say
everything about the data that unlimited votes would. Minimising over all policies then gives
the KL-regularised optimum, wherever the comparisons connect the answers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dpo_lab import bradley_terry
from dpo_lab.checks import check_beta, check_distribution, check_finite, check_same_shape
from dpo_lab.errors import InputError


def uniform_pairs(answers: int) -> Float[Tensor, "answers answers"]:
    """Each unordered pair of different answers with equal probability (upper triangle)."""
    if answers < 2:
        raise InputError(f"answers must be at least 2 to make a pair, got {answers}")
    upper = torch.ones(answers, answers, dtype=torch.float64).triu(1)
    return upper / upper.sum()


def population_dpo_loss(
    policy_logps: Float[Tensor, "answers"],
    ref_logps: Float[Tensor, "answers"],
    pair_probs: Float[Tensor, "answers answers"],
    win_probs: Float[Tensor, "answers answers"],
    beta: float,
) -> Float[Tensor, ""]:
    """DPO's loss with the expectation over pairs and labels taken exactly.

    pair_probs[i, j] is the probability that answers i and j are shown together (any split over
    (i, j) and (j, i)), win_probs[i, j] that i is then preferred. With implicit rewards
    r_hat = beta log(pi / pi_ref) the loss is the expectation of -log sigmoid(r_hat_w - r_hat_l)
    (Rafailov et al. 2023, eq. 7). Raises `InputError` if a pair outside the reference's support
    has positive probability.
    """
    check_same_shape(ref_logps=ref_logps, policy_logps=policy_logps)
    check_distribution(policy_logps=policy_logps)
    _check_pairs(ref_logps, pair_probs, win_probs)
    check_beta(beta)
    compared = _compared(pair_probs)
    # Answers that are never compared may lie outside the support; they must not poison the sum.
    rewards = torch.where(compared, beta * (policy_logps - ref_logps), 0.0)
    return -bradley_terry.log_likelihood(rewards, _expected_wins(pair_probs, win_probs))


class PopulationFit(NamedTuple):
    """A minimiser of the population loss: log-probabilities, its loss, and how flat it is there."""

    policy_logps: Float[Tensor, "answers"]
    loss: float
    gradient_norm: float


def minimise_population_dpo(
    ref_logps: Float[Tensor, "answers"],
    pair_probs: Float[Tensor, "answers answers"],
    win_probs: Float[Tensor, "answers answers"],
    beta: float,
    *,
    initial_logits: Float[Tensor, "answers"] | None = None,
    max_iterations: int = 500,
) -> PopulationFit:
    """Minimise `population_dpo_loss` over all policies, by L-BFGS from `initial_logits`.

    The start (default: the reference) matters where the comparisons do not connect all answers:
    then many policies share the minimum and the one reached keeps whatever the loss cannot see.
    Raises `InputError` if no finite minimiser exists (a group of answers that always wins).
    """
    _check_pairs(ref_logps, pair_probs, win_probs)
    check_beta(beta)
    bradley_terry.fit(_expected_wins(pair_probs, win_probs))  # raises: minimum at infinity
    start = ref_logps if initial_logits is None else initial_logits
    check_same_shape(ref_logps=ref_logps, initial_logits=start)
    if initial_logits is not None:
        check_finite(initial_logits=initial_logits)
    start = start.detach().double()
    # In these coordinates, theta = start + g / beta, curvature does not depend on beta.
    g = torch.zeros_like(start).requires_grad_()
    optimiser = torch.optim.LBFGS(
        [g],
        max_iter=max_iterations,
        tolerance_grad=1e-15,
        tolerance_change=0.0,
        history_size=50,
        line_search_fn="strong_wolfe",
    )

    def policy() -> Tensor:
        return torch.log_softmax(start + g / beta, -1)

    def loss_at_g() -> Tensor:
        return population_dpo_loss(policy(), ref_logps, pair_probs, win_probs, beta)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = loss_at_g()
        loss.backward()
        return loss

    optimiser.step(closure)
    loss = loss_at_g()
    (gradient,) = torch.autograd.grad(loss, g)
    return PopulationFit(policy().detach(), loss.item(), gradient.norm().item())


def _compared(pair_probs: Tensor) -> Tensor:
    return (pair_probs + pair_probs.T).sum(1) > 0


def _expected_wins(pair_probs: Tensor, win_probs: Tensor) -> Tensor:
    """Expected count of 'i beats j' per comparison drawn."""
    return (pair_probs + pair_probs.T) * win_probs


def _check_pairs(ref_logps: Tensor, pair_probs: Tensor, win_probs: Tensor) -> None:
    check_distribution(ref_logps=ref_logps)
    check_pair_tables(pair_probs, win_probs, ref_logps.shape[-1])
    outside = _compared(pair_probs) & torch.isneginf(ref_logps)
    if bool(outside.any()):
        bad = outside.nonzero().flatten().tolist()
        raise InputError(f"answers {bad} are compared but have reference probability 0")


def check_pair_tables(pair_probs: Tensor, win_probs: Tensor, answers: int) -> None:
    """Raise `InputError` unless the two say how often pairs are shown and who wins."""
    for name, table in (("pair_probs", pair_probs), ("win_probs", win_probs)):
        if tuple(table.shape) != (answers, answers):
            raise InputError(f"{name} must have shape ({answers}, {answers})")
        if bool((table < 0).any()) or not bool(torch.isfinite(table).all()):
            raise InputError(f"{name} must hold finite numbers of at least 0")
    if bool((pair_probs.diagonal() != 0).any()):
        raise InputError("pair_probs has an entry on its diagonal: a pair needs two answers")
    if abs(float(pair_probs.sum()) - 1) > 1e-6:
        raise InputError(f"pair_probs must sum to 1, not {float(pair_probs.sum()):.6g}")
    sums = win_probs + win_probs.T
    used = (pair_probs + pair_probs.T) > 0
    if bool(((sums - 1).abs()[used] > 1e-6).any()):
        raise InputError("win_probs[i, j] + win_probs[j, i] must be 1 wherever a pair is drawn")
