"""Bradley-Terry against hand-worked numbers, brute force, and a second algorithm."""

from __future__ import annotations

import itertools
import math

import jaxtyping
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dpo_lab import bradley_terry as bt
from dpo_lab.errors import InputError
from dpo_lab.worlds import t8

# Strengths 4 : 2 : 1 explain these counts exactly, so the rewards are log 2, 0, -log 2.
PERFECT = torch.tensor([[0, 4, 4], [2, 0, 4], [1, 2, 0]], dtype=torch.float64)
# No strengths explain these: the second beats the third less often than the first does not.
UNEVEN = torch.tensor([[0, 7, 2], [3, 0, 5], [3, 1, 0]], dtype=torch.float64)
BLOCKS = torch.block_diag(
    PERFECT, torch.tensor([[0, 3], [1, 0]], dtype=torch.float64), torch.zeros(1, 1).double()
)

numbers = st.floats(-20, 20, allow_nan=False, width=32)
seeds = st.integers(0, 2**32 - 1)


def table(seed: int, items: int) -> torch.Tensor:
    """A random table of counts over four orders of magnitude, some pairs never compared."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.rand(items, items, generator=generator, dtype=torch.float64)
    scale = 10 ** (2 * torch.rand((), generator=generator, dtype=torch.float64))
    seen = torch.rand(items, items, generator=generator) < 0.7
    return (scale * counts**3 * seen).fill_diagonal_(0)


def wins_from(rewards: torch.Tensor, games: torch.Tensor | float = 1.0) -> torch.Tensor:
    """Expected wins when every pair plays `games` times."""
    return (games * bt.win_matrix(rewards)).fill_diagonal_(0)


def minorise_maximise(wins: torch.Tensor) -> torch.Tensor:
    """Hunter 2004, eq. 3: strengths = wins / sum of games over summed strengths, again and again.

    Works on strengths, needs no derivative and no matrix: nothing is shared with `fit`.
    """
    games = wins + wins.T
    strengths = torch.ones(len(wins), dtype=torch.float64)
    for _ in range(200_000):
        sums = strengths[:, None] + strengths[None, :]
        new = wins.sum(1) / (games / sums).sum(1)
        new = new / new.log().mean().exp()
        if float((new / strengths - 1).abs().max()) < 1e-14:
            break
        strengths = new
    return strengths.log()


# --- probabilities and likelihood ---


def test_win_probability_by_hand():
    chosen = torch.tensor([0.0, math.log(3), 1.0], dtype=torch.float64)
    rejected = torch.tensor([0.0, 0.0, 3.0], dtype=torch.float64)
    expected = torch.tensor([0.5, 0.75, 1 / (1 + math.e**2)], dtype=torch.float64)
    torch.testing.assert_close(bt.win_probability(chosen, rejected), expected)


@given(numbers, numbers)
def test_win_probability_is_a_ratio_of_strengths_and_ignores_a_shift(a, b):
    one, two = torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64)
    p = bt.win_probability(one, two)
    torch.testing.assert_close(p, one.exp() / (one.exp() + two.exp()))
    torch.testing.assert_close(p + bt.win_probability(two, one), torch.ones(1).double())
    torch.testing.assert_close(p, bt.win_probability(one + 3.7, two + 3.7))


def test_likelihood_from_counts_equals_likelihood_from_pairs():
    rewards = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
    winners, losers = torch.tensor([0, 2, 2, 1, 0]), torch.tensor([1, 1, 1, 0, 2])
    wins = bt.count_wins(winners, losers, 3)
    assert wins.tolist() == [[0, 1, 1], [1, 0, 0], [0, 2, 0]]
    by_hand = sum(
        -math.log(1 + math.exp(-gap)) for gap in (1.3, 3.0, 3.0, -1.3, -1.7)
    )  # the five reward differences winner minus loser
    assert bt.log_likelihood(rewards, wins).item() == pytest.approx(by_hand, abs=1e-12)
    pairs = bt.pair_log_likelihood(rewards, winners, losers)
    assert pairs.sum().item() == pytest.approx(by_hand, abs=1e-12)


@given(seeds, numbers)
def test_likelihood_ignores_one_constant_per_component(seed, shift):
    rewards = torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    moved = rewards.clone()
    moved[3:5] += shift
    torch.testing.assert_close(bt.log_likelihood(moved, BLOCKS), bt.log_likelihood(rewards, BLOCKS))


# --- maximum likelihood ---


def test_fit_finds_the_strengths_that_explain_a_table_exactly():
    fit = bt.fit(PERFECT)
    expected = torch.tensor([math.log(2), 0.0, -math.log(2)], dtype=torch.float64)
    torch.testing.assert_close(fit.rewards, expected, atol=1e-14, rtol=0)
    by_hand = 8 * math.log(2 / 3) + 4 * math.log(1 / 3) + 4 * math.log(0.8) + math.log(0.2)
    assert fit.log_likelihood == pytest.approx(by_hand, abs=1e-12)


def test_fit_of_two_items_is_the_log_odds():
    fit = bt.fit(torch.tensor([[0, 9], [3, 0]], dtype=torch.float64))
    assert (fit.rewards[0] - fit.rewards[1]).item() == pytest.approx(math.log(3), abs=1e-14)
    # The information of 12 games at p = 3/4 is 12 * 3/16; the gap's variance is its inverse.
    gap_variance = fit.covariance[0, 0] + fit.covariance[1, 1] - 2 * fit.covariance[0, 1]
    assert gap_variance.item() == pytest.approx(16 / 36, abs=1e-14)


def test_fit_agrees_with_a_grid_over_all_rewards():
    first, second = torch.meshgrid(*[torch.linspace(-1.5, 1.5, 601).double()] * 2, indexing="ij")
    grid = torch.stack([first, second, -first - second])  # the third by centring
    gaps = grid[:, None] - grid[None, :]
    likelihood = (UNEVEN[..., None, None] * torch.nn.functional.logsigmoid(gaps)).sum((0, 1))
    best = grid.flatten(1)[:, likelihood.argmax()]
    fit = bt.fit(UNEVEN)
    torch.testing.assert_close(fit.rewards, best, atol=0.0026, rtol=0)  # half a grid step
    assert fit.log_likelihood >= likelihood.max().item()


@given(seeds, st.integers(2, 7))
@settings(deadline=None)
def test_fit_agrees_with_minorise_maximise(seed, items):
    wins = table(seed, items)
    try:
        fit = bt.fit(wins)
    except InputError:
        assume(False)
    assume(bool((fit.components == 0).all()))  # its strengths are centred over all items
    assume(float(fit.rewards.abs().max()) < 6)  # beyond, the slow algorithm takes for ever
    torch.testing.assert_close(fit.rewards, minorise_maximise(wins), atol=1e-7, rtol=0)


@given(seeds, st.integers(2, 7), st.floats(1e-6, 1e6))
@settings(deadline=None)
def test_at_the_maximum_expected_wins_equal_observed_wins(seed, items, scale):
    wins = scale * table(seed, items)
    try:
        fit = bt.fit(wins)
    except InputError:
        assume(False)
    expected = ((wins + wins.T) * bt.win_matrix(fit.rewards)).sum(1)
    # Rounding of the largest counts reaches the equations of the smallest ones.
    torch.testing.assert_close(expected, wins.sum(1), rtol=0, atol=1e-14 * float(wins.sum()))
    for label in fit.components.unique():
        assert abs(fit.rewards[fit.components == label].sum().item()) < 1e-12


@given(seeds)
@settings(deadline=None)
def test_fit_recovers_the_rewards_from_expected_counts(seed):
    rewards = 2 * torch.randn(5, generator=torch.Generator().manual_seed(seed)).double()
    fit = bt.fit(wins_from(rewards, games=3.0))
    torch.testing.assert_close(fit.rewards, rewards - rewards.mean(), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("more", "fewer"), [(1e12, 1.0), (1.0, 1e-12), (1e12, 1e-3)])
def test_fit_survives_lopsided_counts(more, fewer):
    """One against 10^15 games: 1 - p is rounding, so the gradient must not be made of it."""
    fit = bt.fit(torch.tensor([[0, more], [fewer, 0]], dtype=torch.float64))
    half = math.log(more / fewer) / 2
    assert fit.rewards.tolist() == pytest.approx([half, -half], rel=1e-12)
    assert fit.iterations < 60


def test_fit_keeps_components_of_very_different_size_apart():
    small = torch.tensor([[0, 3], [1, 0]], dtype=torch.float64)
    fit = bt.fit(torch.block_diag(1e12 * PERFECT, 1e-9 * small))
    half = math.log(3) / 2
    expected = torch.tensor([math.log(2), 0, -math.log(2), half, -half], dtype=torch.float64)
    torch.testing.assert_close(fit.rewards, expected, atol=1e-12, rtol=0)
    # Covariance scales with one over the counts, in each block.
    torch.testing.assert_close(
        fit.covariance[3:, 3:], bt.fit(small).covariance * 1e9, rtol=1e-9, atol=0
    )


def test_fit_with_a_ridge_by_brute_force():
    """With a ridge the maximum exists even where nobody ever lost; the gap solves one equation."""
    never_lost = torch.tensor([[0, 5], [0, 0]], dtype=torch.float64)
    fit = bt.fit(never_lost, ridge=0.1)
    gap = (fit.rewards[0] - fit.rewards[1]).item()
    # d/dgap of 5 log sigmoid(gap) - 0.1/2 * 2 * (gap/2)^2 is 5 sigmoid(-gap) - 0.05 gap.
    assert 5 / (1 + math.exp(gap)) == pytest.approx(0.05 * gap, abs=1e-12)
    assert fit.rewards.sum().item() == pytest.approx(0, abs=1e-12)
    assert fit.log_likelihood == pytest.approx(-5 * math.log1p(math.exp(-gap)), abs=1e-12)


# --- what the data do not say ---


def test_components_get_one_constant_each():
    fit = bt.fit(BLOCKS)
    assert fit.components.tolist() == [0, 0, 0, 1, 1, 2]
    half = math.log(3) / 2
    expected = [math.log(2), 0, -math.log(2), half, -half, 0]
    torch.testing.assert_close(fit.rewards, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(fit.covariance[:3, 3:], torch.zeros(3, 3).double())


@given(seeds, st.integers(1, 8))
@settings(deadline=None)
def test_components_by_walking(seed, items):
    generator = torch.Generator().manual_seed(seed)
    wins = (torch.rand(items, items, generator=generator) < 0.2).double().fill_diagonal_(0)
    labels, found = [-1] * items, 0
    for start in range(items):
        if labels[start] < 0:
            waiting, found = [start], found + 1
            while waiting:
                item = waiting.pop()
                labels[item] = found - 1
                met = ((wins[item] + wins[:, item]) > 0).nonzero().flatten().tolist()
                waiting += [other for other in met if labels[other] < 0]
    assert bt.connected_components(wins).tolist() == labels


def has_split(wins: torch.Tensor) -> bool:
    """Whether some group never lost to the rest, by trying every group (Ford 1957)."""
    items = range(len(wins))
    for size in range(1, len(wins)):
        for group in itertools.combinations(items, size):
            rest = [item for item in items if item not in group]
            beat, lost = wins[list(group)][:, rest].sum(), wins[rest][:, list(group)].sum()
            if beat > 0 and lost == 0:
                return True
    return False


@given(seeds, st.integers(2, 6))
@settings(deadline=None)
def test_fit_refuses_exactly_the_tables_without_a_finite_maximum(seed, items):
    generator = torch.Generator().manual_seed(seed)
    wins = (torch.rand(items, items, generator=generator) < 0.35).double().fill_diagonal_(0)
    if has_split(wins):
        with pytest.raises(InputError, match="no finite maximum-likelihood rewards"):
            bt.fit(wins)
    else:
        assert torch.isfinite(bt.fit(wins).rewards).all()


def test_the_message_names_the_group_that_never_lost():
    wins = torch.tensor([[0, 2, 1], [1, 0, 1], [0, 0, 0]], dtype=torch.float64)
    with pytest.raises(InputError, match=r"items \[0, 1\] never lost .*set ridge > 0"):
        bt.fit(wins)
    wins[2, 1] = 1
    assert torch.isfinite(bt.fit(wins).rewards).all()


def test_hessian_on_t8_has_one_null_direction():
    """Mean loss over the 28 pairs of T8 with labels from the true rewards (beta = 1)."""
    rewards = t8().rewards
    wins = wins_from(rewards) / 28

    def loss(r):
        return -bt.log_likelihood(r, wins)

    hessian = torch.autograd.functional.hessian(loss, rewards)
    values, vectors = torch.linalg.eigh(hessian)
    assert abs(values[0].item()) < 1e-16
    assert vectors[:, 0].abs().tolist() == pytest.approx([8**-0.5] * 8, abs=1e-12)
    assert round(values[1].item(), 4) == 0.0210
    assert round(values[-1].item(), 4) == 0.0526
    # The covariance is the pseudo-inverse of that Hessian.
    torch.testing.assert_close(bt.fit(wins).covariance, torch.linalg.pinv(hessian))


def test_covariance_is_what_repeated_experiments_show():
    """400 simulated tables of 3000 votes: the spread of their fits is the covariance."""
    rewards = torch.tensor([1.0, 0.2, -0.4, -0.8], dtype=torch.float64)
    pairs = torch.combinations(torch.arange(4)).repeat(500, 1)
    fits = []
    for seed in range(400):
        winners, losers = bt.simulate_votes(rewards, pairs, seed=seed)
        fits.append(bt.fit(bt.count_wins(winners, losers, 4)).rewards)
    seen = torch.stack(fits).T.cov()
    theory = bt.fit(wins_from(rewards, games=500.0)).covariance
    # The relative error of a variance from 400 draws is sqrt(2 / 400) = 0.07; allow three.
    torch.testing.assert_close(seen.diagonal(), theory.diagonal(), rtol=0.21, atol=0)


# --- rankings ---


def test_plackett_luce_by_hand():
    rewards = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64).log()
    rankings = torch.tensor([[0, 1, 2], [2, 1, 0]])
    expected = torch.tensor([4 / 7 * 2 / 3, 1 / 7 * 2 / 6], dtype=torch.float64)
    got = bt.plackett_luce_log_likelihood(rewards, rankings).exp()
    torch.testing.assert_close(got, expected)


@given(seeds)
def test_plackett_luce_with_two_places_is_bradley_terry(seed):
    rewards = 5 * torch.randn(6, generator=torch.Generator().manual_seed(seed)).double()
    pairs = torch.combinations(torch.arange(6))
    torch.testing.assert_close(
        bt.plackett_luce_log_likelihood(rewards, pairs),
        bt.pair_log_likelihood(rewards, pairs[:, 0], pairs[:, 1]),
    )


@given(seeds, st.integers(1, 5))
def test_plackett_luce_is_a_distribution_over_rankings(seed, items):
    rewards = 3 * torch.randn(items, generator=torch.Generator().manual_seed(seed)).double()
    rankings = torch.tensor(list(itertools.permutations(range(items))))
    probabilities = bt.plackett_luce_log_likelihood(rewards, rankings).exp()
    assert probabilities.sum().item() == pytest.approx(1, abs=1e-12)
    if items >= 2:  # who of two stands first, whatever the others do, is Bradley-Terry
        first = (rankings == 0).int().argmax(1) < (rankings == 1).int().argmax(1)
        expected = torch.sigmoid(rewards[0] - rewards[1]).item()
        assert probabilities[first].sum().item() == pytest.approx(expected, abs=1e-12)


# --- simulated voters ---


@pytest.mark.parametrize("flip_rate", [0.0, 0.1, 0.4])
def test_simulated_frequencies(flip_rate):
    rewards = torch.tensor([1.5, 0.0], dtype=torch.float64)
    votes = 40_000
    pairs = torch.tensor([[0, 1], [1, 0]]).repeat(votes // 2, 1)
    winners, losers = bt.simulate_votes(rewards, pairs, flip_rate=flip_rate, seed=3)
    assert bool((winners + losers == 1).all())
    clean = 1 / (1 + math.exp(-1.5))
    p = flip_rate + (1 - 2 * flip_rate) * clean
    spread = math.sqrt(p * (1 - p) / votes)
    assert (winners == 0).double().mean().item() == pytest.approx(p, abs=4 * spread)


def test_simulation_repeats_with_its_seed_only():
    rewards, pairs = torch.zeros(2), torch.tensor([[0, 1]]).repeat(50, 1)
    first, _ = bt.simulate_votes(rewards, pairs, seed=1)
    state = torch.get_rng_state()
    again, _ = bt.simulate_votes(rewards, pairs, seed=1)
    other, _ = bt.simulate_votes(rewards, pairs, seed=2)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


# --- bad input ---

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def without_shape_checks():
    """A reader's session has no shape checks of jaxtyping: there our own message must come."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("wins", "words"),
    [
        ([[0.0, 1.0]], r"square table of counts, got shape \(1, 2\)"),
        ([[0.0, -1.0], [1.0, 0.0]], "negative count"),
        ([[0.0, NAN], [1.0, 0.0]], "wins must be finite"),
        ([[0.0, INF], [1.0, 0.0]], "wins must be finite"),
        ([[1.0, 2.0], [1.0, 0.0]], "cannot beat itself"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_bad_tables(wins, words):
    with pytest.raises(InputError, match=words):
        bt.fit(torch.tensor(wins, dtype=torch.float64))


@pytest.mark.usefixtures("without_shape_checks")
def test_shapes_that_do_not_match():
    with pytest.raises(InputError, match=r"wins has shape \(1, 1\) for 3 rewards"):
        bt.log_likelihood(torch.zeros(3), torch.zeros(1, 1))
    with pytest.raises(InputError, match=r"rejected_rewards has shape \(1,\)"):
        bt.win_probability(torch.zeros(3), torch.zeros(1))
    for call in (
        lambda one, two: bt.count_wins(one, two, 3),
        lambda one, two: bt.pair_log_likelihood(torch.zeros(3), one, two),
    ):
        with pytest.raises(InputError, match=r"losers has shape \(1,\)"):
            call(torch.tensor([0, 1]), torch.tensor([2]))


def test_an_empty_table():
    with pytest.raises(InputError, match=r"got shape \(0, 0\)"):
        bt.fit(torch.zeros(0, 0))


@pytest.mark.parametrize("ridge", [-1.0, NAN, INF])
def test_bad_ridge(ridge):
    with pytest.raises(InputError, match="ridge must be finite and at least 0"):
        bt.fit(PERFECT, ridge=ridge)


@pytest.mark.parametrize("steps", [0, 1])
def test_too_few_steps_are_not_passed_off_as_a_maximum(steps):
    with pytest.raises(InputError, match=f"no convergence in max_iterations={steps}"):
        bt.fit(UNEVEN, max_iterations=steps)


@pytest.mark.parametrize(
    ("winners", "losers", "words"),
    [
        ([0, 1], [1, 3], r"pair 1: item 3 is not in 0\.\.2"),
        ([0, -1], [1, 2], r"pair 1: item -1 is not in 0\.\.2"),
        ([0, 2], [1, 2], "pair 1: item 2 is compared with itself"),
    ],
)
def test_bad_pairs(winners, losers, words):
    winners, losers = torch.tensor(winners), torch.tensor(losers)
    with pytest.raises(InputError, match=words):
        bt.count_wins(winners, losers, 3)
    with pytest.raises(InputError, match=words):
        bt.pair_log_likelihood(torch.zeros(3), winners, losers)
    with pytest.raises(InputError, match=words):
        bt.simulate_votes(torch.zeros(3), torch.stack([winners, losers], -1))


def test_bad_ranking():
    with pytest.raises(InputError, match="ranking 1: item 0 is compared with itself"):
        bt.plackett_luce_log_likelihood(torch.zeros(3), torch.tensor([[0, 1, 2], [0, 1, 0]]))


@pytest.mark.parametrize("flip_rate", [-0.1, 1.0, NAN])
def test_bad_flip_rate(flip_rate):
    with pytest.raises(InputError, match=r"flip_rate must lie in \[0, 1\)"):
        bt.simulate_votes(torch.zeros(2), torch.tensor([[0, 1]]), flip_rate=flip_rate)


def test_voters_need_finite_rewards():
    with pytest.raises(InputError, match="rewards must be finite"):
        bt.simulate_votes(torch.tensor([0.0, INF]), torch.tensor([[0, 1]]))
