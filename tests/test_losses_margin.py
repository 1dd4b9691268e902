"""beta-DPO's moving margin: its averages by hand, and its draws against exact probabilities."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from loss_cases import vector

from dpo_lab.losses import RunningMargin


def test_averages_by_hand():
    """Means 2 and 6, spreads sqrt(2) and 2 sqrt(2): .1 * 2 = .2, then .9 * .2 + .1 * 6 = .78."""
    margin = RunningMargin()
    margin.update(vector(1, 3))
    assert (margin.mean, margin.spread) == pytest.approx((0.2, 0.1 * math.sqrt(2)))
    margin.update(vector(4, 8))
    assert (margin.mean, margin.spread) == pytest.approx((0.78, 0.29 * math.sqrt(2)))


def landing_on(differences: torch.Tensor, mean: float, spread: float) -> dict[str, float]:
    """The state from which a batch moves the averages to this mean and spread."""
    return {
        "mean": (mean - 0.1 * differences.mean().item()) / 0.9,
        "spread": (spread - 0.1 * differences.std().item()) / 0.9,
    }


def inclusion(weights: list[float], kept: int) -> list[float]:
    """How likely each index is among `kept` drawn one after another, by every order of draws."""
    chances = [0.0] * len(weights)
    for order in itertools.permutations(range(len(weights)), kept):
        chance, left = 1.0, sum(weights)
        for index in order:
            chance *= weights[index] / left
            left -= weights[index]
        for index in order:
            chances[index] += chance
    return chances


def test_draws_follow_the_weights():
    """Four of five pairs, drawn 4000 times from one state."""
    differences, mean, spread = vector(-2, -0.5, 0, 1, 3), 0.3, 1.2
    before = landing_on(differences, mean, spread)
    generator, trials = torch.Generator().manual_seed(3), 4000
    counts = torch.zeros(5, dtype=torch.float64)
    for _ in range(trials):
        margin = RunningMargin(**before)
        drawn = margin.update(differences, generator)
        assert len(drawn) == 4
        counts[drawn] += 1
    assert (margin.mean, margin.spread) == pytest.approx((mean, spread))
    weights = torch.exp(-0.5 * ((differences - mean) / spread) ** 2).tolist()
    expected = vector(*inclusion(weights, 4))
    error = (expected * (1 - expected) / trials).sqrt()
    assert ((counts / trials - expected).abs() < 4 * error).all()
    assert expected.min() < 0.4 < 0.95 < expected.max()  # the case tells weights from none


def test_pairs_far_away_are_left_out_even_where_every_weight_is_0():
    """At 40 spreads exp(-z^2 / 2) is 0 in float64, and still more likely than at 2000."""
    far = vector(200, -300)
    differences = torch.cat([far, torch.linspace(4, 5, 8, dtype=torch.float64)])
    before = landing_on(differences, 0.0, 0.1)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        assert RunningMargin(**before).update(differences, generator).tolist() == [*range(2, 10)]


@pytest.mark.parametrize(
    ("pairs", "kept"), [(1, 1), (2, 1), (3, 2), (4, 3), (5, 4), (7, 5), (10, 8)]
)
def test_four_fifths_rounded_down_are_drawn_in_order(pairs, kept):
    """int(N (1 - .2)) as in the authors' code, but never none."""
    margin = RunningMargin(spread=1.0)
    drawn = margin.update(torch.linspace(-1, 1, pairs)).tolist()
    assert len(drawn) == kept
    assert drawn == sorted(set(drawn))
    assert set(drawn) <= set(range(pairs))


def test_a_batch_of_one_and_a_batch_without_spread_keep_every_pair():
    """The spread of one number is 0 here, not NaN; with spread 0 there is nothing to weigh by."""
    margin = RunningMargin()
    assert margin.update(vector(5)).tolist() == [0]
    assert (margin.mean, margin.spread) == pytest.approx((0.5, 0.0))
    assert margin.update(vector(2, 2, 2)).tolist() == [0, 1, 2]
    assert margin.update(vector(1, 2, 3)).numel() == 2
    assert margin.update(vector(7)).tolist() == [0]
    assert math.isfinite(margin.mean + margin.spread)


def test_a_resumed_margin_goes_on_as_if_it_had_never_stopped():
    batches = torch.randn(6, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    whole, straight = RunningMargin(), torch.Generator().manual_seed(2)
    expected = [whole.update(batch, straight).tolist() for batch in batches]
    first, generator = RunningMargin(), torch.Generator().manual_seed(2)
    seen = [first.update(batch, generator).tolist() for batch in batches[:3]]
    second = RunningMargin(**first.state_dict())
    seen += [second.update(batch, generator).tolist() for batch in batches[3:]]
    assert seen == expected
    assert second.state_dict() == whole.state_dict()


def test_the_margin_follows_values_and_holds_no_graph():
    margin, differences = RunningMargin(), torch.randn(4, requires_grad=True)
    drawn = margin.update(differences)
    assert not drawn.requires_grad
    assert isinstance(margin.mean, float)
