"""Losses over finitely many answers, against closed forms, and descent, against its theory."""

from __future__ import annotations

import math

import pytest
import torch

from dpo_lab import boltzmann, bradley_terry
from dpo_lab.errors import InputError
from dpo_lab.population import population_dpo_loss, uniform_pairs
from dpo_lab.tabular import TabularLoss, counted_preferences, descend, expected_preferences
from dpo_lab.worlds import t8

NAMES, REF, REWARDS = t8()
WINS = bradley_terry.win_matrix(REWARDS)
SOFT = expected_preferences(uniform_pairs(8), WINS)


def two_arms(p: float) -> torch.Tensor:
    """Preferences of two answers, the first chosen with probability p."""
    return torch.tensor([[0.0, p], [1 - p, 0.0]], dtype=torch.float64)


def even(answers: int) -> torch.Tensor:
    return torch.full((answers,), -math.log(answers), dtype=torch.float64)


def test_dpo_is_the_population_loss() -> None:
    policy = torch.log_softmax(torch.linspace(-1, 2, 8, dtype=torch.float64), -1)
    expected = population_dpo_loss(policy, REF, uniform_pairs(8), WINS, 0.5)
    assert torch.allclose(TabularLoss("dpo", REF, SOFT, 0.5)(policy), expected, rtol=1e-14)


def test_flips_mix_the_two_labels_and_votes_are_counted() -> None:
    table = expected_preferences(uniform_pairs(8), WINS, flip_rate=0.2)
    assert torch.allclose(table, 0.8 * SOFT + 0.2 * SOFT.T)
    won, lost = torch.tensor([0, 0, 2, 1]), torch.tensor([1, 1, 0, 0])
    counted = counted_preferences(won, lost, 3)
    assert counted.tolist() == [[0, 0.5, 0], [0.25, 0, 0], [0.25, 0, 0]]


@pytest.mark.parametrize(
    ("name", "options", "optimum"),
    [
        ("dpo", {}, lambda p: math.log(p / (1 - p)) / 0.5),
        (
            "cdpo",
            {"label_smoothing": 0.2},
            lambda p: math.log((0.6 * p + 0.2) / (0.8 - 0.6 * p)) / 0.5,
        ),
        ("robust", {"label_smoothing": 0.1}, lambda p: math.log((p - 0.1) / (0.9 - p)) / 0.5),
        ("ipo_sum", {}, lambda p: (2 * p - 1) / (2 * 0.5)),
        ("exo_pair", {"label_smoothing": 0.1}, lambda p: (2 * p - 1) * math.log(9) / 0.5),
        ("wpo", {}, lambda p: math.log(p / (1 - p)) / 0.5),
        ("tdpo1", {}, lambda p: math.log(p / (1 - p)) / 0.5),
    ],
)
def test_descent_lands_on_the_closed_form(name: str, options: dict, optimum) -> None:
    loss = TabularLoss(name, even(2), two_arms(0.8), 0.5, **options)
    rate = 4.0 if name == "wpo" else 0.45  # WPO's weights make its steps small
    end = descend(loss, even(2), steps=1000, learning_rate=rate, record=[1000])
    gap = end.policy_logps[0, 0] - end.policy_logps[0, 1]
    assert gap.item() == pytest.approx(optimum(0.8), abs=1e-5)


def test_descent_on_the_testbed_reaches_the_boltzmann_policy() -> None:
    end = descend(
        TabularLoss("dpo", REF, SOFT, 1.0), REF, steps=2000, learning_rate=1.0, record=[2000]
    )
    best = boltzmann.optimal_policy(REF, REWARDS, 1.0)
    assert boltzmann.kl(end.policy_logps[0], best).item() < 1e-12


@pytest.mark.parametrize(
    ("beta", "expected"),
    [(0.05, (0.0003, 0.028, 1.81)), (0.5, (0.024, 0.741, 1.81)), (2.0, (0.0746, 0.126, 0.126))],
)
def test_kl_on_the_way_is_that_of_the_notes(beta: float, expected: tuple) -> None:
    """Science notes, E12b: descent at rate 1; at step 10 the largest beta is farthest."""
    loss = TabularLoss("dpo", REF, SOFT, beta)
    path = descend(loss, REF, steps=1000, learning_rate=1.0, record=[10, 100, 1000])
    kls = boltzmann.kl(path.policy_logps, REF.expand(3, 8))
    for value, goal in zip(kls.tolist(), expected, strict=True):
        assert value == pytest.approx(goal, abs=5e-5 if goal < 0.01 else 5e-3)


