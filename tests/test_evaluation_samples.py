"""Estimates from samples against exact values, by hand, and against other implementations."""

from __future__ import annotations

import math

import pytest
import torch

from dpo_lab import boltzmann
from dpo_lab.errors import InputError
from dpo_lab.evaluation.calibration import correlation, reliability
from dpo_lab.evaluation.samples import diversity, estimate, sampled_kl, win_rate
from dpo_lab.worlds import t8

NAMES, REF, REWARDS = t8()


@pytest.mark.parametrize("beta", [0.25, 1.0])
def test_kl_estimates_against_the_exact_kl(beta: float) -> None:
    """Unbiased k1 and k3, and k2 with its own mean; science notes, E16."""
    policy = boltzmann.optimal_policy(REF, REWARDS, beta)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.multinomial(policy.exp(), 40_000, replacement=True, generator=generator)
    found = sampled_kl(policy[drawn], REF[drawn])
    exact = boltzmann.kl(policy, REF).item()
    ratio = policy - REF
    means = {
        "k1": exact,
        "k2": (policy.exp() * 0.5 * ratio**2).sum().item(),
        "k3": exact,
    }
    for name, mean in means.items():
        value = getattr(found, name)
        assert abs(value.value - mean) < 5 * value.error, name
    spread = (policy.exp() * (ratio - exact) ** 2).sum().sqrt().item()
    assert found.k1.error == pytest.approx(spread / 200, rel=0.03)
    # k3 is the better estimator at a small KL and by far the worse one at a large KL
    assert (found.k3.error < found.k1.error) == (beta == 1.0)


def test_an_estimate_by_hand() -> None:
    found = estimate(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    assert (found.value, found.error) == pytest.approx((3.0, math.sqrt(14 / 3) / 2))
    assert str(found) == "3.000 ± 1.080"
    with pytest.raises(InputError, match="at least 2"):
        estimate(torch.tensor([1.0]))


def test_diversity_by_hand() -> None:
    same = diversity(["it was good"] * 3)
    assert (same.distinct_1, same.distinct_2) == pytest.approx((3 / 9, 2 / 6))
    assert same.self_bleu == pytest.approx(100)
    other = diversity(["it was good", "a b c", "d e f g"])
    assert (other.distinct_1, other.distinct_2) == (1.0, 1.0)
    assert other.self_bleu < 15
    with pytest.raises(InputError):
        diversity(["alone"])


def test_win_rate_by_hand_and_at_equal_length() -> None:
    scores, other = torch.tensor([1.0, 2, 3, 4]), torch.tensor([0.0, 2, 4, 1])
    flat = torch.zeros(4)
    result = win_rate(scores, other, flat, flat)
    assert result.rate.value == pytest.approx((1 + 0.5 + 0 + 1) / 4)
    # the ridge pulls the intercept a little towards 0
    assert result.at_equal_length.value == pytest.approx(0.625, abs=2e-3)
    assert result.rate.low <= 0.625 <= result.rate.high


def test_a_judge_who_counts_words_is_found_out() -> None:
    """Wins follow length alone: the plain rate is high, at equal length it is one half."""
    generator = torch.Generator().manual_seed(0)
    longer = 10 + 8 * torch.randn(4000, generator=generator, dtype=torch.float64)
    wins = torch.rand(4000, generator=generator, dtype=torch.float64) < torch.sigmoid(longer / 6)
    zeros = torch.zeros(4000, dtype=torch.float64)
    result = win_rate(wins.double() - 0.5, zeros, longer, zeros, draws=200)
    assert result.rate.value > 0.75
    assert result.at_equal_length.low < 0.5 < result.at_equal_length.high
    assert result.at_equal_length.high - result.at_equal_length.low < 0.12


def test_the_regression_is_the_one_of_another_library() -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is not installed")
    generator = torch.Generator().manual_seed(1)
    longer = torch.randn(60, generator=generator, dtype=torch.float64) * 7 + 3
    gap = torch.randn(60, generator=generator, dtype=torch.float64) + 0.1 * longer
    zeros = torch.zeros(60, dtype=torch.float64)
    ours = win_rate(gap, zeros, longer, zeros, draws=10).at_equal_length.value
    x, y = (longer / longer.std(correction=0)).numpy(), (gap > 0).double().numpy()

    def objective(w):
        logits = torch.tensor(w[0] + w[1] * x)
        nll = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor(y))
        return nll.item() + 5e-4 * (w[0] ** 2 + w[1] ** 2)

    best = optimize.minimize(objective, [0.0, 0.0], tol=1e-12)
    assert ours == pytest.approx(1 / (1 + math.exp(-best.x[0])), abs=1e-5)


def test_reliability_by_hand() -> None:
    """Margins log 3 (confidence .75), twice right and once wrong, and one of 0."""
    m = math.log(3)
    found = reliability(torch.tensor([m, m, -m, 0.0]), bins=2)
    assert found.counts.tolist() == [1, 3]
    assert found.confidence.tolist() == pytest.approx([0.5, 0.75])
    assert found.accuracy.tolist() == pytest.approx([0.5, 2 / 3])
    assert found.error == pytest.approx(3 / 4 * (0.75 - 2 / 3))


def test_margins_that_voters_agree_with_are_calibrated_and_doubled_ones_are_not() -> None:
    generator = torch.Generator().manual_seed(2)
    gaps = 2 * torch.randn(50_000, generator=generator, dtype=torch.float64)
    won = torch.rand(50_000, generator=generator, dtype=torch.float64) < torch.sigmoid(gaps)
    margins = torch.where(won, gaps, -gaps)
    assert reliability(margins).error < 0.01
    assert reliability(2 * margins).error > 0.05


def test_correlations_by_hand_and_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed")
    first = torch.tensor([1.0, 2, 2, 5, 9, 9, 9])
    second = torch.tensor([2.0, 1, 4, 4, 8, 3, 20])
    pearson, spearman = correlation(first, second)
    assert pearson == pytest.approx(stats.pearsonr(first, second).statistic)
    assert spearman == pytest.approx(stats.spearmanr(first, second).statistic)
    assert correlation(first, first**3)[1] == pytest.approx(1.0)
