"""The KL-regularised problem: identities, hand-worked numbers, extremes, bad input."""

from __future__ import annotations

import decimal
import math
import warnings
from decimal import Decimal

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_lab import boltzmann as bz
from dpo_lab.bradley_terry import win_matrix
from dpo_lab.errors import InputError
from dpo_lab.worlds import t8

REF, REWARDS = t8().ref_logps, t8().rewards
INF = math.inf


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def assert_close(actual, expected, atol=1e-12, rtol=1e-12):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    actual = torch.as_tensor(actual, dtype=torch.float64)
    torch.testing.assert_close(actual, expected, atol=atol, rtol=rtol)


@st.composite
def problems(draw, *, zeros: bool = True):
    """(ref_logps, rewards, beta) with 2 to 7 answers, some perhaps outside the support."""
    answers = draw(st.integers(2, 7))
    logits = draw(st.lists(st.floats(-8, 8), min_size=answers, max_size=answers))
    rewards = draw(st.lists(st.floats(-5, 5), min_size=answers, max_size=answers))
    outside = draw(st.sets(st.integers(1, answers - 1), max_size=answers - 1)) if zeros else set()
    ref = f64(*logits)
    ref[list(outside)] = -INF
    beta = math.exp(draw(st.floats(-2.5, 2.5)))
    return torch.log_softmax(ref, -1), f64(*rewards), beta


@st.composite
def problems_and_policies(draw):
    """A problem and any policy inside the reference's support."""
    ref, rewards, beta = draw(problems())
    logits = draw(st.lists(st.floats(-20, 20), min_size=len(ref), max_size=len(ref)))
    return ref, rewards, beta, torch.log_softmax(f64(*logits) + ref, -1)


# ---- numbers worked by hand, and the testbed's ----


def test_two_answers_by_hand():
    # Equal reference, r/beta = (0, log 3): weights 1/2 and 3/2, so Z = 2 and pi* = (1/4, 3/4).
    ref, rewards, beta = f64(0.5, 0.5).log(), f64(0.0, 2.0 * math.log(3)), 2.0
    policy = bz.optimal_policy(ref, rewards, beta)
    assert_close(policy.exp(), f64(0.25, 0.75))
    assert_close(bz.log_partition(ref, rewards, beta), math.log(2))
    divergence = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert_close(bz.kl(policy, ref), divergence)
    assert_close(bz.entropy(policy), math.log(2) - divergence)
    assert_close(bz.expected_reward(policy, rewards), 0.75 * 2.0 * math.log(3))
    assert_close(bz.objective(policy, ref, rewards, beta), 2.0 * math.log(2))
    assert_close(bz.objective(ref, ref, rewards, beta), math.log(3))


def test_reference_cumulants_of_the_testbed():
    cumulants = bz.reward_cumulants(REF, REWARDS)
    assert_close(torch.stack(cumulants), f64(0.39, 0.8979, 0.375138), atol=5e-7)


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_implicit_reward_is_the_reward_minus_the_optimal_value(beta):
    policy = bz.optimal_policy(REF, REWARDS, beta)
    implicit = bz.implicit_reward(policy, REF, beta)
    value = beta * bz.log_partition(REF, REWARDS, beta)
    assert_close(implicit, REWARDS - value)
    assert_close(win_matrix(implicit), win_matrix(REWARDS), atol=1e-15)


def test_the_offset_at_beta_one_half():
    implicit = bz.implicit_reward(bz.optimal_policy(REF, REWARDS, 0.5), REF, 0.5)
    assert_close(implicit - REWARDS, torch.full((8,), -1.390549).double(), atol=5e-7)


def test_across_prompts_log_partition_does_not_cancel():
    refs, rewards = torch.stack([REF, REF.flip(0)]), torch.stack([REWARDS, REWARDS])
    implicit = bz.implicit_reward(bz.optimal_policy(refs, rewards, 0.5), refs, 0.5)
    values = 0.5 * bz.log_partition(refs, rewards, 0.5)
    across = implicit[0, 0] - implicit[1, 0]
    assert_close(across, values[1] - values[0])
    assert abs(float(across)) > 0.5  # although the reward of both answers is 0


def test_implicit_reward_outside_a_support():
    policy, ref = f64(1.0, 0.0, 0.0).log(), f64(0.0, 1.0, 0.0).log()
    implicit = bz.implicit_reward(policy, ref, 2.0)
    assert implicit[:2].tolist() == [INF, -INF]
    assert implicit[2].isnan()


# ---- identities ----


@settings(deadline=None)  # a busy machine is no defect
@given(problems())
def test_optimal_value_is_beta_log_z(problem):
    ref, rewards, beta = problem
    policy = bz.optimal_policy(ref, rewards, beta)
    value = beta * bz.log_partition(ref, rewards, beta)
    assert_close(bz.objective(policy, ref, rewards, beta), value, atol=1e-10)
    assert_close(torch.logsumexp(policy, -1), 0.0)


