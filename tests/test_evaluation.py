"""Intervals and counts by hand."""

from __future__ import annotations

import pytest
import torch

from dpo_lab.errors import InputError
from dpo_lab.evaluation import evaluate_pairs, proportion
from dpo_lab.pairs import PreferencePair
from dpo_lab.scoring import ScoredPairs


def test_wilson_interval_by_hand() -> None:
    # z = 1.959964, z^2/n = 0.384146: centre (0.8 + 0.192073) / 1.384146,
    # half-width 1.959964 sqrt(0.016 + 0.00960365) / 1.384146
    share = proportion(8, 10)
    assert (share.value, share.low, share.high) == pytest.approx(
        (0.8, 0.490162, 0.943318), abs=1e-6
    )


def test_wilson_interval_covers_as_promised() -> None:
    """Exact coverage for n = 60, p = 0.7, summed over the binomial distribution."""
    n, p = 60, 0.7
    weights = torch.distributions.Binomial(n, torch.tensor(p, dtype=torch.float64))
    covered = sum(
        weights.log_prob(torch.tensor(float(k))).exp().item()
        for k in range(n + 1)
        if proportion(k, n).low <= p <= proportion(k, n).high
    )
    assert 0.93 < covered < 0.98


@pytest.mark.parametrize(("successes", "total"), [(0, 5), (5, 5)])
def test_wilson_interval_stays_inside_and_has_width(successes: int, total: int) -> None:
    share = proportion(successes, total)
    assert 0 <= share.low < share.high <= 1


@pytest.mark.parametrize(("successes", "total"), [(1, 0), (-1, 5), (6, 5)])
def test_impossible_counts(successes: int, total: int) -> None:
    with pytest.raises(InputError):
        proportion(successes, total)


def test_evaluation_by_hand() -> None:
    pairs = [
        PreferencePair("p", "long one", "short"),  # the longer answer wins
        PreferencePair("p", "ab", "cd"),  # same length: half
        PreferencePair("p", "a", "longer"),
        PreferencePair("p", "b", "longer"),
    ]
    policy = ScoredPairs(torch.tensor([-1.0, -2, -3, -4]), torch.tensor([-2.0, -2, -3, -1]))
    reference = ScoredPairs(torch.tensor([-2.0, -2, -4, -4]), torch.tensor([-1.0, -2, -3, -2]))
    result = evaluate_pairs(pairs, policy, reference, beta=0.5)
    # log-ratios: chosen 1, 0, 1, 0; rejected -1, 0, 0, 1; margins 0.5 * (2, 0, 1, -1)
    assert result.accuracy.value == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    assert result.longer_wins.value == pytest.approx((1 + 0.5) / 4)
    assert result.ties == 1
    assert result.margin == pytest.approx(0.25)
    assert (result.logratio_chosen, result.logratio_rejected) == (0.5, 0.0)
