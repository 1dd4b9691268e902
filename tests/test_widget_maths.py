"""maths.js, run as it is in Chromium, against dpo_lab.boltzmann."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from widget_page import open_page

from dpo_lab import boltzmann
from dpo_lab.widgets._bundle import STATIC
from dpo_lab.worlds import t8

pytestmark = pytest.mark.browser

ALL = """
(cases) => cases.map(({ weights, ref, rewards, beta, other, betas }) => {
  const policy = maths.optimalPolicy(ref, rewards, beta);
  const path = maths.frontier(ref, rewards, betas);
  const { betaToZero, betaToInfinity } = maths.limits(ref, rewards);
  return {
    normalised: maths.logNormalise(weights),
    policy,
    log_partition: maths.logPartition(ref, rewards, beta),
    implicit_reward: maths.implicitReward(policy, ref, beta),
    expected_reward: maths.expectedReward(policy, rewards),
    entropy: maths.entropy(policy),
    kl: maths.kl(policy, ref),
    objective: maths.objective(policy, ref, rewards, beta),
    other_kl: maths.kl(other, ref),
    other_objective: maths.objective(other, ref, rewards, beta),
    frontier_kl: path.kls,
    frontier_reward: path.expectedRewards,
    zero_policy: betaToZero.policy,
    zero_kl: betaToZero.kl,
    zero_reward: betaToZero.expectedReward,
    infinity_policy: betaToInfinity.policy,
    infinity_kl: betaToInfinity.kl,
    infinity_reward: betaToInfinity.expectedReward,
  };
})
"""


@pytest.fixture(scope="module")
def page(chromium):
    page = chromium.new_page()
    open_page(page)
    source = (STATIC / "maths.js").read_text(encoding="utf-8")
    page.evaluate(
        "async (source) => { window.maths = await importText(source); }",
        source,
    )
    yield page
    page.close()


def normalised(weights: list[float]) -> torch.Tensor:
    return torch.log_softmax(torch.tensor(weights, dtype=torch.float64).log(), -1)


def in_python(case: dict) -> dict:
    """The same quantities by the library, each with the size of the largest term in its sum."""
    rewards = torch.tensor(case["rewards"], dtype=torch.float64)
    ref = normalised(case["weights"])
    other = normalised(case["other"])
    betas = torch.tensor(case["betas"], dtype=torch.float64)
    beta = case["beta"]
    policy = boltzmann.optimal_policy(ref, rewards, beta)
    path = boltzmann.frontier(ref, rewards, betas)
    limits = boltzmann.limit_policies(ref, rewards)
    start, end = limits.beta_to_infinity, limits.beta_to_zero
    supported = ~torch.isneginf(ref)
    reward_size = float(rewards.abs().max())
    logp_size = float(ref[supported].abs().max()) + 1
    return {
        "normalised": (ref, max(abs(math.log(weight)) for weight in case["weights"] if weight)),
        "policy": (policy, logp_size + 2 * reward_size / beta),
        "log_partition": (
            boltzmann.log_partition(ref, rewards, beta),
            logp_size + reward_size / beta,
        ),
        "implicit_reward": (
            boltzmann.implicit_reward(policy, ref, beta),
            beta * logp_size + 2 * reward_size,
        ),
        "expected_reward": (boltzmann.expected_reward(policy, rewards), reward_size),
        "entropy": (boltzmann.entropy(policy), logp_size),
        "kl": (boltzmann.kl(policy, ref), logp_size),
        "objective": (
            boltzmann.objective(policy, ref, rewards, beta),
            reward_size + beta * logp_size,
        ),
        "other_kl": (boltzmann.kl(other, ref), logp_size),
        "other_objective": (
            boltzmann.objective(other, ref, rewards, beta),
            reward_size + beta * logp_size,
        ),
        "frontier_kl": (path.kls, logp_size),
        "frontier_reward": (path.expected_rewards, reward_size),
        "zero_policy": (end, logp_size),
        "zero_kl": (boltzmann.kl(end, ref), logp_size),
        "zero_reward": (boltzmann.expected_reward(end, rewards), reward_size),
        "infinity_policy": (start, logp_size),
        "infinity_kl": (boltzmann.kl(start, ref), 1),
        "infinity_reward": (boltzmann.expected_reward(start, rewards), reward_size),
    }


def in_javascript(page, cases: list[dict]) -> list[dict]:
    """What maths.js gives for each case, from the same log-probabilities as Python's."""
    logps = [
        {"ref": normalised(case["weights"]).tolist(), "other": normalised(case["other"]).tolist()}
        for case in cases
    ]
    return page.evaluate(ALL, [case | each for case, each in zip(cases, logps, strict=True)])