@settings(deadline=None)  # a busy machine is no defect
@given(problems_and_policies())
def test_what_a_policy_loses_is_beta_times_its_kl_to_the_optimum(case):
    ref, rewards, beta, policy = case
    best = bz.optimal_policy(ref, rewards, beta)
    lost = bz.objective(best, ref, rewards, beta) - bz.objective(policy, ref, rewards, beta)
    assert_close(lost, beta * bz.kl(policy, best), atol=1e-9)
    assert float(lost) > -1e-9


@settings(deadline=None)  # a busy machine is no defect
@given(problems(), st.floats(-50, 50))
def test_a_shift_of_the_rewards_changes_the_value_and_nothing_else(problem, shift):
    ref, rewards, beta = problem
    moved = bz.optimal_policy(ref, rewards + shift, beta)
    assert_close(moved.exp(), bz.optimal_policy(ref, rewards, beta).exp(), atol=1e-11)
    gained = beta * (
        bz.log_partition(ref, rewards + shift, beta) - bz.log_partition(ref, rewards, beta)
    )
    assert_close(gained, shift, atol=1e-9)


@settings(deadline=None)  # a busy machine is no defect
@given(problems())
def test_tilting_twice_adds_the_rewards(problem):
    ref, rewards, beta = problem
    twice = bz.optimal_policy(bz.optimal_policy(ref, rewards, beta), rewards, beta)
    assert_close(twice.exp(), bz.optimal_policy(ref, rewards, beta / 2).exp(), atol=1e-11)


@settings(deadline=None)  # a busy machine is no defect
@given(problems_and_policies())
def test_kl_is_cross_entropy_minus_entropy_and_never_negative(case):
    ref, _, _, policy = case
    inside = ~torch.isneginf(ref)
    cross_entropy = -(policy.exp() * ref)[inside].sum()
    assert_close(bz.kl(policy, ref), cross_entropy - bz.entropy(policy), atol=1e-10)
    assert float(bz.kl(policy, ref)) > -1e-12
    assert float(bz.kl(policy, policy)) == 0.0


def test_kl_outside_the_support():
    assert float(bz.kl(f64(1.0, 0.0).log(), f64(0.5, 0.5).log())) == pytest.approx(math.log(2))
    assert float(bz.kl(f64(0.5, 0.5).log(), f64(1.0, 0.0).log())) == INF
    # exp(-800) is 0 in float64, but it is a probability above 0 all the same.
    assert float(bz.kl(f64(0.0, -800.0), f64(0.0, -INF))) == INF


@settings(deadline=None)  # a busy machine is no defect
@given(problems())
def test_slopes_of_the_frontier(problem):
    ref, rewards, beta = problem
    betas = f64(beta).requires_grad_()
    curve = bz.frontier(ref, rewards, betas)
    (reward_slope,) = torch.autograd.grad(curve.expected_rewards.sum(), betas, retain_graph=True)
    (kl_slope,) = torch.autograd.grad(curve.kls.sum(), betas)
    variance = float(curve.variances.detach())
    assert_close(reward_slope, f64(-variance / beta**2), atol=1e-9)
    assert_close(kl_slope, f64(-variance / beta**3), atol=1e-9)
    assert_close(reward_slope, beta * kl_slope, atol=1e-9)


def test_slope_of_the_testbeds_frontier_by_finite_differences():
    for beta in (0.1, 0.5, 1.0, 5.0):
        curve = bz.frontier(REF, REWARDS, f64(beta * (1 + 1e-4), beta * (1 - 1e-4)))
        slope = curve.expected_rewards.diff() / curve.kls.diff()
        assert_close(slope, f64(beta), atol=0, rtol=1e-6)


@settings(deadline=None)  # a busy machine is no defect
@given(problems_and_policies())
def test_no_policy_lies_above_the_frontier(case):
    ref, rewards, beta, policy = case
    ceiling = beta * (bz.log_partition(ref, rewards, beta) + bz.kl(policy, ref))
    assert float(bz.expected_reward(policy, rewards)) <= float(ceiling) + 1e-9


# ---- both ends of the path ----


