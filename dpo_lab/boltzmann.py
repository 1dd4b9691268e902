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

from dpo_lab import bradley_terry
from dpo_lab.checks import (
    check_beta,
    check_distribution,
    check_finite,
    check_logps,
    check_same_shape,
)
from dpo_lab.errors import InputError

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
        optimiser.zero_grad()
        loss = population_dpo_loss(policy(), ref_logps, pair_probs, win_probs, beta)
        loss.backward()
        return loss

    optimiser.step(loss_at_g)
    loss = loss_at_g()
    return PopulationFit(policy().detach(), loss.item(), g.grad.norm().item())


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


def _compared(pair_probs: Tensor) -> Tensor:
    return (pair_probs + pair_probs.T).sum(1) > 0


def _expected_wins(pair_probs: Tensor, win_probs: Tensor) -> Tensor:
    """Expected count of 'i beats j' per comparison drawn."""
    return (pair_probs + pair_probs.T) * win_probs


def _check_pairs(ref_logps: Tensor, pair_probs: Tensor, win_probs: Tensor) -> None:
    check_distribution(ref_logps=ref_logps)
    answers = ref_logps.shape[-1]
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
    outside = _compared(pair_probs) & torch.isneginf(ref_logps)
    if bool(outside.any()):
        bad = outside.nonzero().flatten().tolist()
        raise InputError(f"answers {bad} are compared but have reference probability 0")
