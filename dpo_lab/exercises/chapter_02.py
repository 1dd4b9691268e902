"""Checkers for chapter 02, the KL-regularised optimum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dpo_lab import boltzmann
from dpo_lab.exercises import exercise, require, require_answered
from dpo_lab.worlds import t8

LIMIT_ANSWERS = 5
LIMIT_REF = (0.4, 0.3, 0.15, 0.15, 0.0)
LIMIT_REWARDS = (1.0, 2.0, 2.0, 0.0, 5.0)


@exercise("chapter_02.optimum")
def check_optimum(my_optimal_policy: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """my_optimal_policy(ref_logits, rewards, beta) -> log-probabilities of pi*."""
    world = t8()
    logits, rewards, beta = world.ref_logps + 3.0, world.rewards, 0.5
    right = boltzmann.optimal_policy(world.ref_logps, rewards, beta)
    answer = _tensor(my_optimal_policy(logits, rewards, beta), "log-probabilities", right.shape)
    _name_optimum_mistake(answer, right, logits, rewards, beta)
    require(_close(answer, right), "at beta = 0.5 these are not the log-probabilities of pi*")
    both = torch.stack([logits, logits.flip(0)]), torch.stack([rewards, rewards])
    answer = _tensor(my_optimal_policy(*both, beta), "log-probabilities", both[0].shape)
    right = boltzmann.optimal_policy(torch.log_softmax(both[0], -1), both[1], beta)
    require(
        _close(answer, right),
        "right for one prompt, wrong for two in a batch: normalise over the last dimension",
    )
    answer = _tensor(my_optimal_policy(logits, rewards, 1e-3), "log-probabilities", rewards.shape)
    require(
        not bool(answer.isnan().any() | answer.isposinf().any()),
        "right at beta = 0.5, but NaN or infinite at beta = 0.001, where exp(r / beta) overflows; "
        "stay in logarithms: add r / beta to the logits and use log_softmax",
    )
    right = boltzmann.optimal_policy(world.ref_logps, rewards, 1e-3)
    require(
        _close(answer, right),
        "right at beta = 0.5, but at beta = 0.001 small probabilities are lost (their logarithm "
        "is finite); stay in logarithms: log_softmax instead of the log of a softmax",
    )


def _name_optimum_mistake(
    answer: Tensor, right: Tensor, logits: Tensor, rewards: Tensor, beta: float
) -> None:
    """Raise the hint that fits a well-known slip."""
    slips = {
        "these are the probabilities; log-probabilities are asked for": right.exp(),
        "the reference is missing: this is softmax(r / beta)": torch.log_softmax(rewards / beta, 0),
        "r is multiplied by beta; divide": torch.log_softmax(logits + beta * rewards, 0),
        "beta is missing: r counts as it is": torch.log_softmax(logits + rewards, 0),
        "beta divides the logits too; it tilts by r / beta and leaves the reference as it is": (
            torch.log_softmax((logits + rewards) / beta, 0)
        ),
    }
    for hint, slip in slips.items():
        require(not _close(answer, slip), hint)
    off = answer - right
    require(
        bool((off - off[0]).abs().max() > 1e-6) or _close(answer, right),
        "right up to a constant: the probabilities do not sum to 1, so log Z is missing "
        "(the logits are not normalised either)",
    )


@exercise("chapter_02.budget")
def check_budget(my_beta: Callable[[Tensor, Tensor, float], float]) -> None:
    """my_beta(ref_logps, rewards, budget) -> the beta whose optimum spends exactly `budget`."""
    world = t8()
    budgets = (0.01, 0.5, 1.823, 3.5)
    betas = []
    for budget in budgets:
        beta = my_beta(world.ref_logps, world.rewards, budget)
        require_answered(beta)
        betas.append(float(beta))
        require(
            betas[-1] > 0, f"for a budget of {budget} your beta is {betas[-1]:.4g}, not above 0"
        )
    for budget, beta in zip(budgets, betas, strict=True):
        _check_spent(world.ref_logps, world.rewards, budget, beta, constant=len(set(betas)) == 1)
    flipped = world.rewards.flip(0) * 10
    _check_spent(world.ref_logps, flipped, 0.3, float(my_beta(world.ref_logps, flipped, 0.3)))


def _check_spent(
    ref_logps: Tensor, rewards: Tensor, budget: float, beta: float, *, constant: bool = False
) -> None:
    """Raise a hint unless the optimum at `beta` has KL `budget`."""
    policy = boltzmann.optimal_policy(ref_logps, rewards, beta)
    inverse = boltzmann.optimal_policy(ref_logps, rewards, 1 / beta)
    spent = float(boltzmann.kl(policy, ref_logps))
    if abs(spent - budget) < 1e-3 * budget:
        return
    require(not constant, "your beta is the same for every budget; KL must decide where to go")
    slips = {
        "your beta meets the budget with KL(pi_ref || pi*); the budget is on KL(pi* || pi_ref)": (
            boltzmann.kl(ref_logps, policy)
        ),
        "this is 1 / beta; beta is asked for": boltzmann.kl(inverse, ref_logps),
    }
    for hint, slip in slips.items():
        require(abs(float(slip) - budget) > 1e-3 * budget, hint)
    require(
        False,
        f"for a budget of {budget} nats your beta = {beta:.4g} spends {spent:.4g}. KL falls as "
        "beta grows: too much KL means beta must grow. If that is what you do, start from a wider "
        "bracket, halve it on a logarithmic scale, or halve it more often",
    )


@exercise("chapter_02.limit")
def check_limit(my_limit: Any) -> None:
    """my_limit: five probabilities of the policy as beta goes to 0."""
    require_answered(my_limit)
    answer = _tensor(my_limit, "probabilities", (LIMIT_ANSWERS,))
    require(bool((answer >= 0).all()), "a probability is negative")
    require(abs(float(answer.sum()) - 1) < 0.02, f"they sum to {float(answer.sum()):.3f}, not to 1")
    hints = {
        "the last answer has the highest reward, but the reference never gives it, and "
        "0 times exp(r / beta) is 0": (0, 0, 0, 0, 1),
        "the two best answers tie, but they do not share equally: exp(r / beta) is the same for "
        "both, so the reference decides": (0, 0.5, 0.5, 0, 0),
        "two answers tie for the best reward; the less likely of them keeps a share": (
            (0, 1, 0, 0, 0)
        ),
        "this is the other end: the reference is the limit of large beta": LIMIT_REF,
    }
    for hint, slip in hints.items():
        require(not _close(answer, torch.tensor(slip, dtype=torch.float64), 0.01), hint)
    ref = torch.tensor(LIMIT_REF, dtype=torch.float64).log()
    rewards = torch.tensor(LIMIT_REWARDS, dtype=torch.float64)
    right = boltzmann.limit_policies(ref, rewards).beta_to_zero.exp()
    require(
        _close(answer, right, 0.01),
        "no: first drop what the reference never gives, then keep only the best of the rest",
    )


@exercise("chapter_02.regret")
def check_regret(my_regret: Callable[[Tensor, Tensor, Tensor, float], tuple[Any, Any]]) -> None:
    """my_regret(policy_logps, ref_logps, rewards, beta) -> (J(pi*) - J(pi), beta KL(pi || pi*))."""
    world = t8()
    ref, rewards, beta = world.ref_logps, world.rewards, 0.5
    policy = torch.log_softmax(torch.arange(8, dtype=torch.float64).cos(), -1)
    best = boltzmann.optimal_policy(ref, rewards, beta)
    right = float(beta * boltzmann.kl(policy, best))
    answer = my_regret(policy, ref, rewards, beta)
    require_answered(answer)
    require(len(answer) == 2, "return two numbers: the difference of J, and beta times a KL")
    for each in answer:
        require_answered(each)
    by_objective, by_kl = (float(each) for each in answer)
    value = float(boltzmann.objective(policy, ref, rewards, beta))
    log_z = float(boltzmann.log_partition(ref, rewards, beta))
    _name_slip(
        by_objective,
        {
            "the first number has the wrong sign: J(pi*) is the larger one": -right,
            "the first number uses log Z for J(pi*); the value is beta log Z": log_z - value,
        },
    )
    require(abs(by_objective - right) < 1e-6, "the first number is not J(pi*) - J(pi)")
    _name_slip(
        by_kl,
        {
            "the second number lacks the factor beta": right / beta,
            "the second number is beta KL(pi* || pi); the policy comes first": float(
                beta * boltzmann.kl(best, policy)
            ),
            "the second number measures from the reference; measure from pi*": float(
                beta * boltzmann.kl(policy, ref)
            ),
        },
    )
    require(abs(by_kl - right) < 1e-6, "the second number is not beta KL(pi || pi*)")


def _name_slip(value: float, slips: dict[str, float]) -> None:
    for hint, slip in slips.items():
        require(abs(value - slip) > 1e-6, hint)


def _tensor(answer: Any, what: str, shape: Sequence[int]) -> Tensor:
    """The reader's answer as float64, or a hint about its shape."""
    require_answered(answer)
    answer = torch.as_tensor(answer, dtype=torch.float64).detach()
    require(
        tuple(answer.shape) == tuple(shape),
        f"expected {what} of shape {tuple(shape)}, got {tuple(answer.shape)}",
    )
    return answer


def _close(answer: Tensor, other: Tensor, tolerance: float = 1e-6) -> bool:
    return bool(torch.allclose(answer, other, rtol=tolerance, atol=tolerance))