def test_large_beta_expansions_of_the_testbed():
    _, variance, third = bz.reward_cumulants(REF, REWARDS)
    betas = f64(1.0, 10.0, 100.0)
    curve = bz.frontier(REF, REWARDS, betas)
    first = variance / (2 * betas**2)
    second = first + third / (3 * betas**3)
    assert_close(curve.kls[:2], f64(0.5267, 4.612e-3), atol=5e-5, rtol=5e-4)
    assert_close(first[:2], f64(0.4489, 4.489e-3), atol=5e-5, rtol=5e-4)
    assert_close(curve.kls / first, f64(1.173, 1.027, 1.003), atol=5e-4)
    assert_close(second[:2], f64(0.5740, 4.615e-3), rtol=5e-4)
    # The remainders shrink by the next power: a thousandfold more beta^-4 than beta^-3 ...
    remainder = (curve.kls - second).abs()
    assert float(remainder[1] / remainder[2]) == pytest.approx(1e4, rel=0.15)
    reward = 0.39 + variance / betas + third / (2 * betas**2)
    remainder = (curve.expected_rewards - reward).abs()
    assert float(remainder[1] / remainder[2]) == pytest.approx(1e3, rel=0.15)


def test_first_order_policy_of_the_testbed():
    distances = []
    for beta in (1.0, 10.0, 100.0):
        first_order = REF.exp() * (1 + (REWARDS - 0.39) / beta)
        exact = bz.optimal_policy(REF, REWARDS, beta).exp()
        distances.append(float((first_order - exact).abs().sum() / 2))
        assert bool((first_order < 0).any()) == (beta == 1.0)
    assert_close(f64(*distances), f64(0.223, 2.24e-3, 2.22e-5), atol=0, rtol=5e-3)


def test_entropy_of_the_testbed_rises_before_it_falls():
    betas = torch.linspace(0.5, 5, 4501, dtype=torch.float64)
    entropies = bz.frontier(REF, REWARDS, betas).entropies
    assert float(entropies.max()) == pytest.approx(1.914, abs=5e-4)
    assert float(betas[entropies.argmax()]) == pytest.approx(2.11, abs=5e-3)
    assert float(bz.entropy(REF)) == pytest.approx(1.853, abs=5e-4)
    again = betas[(entropies - bz.entropy(REF)).abs().argmin()]
    assert float(again) == pytest.approx(1.095, abs=2e-3)


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_slope_of_the_entropy_in_one_over_beta(beta):
    inverse = f64(1 / beta).requires_grad_()
    entropy = bz.frontier(REF, REWARDS, 1 / inverse).entropies
    (slope,) = torch.autograd.grad(entropy.sum(), inverse)
    p = bz.optimal_policy(REF, REWARDS, beta).exp()
    centred = REWARDS - (p * REWARDS).sum()
    expected = -(p * centred**2).sum() / beta - (p * centred * REF).sum()
    assert_close(slope, expected[None])


@settings(deadline=None)  # a busy machine is no defect
@given(problems())
def test_entropy_falls_with_beta_where_the_reference_is_uniform(problem):
    ref, rewards, beta = problem
    flat = torch.log_softmax(torch.zeros_like(ref).masked_fill(torch.isneginf(ref), -INF), -1)
    entropies = bz.frontier(flat, rewards, f64(beta, 2 * beta)).entropies
    assert float(entropies[0]) <= float(entropies[1]) + 1e-12


def test_limits_split_ties_by_the_reference_and_stay_in_its_support():
    ref = f64(0.6, 0.3, 0.1, 0.0).log()
    rewards = f64(0.0, 1.0, 1.0, 9.0)
    limits = bz.limit_policies(ref, rewards)
    assert_close(limits.beta_to_zero.exp(), f64(0.0, 0.75, 0.25, 0.0))
    assert_close(limits.beta_to_infinity.exp(), ref.exp())
    assert_close(bz.kl(limits.beta_to_zero, ref), -math.log(0.4))
    assert_close(bz.optimal_policy(ref, rewards, 1e-6).exp(), limits.beta_to_zero.exp())
    assert_close(bz.optimal_policy(ref, rewards, 1e6).exp(), ref.exp(), atol=1e-5)


def test_testbeds_limit_costs_minus_log_of_the_best_answers_probability():
    assert float(bz.frontier(REF, REWARDS, f64(1e-3)).kls) == pytest.approx(-math.log(0.02))
    assert float(bz.kl(bz.limit_policies(REF, REWARDS).beta_to_zero, REF)) == pytest.approx(
        3.912, abs=5e-4
    )


# ---- batches ----


def random_batch(*prompts: int, answers: int = 5):
    generator = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    logits = normal(*prompts, answers)
    logits[..., 0, 2] = -INF  # one answer outside the support for some prompts
    ref, rewards = torch.log_softmax(logits, -1), 2 * normal(*prompts, answers)
    policies = torch.log_softmax(ref + normal(*prompts, answers), -1)
    return ref, rewards, policies, normal(*prompts).exp()


