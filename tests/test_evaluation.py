"""Intervals and counts by hand."""

from __future__ import annotations

import pytest
import torch

from dpo_lab.errors import InputError
from dpo_lab.evaluation import (
    Interval,
    bootstrap,
    evaluate_answers,
    evaluate_pairs,
    proportion,
    rank_probability,
)
from dpo_lab.losses import AnswerLogps, PairLogps
from dpo_lab.pairs import PreferencePair, UnpairedExample


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
    logps = PairLogps(
        torch.tensor([-1.0, -2, -3, -4]),
        torch.tensor([-2.0, -2, -3, -1]),
        torch.tensor([-2.0, -2, -4, -4]),
        torch.tensor([-1.0, -2, -3, -2]),
        torch.tensor([1, 1, 1, 4]),
        torch.tensor([2, 1, 2, 1]),
    )
    result = evaluate_pairs(pairs, logps, beta=0.5)
    # log-ratios: chosen 1, 0, 1, 0; rejected -1, 0, 0, 1; margins 0.5 * (2, 0, 1, -1)
    assert result.accuracy.value == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    assert result.longer_wins.value == pytest.approx((1 + 0.5) / 4)
    assert result.ties == 1
    assert result.margin == pytest.approx(0.25)
    assert (result.logratio_chosen, result.logratio_rejected) == (0.5, 0.0)
    # SimPO has no reference; its reward is the average: -1, -2, -3, -1 against -1, -2, -1.5, -1
    own = evaluate_pairs(pairs, logps._replace(ref_chosen=None, ref_rejected=None), 2.0, "simpo")
    assert own.accuracy.value == pytest.approx((0.5 + 0.5 + 0 + 0.5) / 4)
    assert own.margin == pytest.approx(2 * -1.5 / 4)
    assert own.logratio_chosen is None
    assert "log-ratio" not in own.table()


def test_rank_probability_by_hand() -> None:
    """Of the 6 couples, 4 are right and one is a tie."""
    above, below = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0, 2.0])
    share = rank_probability(above, below)
    assert share.value == pytest.approx((0.5 + 1 + 3) / 6)
    assert 0 <= share.low <= share.value <= share.high <= 1
    with pytest.raises(InputError, match="both sides"):
        rank_probability(above, below[:0])


def test_the_rank_interval_covers_as_promised() -> None:
    """Two normals one standard deviation apart: P = Phi(1 / sqrt 2)."""
    truth = torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(0.5**0.5)).item()
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(100):
        above, below = (
            1 + torch.randn(40, generator=generator),
            torch.randn(50, generator=generator),
        )
        share = rank_probability(above, below, draws=300)
        covered += share.low <= truth <= share.high
    assert 88 <= covered <= 100  # 95 but for chance and the small groups


def test_a_bootstrap_keeps_rows_together_and_agrees_with_the_normal_interval() -> None:
    """Two models that err on the same pairs: the interval of their difference is the narrow one."""
    generator = torch.Generator().manual_seed(0)
    first = (torch.rand(400, generator=generator) < 0.7).double()
    second = first.clone()
    second[:20] = 1 - second[:20]
    found = bootstrap(lambda x, y: (x - y).mean().item(), first, second, draws=2000)
    gaps = first - second
    reach = 1.96 * gaps.std().item() / 400**0.5
    assert found.value == pytest.approx(gaps.mean().item())
    assert (found.low, found.high) == pytest.approx(
        (found.value - reach, found.value + reach), abs=0.1 * reach + 1 / 400
    )
    apart = 2 * 1.96 * (first.var() + second.var()).item() ** 0.5 / 400**0.5
    assert found.high - found.low < 0.5 * apart  # as if the two had seen different pairs
    assert bootstrap(lambda x, y: (x - y).mean(), first, first) == Interval(0.0, 0.0, 0.0)
    with pytest.raises(InputError, match="two rows"):
        bootstrap(torch.mean, first[:1])


def test_answers_by_hand() -> None:
    examples = [
        UnpairedExample("p", "long and good", True),
        UnpairedExample("q", "bad", False),
        UnpairedExample("p", "good", True),
    ]
    logps = AnswerLogps(
        torch.tensor([-1.0, -3.0, -2.0]),
        torch.tensor([-2.0, -1.0, -2.5]),
        torch.tensor([True, False, True]),
    )
    result = evaluate_answers(examples, logps, beta=0.5)
    assert (result.good, result.bad) == (2, 1)
    assert (result.rank.value, result.longer.value) == (1.0, 1.0)
    assert (result.reward_good, result.reward_bad) == pytest.approx((0.375, -1.0))
    assert "2 good, 1 bad" in result.table()