def assert_equal(page, cases: list[dict]) -> None:
    """1e-10 relative; below that only the rounding of the largest term in each sum is allowed."""
    results = in_javascript(page, cases)
    for case, result in zip(cases, results, strict=True):
        for name, (expected, size) in in_python(case).items():
            np.testing.assert_allclose(
                np.asarray(result[name], dtype=float),
                expected.numpy(),
                rtol=1e-10,
                atol=2e-15 * size,
                err_msg=f"{name} of {case}",
            )


def random_case(rng: np.random.Generator, *, extreme: bool) -> dict:
    answers = int(rng.integers(2, 13))
    weights = 10.0 ** rng.uniform(-300 if extreme else -3, 0, answers)
    rewards = rng.uniform(-1, 1, answers) * 10.0 ** rng.uniform(-2, 4 if extreme else 1)
    other = rng.uniform(0, 1, answers)
    if extreme:
        weights[rng.random(answers) < 0.2] = 0.0
        weights[rng.integers(answers)] = 1.0
        rewards[rng.random(answers) < 0.3] = rewards.max()
        other[weights == 0] *= rng.integers(2)
        other[rng.random(answers) < 0.2] = 0.0
        other[int(weights.argmax())] = 0.5
    return {
        "weights": weights.tolist(),
        "rewards": rewards.tolist(),
        "other": other.tolist(),
        "beta": 10.0 ** rng.uniform(-6 if extreme else -2, 6 if extreme else 2),
        "betas": (10.0 ** rng.uniform(-6, 6, 5)).tolist(),
    }


@pytest.mark.parametrize("extreme", [False, True])
def test_random_worlds_agree_with_python(page, extreme):
    rng = np.random.default_rng(17)
    assert_equal(page, [random_case(rng, extreme=extreme) for _ in range(150)])


def test_corners_agree_with_python(page):
    common = {"other": [0.2, 0.8], "betas": [1e-6, 1.0, 1e6]}
    worlds = [
        {"weights": [1.0, 1e-300], "rewards": [-1e4, 1e4]},
        {"weights": [1.0, 0.0], "rewards": [-1e4, 1e4]},
        {"weights": [0.5, 0.5], "rewards": [2.0, 2.0]},
        {"weights": [3e-300, 1e-300], "rewards": [0.0, 1e-4]},
    ]
    betas = [1e-6, 1e-2, 1.0, 1e2, 1e6]
    assert_equal(page, [{**world, **common, "beta": beta} for world in worlds for beta in betas])


def test_testbed_has_its_known_numbers(page):
    world = t8()
    case = {
        "weights": world.ref_logps.exp().tolist(),
        "rewards": world.rewards.tolist(),
        "other": world.ref_logps.exp().tolist(),
        "beta": 0.5,
        "betas": [1.0, 10.0],
    }
    (result,) = in_javascript(page, [case])
    # Worked without the library: Z at beta = 0.5 is the sum of pi_ref(y) exp(2 r(y)).
    z = sum(p * math.exp(2 * r) for p, r in zip(case["weights"], case["rewards"], strict=True))
    assert result["log_partition"] == pytest.approx(math.log(z), rel=1e-14)
    assert result["objective"] == pytest.approx(1.390549, abs=5e-7)
    offsets = np.subtract(result["implicit_reward"], case["rewards"])
    np.testing.assert_allclose(offsets, -1.390549, atol=5e-7)
    np.testing.assert_allclose(result["frontier_kl"], [0.5267, 4.612e-3], rtol=1e-4)
    assert result["zero_kl"] == pytest.approx(-math.log(0.02), rel=1e-14)
    assert result["infinity_reward"] == pytest.approx(0.39, rel=1e-14)
    assert_equal(page, [case])


def test_kl_is_exactly_zero_for_equal_policies_and_infinite_outside_the_support(page):
    equal, tiny, outside = page.evaluate(
        """() => {
          const ref = maths.logNormalise([0.3, 0.2, 0.15, 0.35, 0]);
          const near = maths.optimalPolicy(ref, [1, 1, 1, 1, 1], 0.1);
          return [maths.kl(ref, ref), maths.kl(near, ref),
                  maths.kl(maths.logNormalise([1, 1, 1, 1, 1]), ref)];
        }"""
    )
    assert equal == 0
    assert 0 <= tiny < 1e-30
    assert outside == math.inf