@pytest.mark.parametrize("function", [bz.log_partition, bz.optimal_policy])
def test_a_batch_with_its_betas_equals_its_prompts_one_by_one(function):
    ref, rewards, _, betas = random_batch(2, 3)
    together = function(ref, rewards, betas)
    for i in range(2):
        for j in range(3):
            alone = function(ref[i, j], rewards[i, j], float(betas[i, j]))
            assert_close(together[i, j], alone)


def test_policy_quantities_batch_like_their_prompts():
    ref, rewards, policies, betas = random_batch(2, 3)
    for k, index in enumerate((i, j) for i in range(2) for j in range(3)):
        one_ref, one_reward, one = ref[index], rewards[index], policies[index]
        beta = float(betas[index])
        pairs = [
            (bz.kl(policies, ref), bz.kl(one, one_ref)),
            (bz.entropy(policies), bz.entropy(one)),
            (bz.expected_reward(policies, rewards), bz.expected_reward(one, one_reward)),
            (
                bz.objective(policies, ref, rewards, betas),
                bz.objective(one, one_ref, one_reward, beta),
            ),
            *zip(
                bz.reward_cumulants(policies, rewards),
                bz.reward_cumulants(one, one_reward),
                strict=True,
            ),
        ]
        for together, alone in pairs:
            assert_close(together.flatten()[k], alone)
        implicit = bz.implicit_reward(policies, ref, betas)[index]
        torch.testing.assert_close(
            implicit, bz.implicit_reward(one, one_ref, beta), equal_nan=True, rtol=1e-12, atol=0
        )
        limit = bz.limit_policies(ref, rewards).beta_to_zero[index]
        assert_close(limit.exp(), bz.limit_policies(one_ref, one_reward).beta_to_zero.exp())


def test_frontier_of_a_batch_equals_single_frontiers():
    ref, rewards, _, _ = random_batch(2, 3)
    betas = f64(0.3, 1.0, 4.0, 20.0)
    together = bz.frontier(ref, rewards, betas)
    assert together.kls.shape == (4, 2, 3)
    for i in range(2):
        for j in range(3):
            alone = bz.frontier(ref[i, j], rewards[i, j], betas)
            for field in ("expected_rewards", "kls", "entropies", "variances"):
                assert_close(getattr(together, field)[:, i, j], getattr(alone, field))


def test_one_beta_for_all_prompts_may_be_a_tensor():
    ref, rewards, _, _ = random_batch(3)
    assert_close(
        bz.log_partition(ref, rewards, torch.tensor(0.7)), bz.log_partition(ref, rewards, 0.7), 1e-6
    )


def test_an_empty_batch_is_empty():
    nothing = torch.zeros(0, 4, dtype=torch.float64)
    assert bz.optimal_policy(nothing, nothing, 1.0).shape == (0, 4)


def test_dtype_is_the_callers():
    policy = bz.optimal_policy(REF.float(), REWARDS.float(), 0.5)
    assert policy.dtype == torch.float32
    assert_close(policy.exp(), bz.optimal_policy(REF, REWARDS, 0.5).exp(), atol=1e-6)


# ---- extremes, against 60 decimal digits ----

HARD_REFS = {
    "plain": (0.5, 0.3, 0.2),
    "rarest best": (1.0, 1e-150, 1e-300),
    "zero": (0.25, 0.0, 0.75),
}
HARD_REWARDS = {
    "wide": (-1e4, 0.0, 1e4),
    "wide, best first": (1e4, 9999.999, -1e4),
    "close": (9999.0, 9999.0000001, 9999.0000002),
    "flat": (1e4, 1e4, 1e4),
}


def in_60_digits(logps: list[float], rewards: list[float], beta: float):
    """log Z, log pi* and E[r], KL under pi*, from the same floats, in decimal arithmetic."""
    with decimal.localcontext() as context:
        context.prec, context.Emax, context.Emin = 60, decimal.MAX_EMAX, decimal.MIN_EMIN
        tilt = {
            y: Decimal(logp) + Decimal(r) / Decimal(beta)
            for y, (logp, r) in enumerate(zip(logps, rewards, strict=True))
            if logp > -INF
        }
        log_z = sum(each.exp() for each in tilt.values()).ln()
        policy = {y: each - log_z for y, each in tilt.items()}
        mean = sum(policy[y].exp() * Decimal(rewards[y]) for y in policy)
        divergence = sum(policy[y].exp() * (policy[y] - Decimal(logps[y])) for y in policy)
        log_policy = [float(policy.get(y, -INF)) for y in range(len(logps))]
        return float(log_z), log_policy, float(mean), float(divergence)


