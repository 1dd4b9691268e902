"""The KL-regularised problem on finitely many answers, solved exactly.

For one prompt with A answers, a reference policy and rewards, the objective
J(pi) = E_pi[r] - beta KL(pi || pi_ref) is maximised over all policies by
pi*(y) = pi_ref(y) exp(r(y) / beta) / Z (Rafailov et al. 2023, eq. 4; Peters et al. 2010).

Policies are log-probabilities with answers in the last dimension and any number of leading
dimensions for prompts. `beta` is a number, or a tensor of the leading shape. An answer whose
reference probability is exactly 0 (log-probability -inf) stays at 0. Everything is in nats.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dpo_lab.checks import (
    check_beta,
    check_distribution,
    check_finite,
    check_logps,
    check_same_shape,
)
from dpo_lab.errors import InputError
from dpo_lab.population import (
    PopulationFit,
    minimise_population_dpo,
    population_dpo_loss,
    uniform_pairs,
)

__all__ = [
    "Cumulants",
    "Frontier",
    "LimitPolicies",
    "PopulationFit",
    "entropy",
    "expected_reward",
    "frontier",
    "implicit_reward",
    "kl",
    "limit_policies",
    "log_partition",
    "minimise_population_dpo",
    "objective",
    "optimal_policy",
    "population_dpo_loss",
    "reward_cumulants",
    "uniform_pairs",
]

Logps = Float[Tensor, "*prompts answers"]
PerPrompt = Float[Tensor, "*prompts"]


def log_partition(ref_logps: Logps, rewards: Logps, beta: float | Tensor) -> PerPrompt:
    """log Z = log sum_y pi_ref(y) exp(r(y) / beta).

    beta * log Z is the optimal value V* = J(pi*): the most that any policy can reach.
    Raises `InputError` for beta <= 0, shapes that differ, rewards that are not finite
    floating-point numbers, or `ref_logps` that is no distribution.
    """
    tilted, top = _tilt(ref_logps, rewards, beta)
    return torch.logsumexp(tilted, -1) + top / beta


def optimal_policy(ref_logps: Logps, rewards: Logps, beta: float | Tensor) -> Logps:
    """Log-probabilities of pi*(y) = pi_ref(y) exp(r(y) / beta) / Z (Rafailov et al. 2023, eq. 4).

    Raises `InputError` as `log_partition` does.
    """
    tilted, _ = _tilt(ref_logps, rewards, beta)
    return torch.log_softmax(tilted, -1)


def implicit_reward(policy_logps: Logps, ref_logps: Logps, beta: float | Tensor) -> Logps:
    """beta * log(pi / pi_ref): the reward, up to a constant per prompt, that pi is optimal for.

    Rafailov et al. 2023, eq. 5 without its beta log Z. It is +inf where only the reference is 0,
    -inf where only the policy is 0, and NaN where both are: there it is not defined.
    """
    check_same_shape(policy_logps=policy_logps, ref_logps=ref_logps)
    check_logps(policy_logps=policy_logps, ref_logps=ref_logps)
    _check_beta_for(policy_logps, beta)
    return _per_answer(beta) * (policy_logps - ref_logps)


def expected_reward(policy_logps: Logps, rewards: Logps) -> PerPrompt:
    """E_pi[r] = sum_y pi(y) r(y)."""
    check_same_shape(policy_logps=policy_logps, rewards=rewards)
    check_distribution(policy_logps=policy_logps)
    check_finite(rewards=rewards)
    return _expectation(policy_logps, rewards)


def entropy(policy_logps: Logps) -> PerPrompt:
    """H(pi) = -sum_y pi(y) log pi(y) in nats; an answer of probability 0 adds 0."""
    check_distribution(policy_logps=policy_logps)
    return -_expectation(policy_logps, policy_logps)


def kl(p_logps: Logps, q_logps: Logps) -> PerPrompt:
    """KL(p || q) = sum_y p(y) log(p(y) / q(y)) in nats.

    An answer with p = 0 adds 0; an answer with p > 0 and q = 0 makes it +inf (with a gradient
    of 0 from there, so that nothing becomes NaN).
    """
    check_same_shape(p_logps=p_logps, q_logps=q_logps)
    check_distribution(p_logps=p_logps, q_logps=q_logps)
    outside = torch.isneginf(q_logps) & ~torch.isneginf(p_logps)
    inside = _expectation(p_logps, (p_logps - q_logps).masked_fill(outside, 0.0))
    return inside.masked_fill(outside.any(-1), torch.inf)


def objective(
    policy_logps: Logps, ref_logps: Logps, rewards: Logps, beta: float | Tensor
) -> PerPrompt:
    """J(pi) = E_pi[r] - beta KL(pi || pi_ref) (Rafailov et al. 2023, eq. 3)."""
    _check_beta_for(policy_logps, beta)
    return expected_reward(policy_logps, rewards) - beta * kl(policy_logps, ref_logps)


class Frontier(NamedTuple):
    """The best reward for each KL: one entry of the first dimension per beta.

    betas: (betas,). expected_rewards, kls, entropies, variances: (betas, *prompts), where the
    variance is that of r under pi*. Along it dE[r]/dKL = beta, because
    dE[r]/dbeta = -Var(r)/beta^2 and dKL/dbeta = -Var(r)/beta^3.
    """

    betas: Float[Tensor, "betas"]
    expected_rewards: Float[Tensor, "betas *prompts"]
    kls: Float[Tensor, "betas *prompts"]
    entropies: Float[Tensor, "betas *prompts"]
    variances: Float[Tensor, "betas *prompts"]


def frontier(ref_logps: Logps, rewards: Logps, betas: Float[Tensor, "betas"]) -> Frontier:
    """Reward, KL, entropy and reward variance of the optimal policy at each beta."""
    check_same_shape(ref_logps=ref_logps, rewards=rewards)
    if betas.ndim != 1:
        raise InputError(f"betas must have one dimension, got shape {tuple(betas.shape)}")
    check_beta(betas, "betas")
    many = betas.reshape(-1, *[1] * (ref_logps.ndim - 1)).to(ref_logps.dtype)
    ref = ref_logps.expand(len(betas), *ref_logps.shape)
    r = rewards.expand_as(ref)
    policy = optimal_policy(ref, r, many)
    mean, variance, _ = reward_cumulants(policy, r)
    return Frontier(betas, mean, kl(policy, ref), entropy(policy), variance)


class LimitPolicies(NamedTuple):
    """The ends of the path of optimal policies, as log-probabilities.

    beta_to_zero: pi_ref conditioned on the best answers inside its support; ties keep the
    reference's proportions. beta_to_infinity: pi_ref itself.
    """

    beta_to_zero: Logps
    beta_to_infinity: Logps


def limit_policies(ref_logps: Logps, rewards: Logps) -> LimitPolicies:
    """Exact limits of `optimal_policy` for beta -> 0 and beta -> infinity."""
    _, top = _tilt(ref_logps, rewards, 1.0)
    best = rewards == top[..., None]
    return LimitPolicies(torch.log_softmax(ref_logps.masked_fill(~best, -torch.inf), -1), ref_logps)


class Cumulants(NamedTuple):
    """Mean, variance and third central moment of the reward under a policy, per prompt."""

    mean: PerPrompt
    variance: PerPrompt
    third: PerPrompt


def reward_cumulants(policy_logps: Logps, rewards: Logps) -> Cumulants:
    """First three cumulants of r under a policy.

    Taken under the reference they give the large-beta expansions
    KL = variance/(2 beta^2) + third/(3 beta^3) + O(beta^-4) and
    E[r] = mean + variance/beta + third/(2 beta^2) + O(beta^-3).
    """
    mean = expected_reward(policy_logps, rewards)
    centred = rewards - mean[..., None]
    return Cumulants(
        mean,
        _expectation(policy_logps, centred**2),
        _expectation(policy_logps, centred**3),
    )


def _tilt(ref_logps: Tensor, rewards: Tensor, beta: float | Tensor) -> tuple[Tensor, Tensor]:
    """log pi_ref + (r - max r) / beta, and max r over the support.

    The maximum is taken off before the division: at beta = 1e-6 the quotient of a reward of 1e4
    would swallow the digits of log pi_ref.
    """
    check_same_shape(ref_logps=ref_logps, rewards=rewards)
    _check_beta_for(ref_logps, beta)
    check_finite(rewards=rewards)
    if not rewards.is_floating_point():
        raise InputError(f"rewards must be floating-point numbers, got {rewards.dtype}")
    check_distribution(ref_logps=ref_logps)
    top = rewards.masked_fill(torch.isneginf(ref_logps), -torch.inf).amax(-1)
    return ref_logps + (rewards - top[..., None]) / _per_answer(beta), top


def _per_answer(beta: float | Tensor) -> float | Tensor:
    return beta[..., None] if isinstance(beta, Tensor) else beta


def _check_beta_for(logps: Tensor, beta: float | Tensor) -> None:
    """Raise `InputError` unless beta is positive and is one number or one for each prompt."""
    check_beta(beta)
    if not isinstance(beta, Tensor):
        return
    prompts = logps.shape[:-1]
    sizes = zip(reversed(beta.shape), reversed(prompts), strict=False)
    if beta.ndim > len(prompts) or any(b not in (1, p) for b, p in sizes):
        raise InputError(
            f"beta has shape {tuple(beta.shape)} but the prompts have {tuple(prompts)}"
        )


def _expectation(logps: Tensor, values: Tensor) -> Tensor:
    """sum_y p(y) value(y) with 0 * anything = 0, in value and in gradient."""
    inside = ~torch.isneginf(logps)
    safe_values = values.masked_fill(~inside, 0.0)
    return (logps.exp() * safe_values).sum(-1)