def test_certain_labels_follow_the_ode() -> None:
    """z = beta h solves z + e^z = 1 + 2 eta beta^2 t: no end at any beta."""
    loss = TabularLoss("dpo", even(2), two_arms(1.0), 0.5)
    path = descend(loss, even(2), steps=10_000, learning_rate=0.1, record=[100, 1000, 10_000])
    gaps = path.policy_logps[:, 0] - path.policy_logps[:, 1]
    for t, gap in zip((100, 1000, 10_000), gaps.tolist(), strict=True):
        z = 0.5 * gap
        assert z + math.exp(z) == pytest.approx(1 + 2 * 0.1 * 0.25 * t, rel=0.02)
    assert gaps.tolist() == pytest.approx([3.02, 7.71, 12.41], abs=0.02)


def test_ktos_reference_point_is_the_exact_kl() -> None:
    policy = torch.log_softmax(REF + 0.3 * REWARDS, -1)
    z0 = boltzmann.kl(policy, REF)
    u = policy - REF
    good, bad = torch.sigmoid(-0.5 * (u - z0)), torch.sigmoid(0.5 * (u - z0))
    by_hand = (SOFT * (good[:, None] + bad[None, :])).sum() / 2
    assert torch.allclose(TabularLoss("kto", REF, SOFT, 0.5)(policy), by_hand, rtol=1e-13)


def test_wpo_weighs_answers_as_one_token_each() -> None:
    """w = pi(y) / sum pi^2; at (3/4, 1/4) that is 6/5 and 2/5, without gradient."""
    policy = torch.tensor([0.75, 0.25], dtype=torch.float64).log().requires_grad_()
    loss = TabularLoss("wpo", even(2), two_arms(1.0), 1.0)(policy)
    assert loss.item() == pytest.approx(1.2 * 0.4 * math.log(1 + 1 / 3))
    (slope,) = torch.autograd.grad(loss, policy)
    force = 1.2 * 0.4 * 0.25
    assert slope.tolist() == pytest.approx([-force, force])


def test_inputs_and_lengths_are_read_at_chosen_and_rejected() -> None:
    ahead = torch.tensor([[0.0, 3.0], [2.0, 0.0]], dtype=torch.float64)
    loss = TabularLoss("odpo", even(2), two_arms(0.8), 0.5, inputs={"score_difference": ahead})
    by_hand = 0.8 * math.log1p(math.exp(math.log(3))) + 0.2 * math.log1p(math.exp(math.log(2)))
    assert loss(even(2)).item() == pytest.approx(by_hand)
    lengths = torch.tensor([2, 5])
    loss = TabularLoss("rdpo", even(2), two_arms(1.0), 0.5, lengths=lengths, rdpo_alpha=0.1)
    assert loss(even(2)).item() == pytest.approx(math.log1p(math.exp(0.3)))


def test_adam_moves_every_beta_by_the_same_first_step() -> None:
    firsts = [
        descend(
            TabularLoss("dpo", REF, SOFT, beta), REF, steps=1, learning_rate=0.01, optimiser="adam"
        )
        for beta in (0.05, 2.0)
    ]
    moved = [path.policy_logps[1] - path.policy_logps[0] for path in firsts]
    assert torch.allclose(*moved, atol=1e-5)


def test_what_is_refused() -> None:
    with pytest.raises(InputError, match="meet in a batch"):
        TabularLoss("aot", REF, SOFT)
    with pytest.raises(InputError, match="sum to 1"):
        TabularLoss("dpo", REF, 2 * SOFT)
    with pytest.raises(InputError, match="diagonal"):
        TabularLoss("dpo", even(2), torch.eye(2).double() / 2)
    with pytest.raises(InputError, match="score_difference"):
        TabularLoss("odpo", REF, SOFT)
    with pytest.raises(InputError, match="flip_rate"):
        expected_preferences(uniform_pairs(8), WINS, flip_rate=1.5)
    loss = TabularLoss("sppo_hard", REF, SOFT, 1e-3)
    with pytest.raises(InputError, match="finite numbers"):
        descend(loss, REF, steps=2000, learning_rate=1e3)
    with pytest.raises(InputError, match="record"):
        descend(loss, REF, steps=3, learning_rate=1.0, record=[4])