@pytest.mark.parametrize("beta", [1e-6, 1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("rewards", HARD_REWARDS)
@pytest.mark.parametrize("ref", HARD_REFS)
def test_extremes_agree_with_60_digits(ref, rewards, beta):
    ref, rewards = f64(*HARD_REFS[ref]).log(), f64(*HARD_REWARDS[rewards])
    log_z, log_policy, mean, divergence = in_60_digits(ref.tolist(), rewards.tolist(), beta)
    policy = bz.optimal_policy(ref, rewards, beta)
    assert_close(bz.log_partition(ref, rewards, beta), log_z, atol=1e-12)
    assert_close(policy, log_policy, atol=1e-12)
    assert_close(bz.expected_reward(policy, rewards), mean, atol=1e-8)
    assert_close(bz.kl(policy, ref), divergence)
    assert_close(bz.objective(policy, ref, rewards, beta), mean - beta * divergence, atol=1e-8)


@pytest.mark.parametrize("beta", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("ref", HARD_REFS)
def test_extremes_stay_finite_in_float32(ref, beta):
    ref, rewards = f64(*HARD_REFS[ref]).log().float(), torch.tensor([-1e4, 0.0, 1e4])
    log_z, log_policy, mean, _ = in_60_digits(ref.tolist(), rewards.tolist(), beta)
    policy = bz.optimal_policy(ref, rewards, beta)
    assert_close(bz.log_partition(ref, rewards, beta), log_z, atol=1e-4, rtol=1e-6)
    assert_close(policy, log_policy, atol=1e-4, rtol=1e-6)
    assert_close(bz.expected_reward(policy, rewards), mean, atol=0.1, rtol=1e-6)


@pytest.mark.parametrize("beta", [1e-6, 0.5, 1e6])
def test_gradients_are_finite_where_probabilities_are_zero(beta):
    ref = f64(0.5, 0.0, 0.3, 0.2).log().requires_grad_()
    rewards = f64(1e4, -1e4, 0.0, 1e4).requires_grad_()
    policy = bz.optimal_policy(ref, rewards, beta)
    outputs = [
        bz.log_partition(ref, rewards, beta),
        bz.expected_reward(policy, rewards),
        bz.kl(policy, ref),
        bz.entropy(policy),
        bz.objective(policy, ref, rewards, beta),
        bz.kl(ref, f64(0.5, 0.5, 0.0, 0.0).log()),
    ]
    for output in outputs:
        for gradient in torch.autograd.grad(
            output, [ref, rewards], retain_graph=True, allow_unused=True
        ):
            assert gradient is None or bool(torch.isfinite(gradient).all())


@settings(deadline=None)  # a busy machine is no defect
@given(problems())
def test_gradient_of_log_z_is_the_policy(problem):
    ref, rewards, beta = problem
    rewards = rewards.round().requires_grad_()  # whole numbers: ties are common
    (gradient,) = torch.autograd.grad(bz.log_partition(ref, rewards, beta), rewards)
    expected = bz.optimal_policy(ref, rewards.detach(), beta).exp() / beta
    assert_close(gradient, expected, atol=1e-11)


@settings(deadline=None)  # a busy machine is no defect
@given(problems(zeros=False))
def test_objective_is_flat_at_the_optimum(problem):
    ref, rewards, beta = problem
    logits = bz.optimal_policy(ref, rewards, beta).requires_grad_()
    value = bz.objective(torch.log_softmax(logits, -1), ref, rewards, beta)
    (gradient,) = torch.autograd.grad(value, logits)
    assert_close(gradient, torch.zeros_like(gradient), atol=1e-10)


def test_a_policy_that_is_being_trained_raises_no_warning():
    logits = REF.clone().requires_grad_()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            bz.objective(torch.log_softmax(logits, -1), REF, REWARDS, 0.5).backward()
    finally:
        torch.set_warn_always(False)


# ---- the population DPO loss and its minimiser ----

UNIFORM = bz.uniform_pairs(8)
WINS = win_matrix(REWARDS)
FIRST_FOUR = torch.zeros(8, 8, dtype=torch.float64)
FIRST_FOUR[:4, :4] = bz.uniform_pairs(4)


def test_uniform_pairs_are_the_28_pairs():
    assert int((UNIFORM > 0).sum()) == 28
    assert_close(UNIFORM[0, 1], 1 / 28)


def test_population_loss_against_a_loop():
    policy, pairs = torch.log_softmax(REWARDS, -1), UNIFORM * (1 + REWARDS[:, None].abs())
    pairs = pairs / pairs.sum()
    total = 0.0
    for i in range(8):
        for j in range(8):
            margin = float(0.3 * ((policy[i] - REF[i]) - (policy[j] - REF[j])))
            p = float(WINS[i, j])
            loss = p * math.log1p(math.exp(-margin)) + (1 - p) * math.log1p(math.exp(margin))
            total += float(pairs[i, j]) * loss
    assert_close(bz.population_dpo_loss(policy, REF, pairs, WINS, 0.3), total)
    assert_close(bz.population_dpo_loss(policy, REF, pairs.T, WINS, 0.3), total)


@pytest.mark.parametrize("pairs", [UNIFORM, FIRST_FOUR])
def test_population_loss_starts_at_log_two(pairs):
    assert_close(bz.population_dpo_loss(REF, REF, pairs, WINS, 0.5), math.log(2))


def test_one_pair_by_hand():
    # p = 0.9 for one pair: the minimiser has beta * (log-ratio difference) = logit(0.9) = log 9.
    ref, pairs = f64(0.8, 0.2).log(), f64(0, 1, 0, 0).reshape(2, 2)
    wins = f64(0.5, 0.9, 0.1, 0.5).reshape(2, 2)
    fit = bz.minimise_population_dpo(ref, pairs, wins, 0.5)
    ratios = fit.policy_logps - ref
    assert_close(ratios[0] - ratios[1], math.log(9) / 0.5, atol=1e-7)
    assert_close(fit.loss, -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)))


@pytest.mark.parametrize("beta", [0.01, 0.5, 3.0])
def test_with_full_coverage_the_minimiser_is_the_optimal_policy(beta):
    fit = bz.minimise_population_dpo(REF, UNIFORM, WINS, beta)
    best = bz.optimal_policy(REF, REWARDS, beta)
    assert float(bz.kl(fit.policy_logps, best)) < 1e-12
    assert fit.gradient_norm < 1e-9


def test_value_of_the_minimiser_at_beta_one_half():
    policy = bz.minimise_population_dpo(REF, UNIFORM, WINS, 0.5).policy_logps
    value = bz.objective(policy, REF, REWARDS, 0.5)
    assert_close(value, 1.3905494, atol=5e-8)
    assert_close(value, 0.5 * bz.log_partition(REF, REWARDS, 0.5))


@settings(max_examples=20, deadline=None)
@given(problems(zeros=False), st.data())
def test_any_connected_pairs_lead_to_the_same_optimum(problem, data):
    ref, rewards, beta = problem
    answers = len(ref)
    weight = st.floats(0.2, 1.0)
    pairs = torch.zeros(answers, answers, dtype=torch.float64)
    for i in range(1, answers):  # a random tree, then perhaps more edges
        pairs[data.draw(st.integers(0, i - 1)), i] = data.draw(weight)
    for i, j in data.draw(
        st.sets(st.tuples(st.integers(0, answers - 1), st.integers(0, answers - 1)))
    ):
        if i != j:
            pairs[i, j] = data.draw(weight)
    fit = bz.minimise_population_dpo(ref, pairs / pairs.sum(), win_matrix(rewards), beta)
    best = bz.optimal_policy(ref, rewards, beta)
    assert float(bz.kl(fit.policy_logps, best)) < 1e-9


def start_on(answer: int) -> torch.Tensor:
    logits = REF.clone()
    logits[answer] += 6.0
    return logits


def test_partial_coverage_leaves_the_rest_to_the_start():
    fits = {
        y: bz.minimise_population_dpo(REF, FIRST_FOUR, WINS, 0.5, initial_logits=start_on(y))
        for y in (4, 5, 7)
    }
    losses = [fit.loss for fit in fits.values()]
    assert max(losses) - min(losses) < 1e-6
    for fit in fits.values():  # on the compared answers all agree with r / beta, up to a constant
        implicit = bz.implicit_reward(fit.policy_logps, REF, 0.5)[:4]
        assert_close(implicit - implicit[0], REWARDS[:4] - REWARDS[0], atol=1e-6)
    values = {
        y: float(bz.objective(fit.policy_logps, REF, REWARDS, 0.5)) for y, fit in fits.items()
    }
    assert values[5] < 0 < min(values[4], values[7])
    assert all(float(fit.policy_logps[y].exp()) > 0.8 for y, fit in fits.items())


def test_two_blocks_of_comparisons_do_not_see_each_other():
    pairs = torch.zeros(8, 8, dtype=torch.float64)
    pairs[:4, :4] = pairs[4:, 4:] = bz.uniform_pairs(4) / 2
    policy = bz.optimal_policy(REF, REWARDS, 0.5)
    moved = torch.log_softmax(policy + f64(0, 0, 0, 0, -3, -3, -3, -3), -1)
    before, after = (bz.population_dpo_loss(p, REF, pairs, WINS, 0.5) for p in (policy, moved))
    assert_close(before, after, atol=1e-15)
    gap = bz.objective(policy, REF, REWARDS, 0.5) - bz.objective(moved, REF, REWARDS, 0.5)
    assert float(gap) > 0.1


def test_reward_maximisation_is_bounded_by_the_reference_and_the_dpo_loss_is_not():
    ref = torch.cat([f64(1e-12).log(), REF + math.log1p(-1e-12)])
    rewards, beta = torch.cat([f64(2.0), REWARDS]), 0.5
    bound = 1e-12 * math.exp(float(rewards.max() - rewards.min()) / beta)
    assert float(bz.optimal_policy(ref, rewards, beta)[0].exp()) <= bound
    pairs = torch.zeros(9, 9, dtype=torch.float64)
    pairs[1:, 1:] = UNIFORM
    start = torch.cat([f64(20.0), REF])
    fit = bz.minimise_population_dpo(ref, pairs, win_matrix(rewards), beta, initial_logits=start)
    covered = bz.minimise_population_dpo(ref, pairs, win_matrix(rewards), beta)
    assert float(fit.policy_logps[0].exp()) > 0.999
    assert fit.loss == pytest.approx(covered.loss, abs=1e-12)


def test_uncompared_answers_may_lie_outside_the_support():
    ref = f64(0.5, 0.5, 0.0).log()
    pairs = torch.zeros(3, 3, dtype=torch.float64)
    pairs[0, 1] = 1.0
    wins = win_matrix(f64(1.0, 0.0, 5.0))
    fit = bz.minimise_population_dpo(ref, pairs, wins, 0.5)
    assert_close(
        fit.policy_logps.exp(), bz.optimal_policy(ref, f64(1.0, 0.0, 5.0), 0.5).exp(), 1e-7
    )
    assert math.isfinite(float(bz.population_dpo_loss(ref, ref, pairs, wins, 0.5)))


def test_deterministic_wins_have_no_finite_minimiser():
    certain = torch.ones(8, 8, dtype=torch.float64).triu(1)
    with pytest.raises(InputError, match=r"no finite .* items \[0\] never lost"):
        bz.minimise_population_dpo(REF, UNIFORM, certain, 0.5)
    assert math.isfinite(float(bz.population_dpo_loss(REF, REF, UNIFORM, certain, 0.5)))


# ---- bad input: one message that names the argument ----


@pytest.fixture
def without_shape_checks():
    """Shapes are checked by annotation in tests only; a user meets the library's own errors."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def with_nan(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.clone().index_fill_(0, torch.tensor([3]), math.nan)


TWO = torch.stack([REF, REF])
LOPSIDED = WINS.clone().index_put_((torch.tensor(0), torch.tensor(1)), f64(0.9)[0])
OUTSIDE = torch.cat([f64(0.0), REF[1:]]).log_softmax(-1).index_fill(0, torch.tensor([3]), -INF)
OUTSIDE = OUTSIDE.log_softmax(-1)

BAD_CALLS = {
    "beta 0": (lambda: bz.optimal_policy(REF, REWARDS, 0.0), "beta must be finite and greater"),
    "beta negative": (lambda: bz.log_partition(REF, REWARDS, -1.0), "beta must be finite"),
    "beta NaN": (lambda: bz.objective(REF, REF, REWARDS, math.nan), "beta must be finite"),
    "beta inf": (lambda: bz.implicit_reward(REF, REF, INF), "beta must be finite"),
    "one beta of several": (lambda: bz.log_partition(TWO, TWO, f64(1.0, 0.0)), "beta must be"),
    "betas": (lambda: bz.frontier(REF, REWARDS, f64(1.0, -2.0)), "betas must be finite"),
    "betas in a table": (lambda: bz.frontier(REF, REWARDS, f64(1.0)[None]), "betas must have one"),
    "a beta too many": (
        lambda: bz.optimal_policy(REF, REWARDS, f64(1.0, 2.0)),
        r"beta has shape \(2,\) but the prompts have \(\)",
    ),
    "a beta for three of two prompts": (
        lambda: bz.objective(TWO, TWO, TWO, f64(1.0, 2.0, 3.0)),
        r"beta has shape \(3,\) but the prompts have \(2,\)",
    ),
    "fewer rewards": (
        lambda: bz.optimal_policy(REF, REWARDS[:3], 1.0),
        r"rewards has shape \(3,\) but ref_logps has \(8,\)",
    ),
    "one reward": (lambda: bz.objective(REF, REF, REWARDS[:1], 1.0), r"rewards has shape \(1,\)"),
    "frontier's rewards": (lambda: bz.frontier(REF, REWARDS[:3], f64(1.0)), "rewards has shape"),
    "expected_reward's": (lambda: bz.expected_reward(REF, REWARDS[:3]), "rewards has shape"),
    "kl's shapes": (lambda: bz.kl(REF, TWO), r"q_logps has shape \(2, 8\)"),
    "implicit shapes": (lambda: bz.implicit_reward(REF, TWO, 1.0), "ref_logps has shape"),
    "a single number": (lambda: bz.entropy(f64(0.0)[0]), "policy_logps must have a last dim"),
    "reward NaN": (
        lambda: bz.optimal_policy(REF, with_nan(REWARDS), 1.0),
        "rewards must be finite",
    ),
    "reward inf": (lambda: bz.log_partition(REF, REWARDS * INF, 1.0), "rewards must be finite"),
    "whole-number rewards": (
        lambda: bz.optimal_policy(REF, torch.arange(8), 1.0),
        "rewards must be floating-point numbers, got torch.int64",
    ),
    "expected reward NaN": (lambda: bz.expected_reward(REF, with_nan(REWARDS)), "rewards must be"),
    "ref NaN": (lambda: bz.optimal_policy(with_nan(REF), REWARDS, 1.0), "ref_logps holds NaN"),
    "probabilities": (lambda: bz.optimal_policy(REF.exp(), REWARDS, 1.0), "ref_logps holds .* 0"),
    "not normalised": (
        lambda: bz.log_partition(REF - 1.0, REWARDS, 1.0),
        "ref_logps is not a distribution: log of its sum is 1 away",
    ),
    "nowhere support": (
        lambda: bz.optimal_policy(REF * INF, REWARDS, 1.0),
        "ref_logps is not a distribution",
    ),
    "policy NaN": (lambda: bz.objective(with_nan(REF), REF, REWARDS, 1.0), "policy_logps holds"),
    "policy not normalised": (lambda: bz.kl(REF - 1, REF), "p_logps is not a distribution"),
    "kl to no distribution": (lambda: bz.kl(REF, REF + 1), "q_logps is not a distribution"),
    "implicit NaN": (lambda: bz.implicit_reward(REF, with_nan(REF), 1.0), "ref_logps holds NaN"),
    "entropy of logits": (
        lambda: bz.entropy(REWARDS),
        "policy_logps holds log-probabilities above",
    ),
    "limits": (lambda: bz.limit_policies(REF, REWARDS[:2]), "rewards has shape"),
    "no pair": (lambda: bz.uniform_pairs(1), "answers must be at least 2"),
}

PAIR_ARGUMENTS = {
    "pairs' shape": ((REF, UNIFORM[:3], WINS), r"pair_probs must have shape \(8, 8\)"),
    "wins' shape": ((REF, UNIFORM, WINS[:3]), r"win_probs must have shape \(8, 8\)"),
    "negative pairs": ((REF, -UNIFORM, WINS), "pair_probs must hold finite numbers of at least 0"),
    "NaN wins": ((REF, UNIFORM, with_nan(WINS)), "win_probs must hold finite numbers"),
    "a pair of one": (
        (REF, torch.eye(8).double() / 8, WINS),
        "pair_probs has an entry on its diag",
    ),
    "pairs' sum": ((REF, UNIFORM * 2, WINS), "pair_probs must sum to 1, not 2"),
    "wins' sum": ((REF, UNIFORM, LOPSIDED), r"win_probs\[i, j\] \+ win_probs\[j, i\] must be 1"),
    "outside the support": ((OUTSIDE, UNIFORM, WINS), r"answers \[3\] are compared but have"),
    "ref": ((REF - 1.0, UNIFORM, WINS), "ref_logps is not a distribution"),
}


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_input_is_named(case):
    call, message = BAD_CALLS[case]
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize("case", PAIR_ARGUMENTS)
def test_bad_pairs_are_named(case):
    arguments, message = PAIR_ARGUMENTS[case]
    with pytest.raises(InputError, match=message):
        bz.population_dpo_loss(REF, *arguments, 0.5)
    with pytest.raises(InputError, match=message):
        bz.minimise_population_dpo(*arguments, 0.5)


@pytest.mark.usefixtures("without_shape_checks")
def test_other_bad_arguments_of_the_population_loss_are_named():
    with pytest.raises(InputError, match="beta must be finite"):
        bz.population_dpo_loss(REF, REF, UNIFORM, WINS, 0.0)
    with pytest.raises(InputError, match="beta must be finite"):
        bz.minimise_population_dpo(REF, UNIFORM, WINS, -1.0)
    with pytest.raises(InputError, match=r"policy_logps has shape \(1,\)"):
        bz.population_dpo_loss(REF[:1], REF, UNIFORM, WINS, 0.5)
    with pytest.raises(InputError, match="policy_logps holds NaN"):
        bz.population_dpo_loss(with_nan(REF), REF, UNIFORM, WINS, 0.5)
    with pytest.raises(InputError, match="initial_logits must be finite"):
        bz.minimise_population_dpo(REF, UNIFORM, WINS, 0.5, initial_logits=with_nan(REF))
    with pytest.raises(InputError, match=r"initial_logits has shape \(3,\)"):
        bz.minimise_population_dpo(REF, UNIFORM, WINS, 0.5, initial_logits=REF[:3])
