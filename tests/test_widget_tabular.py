"""tabular.js, run as it is in Chromium, against dpo_lab.tabular and torch's optimisers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from widget_page import open_modules

from dpo_lab import bradley_terry
from dpo_lab.population import uniform_pairs
from dpo_lab.tabular import TabularLoss, descend, expected_preferences
from dpo_lab.widgets.tables import TABLE_LOSSES
from dpo_lab.worlds import t8

pytestmark = pytest.mark.browser

NAMES, REF, REWARDS = t8()
SOFT = expected_preferences(uniform_pairs(8), bradley_terry.win_matrix(REWARDS))
MODULES = {"tabular.js": "descent, expectedPreferences, tabularLoss"}
FOLLOW = """
([name, ref, preferences, beta, options, optimiser, rate, record]) => {
  const loss = tested.tabularLoss(name, ref, preferences, beta, options);
  const run = tested.descent(ref, rate, optimiser);
  const [policies, losses] = [[], []];
  for (const stop of record) {
    while (run.steps() < stop) if (run.step(loss) === false) return { broken: run.steps() };
    policies.push(run.policy());
    losses.push(loss(run.policy()).loss);
  }
  return { policies, losses };
}
"""
RATES = {"sgd": 1.0, "adam": 0.01}


@pytest.fixture(scope="module")
def page(chromium, tmp_path_factory):
    page = chromium.new_page()
    open_modules(page, tmp_path_factory.mktemp("modules"), MODULES)
    yield page
    page.close()


def follow(page, name, ref, preferences, beta, optimiser, rate, record, **options) -> dict:
    table = preferences.tolist()
    given = [name, ref.tolist(), table, beta, options, optimiser, rate, record]
    return page.evaluate(FOLLOW, given)


def assert_same_run(page, name, ref, preferences, beta, optimiser, rate, record, **options) -> None:
    shown = follow(page, name, ref, preferences, beta, optimiser, rate, record, **options)
    expected = descend(
        TabularLoss(name, ref, preferences, beta, **options),
        ref,
        steps=record[-1],
        learning_rate=rate,
        optimiser=optimiser,
        record=record,
    )
    near = {"rtol": 1e-10, "atol": 1e-10, "err_msg": f"{name} by {optimiser}, beta {beta}"}
    np.testing.assert_allclose(shown["policies"], expected.policy_logps, **near)
    np.testing.assert_allclose(shown["losses"], expected.losses, **near)


def random_world(answers: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A reference, and preferences with holes: some pairs are never shown."""
    generator = torch.Generator().manual_seed(seed)
    ref = torch.log_softmax(torch.randn(answers, generator=generator, dtype=torch.float64), -1)
    table = torch.rand(answers, answers, generator=generator, dtype=torch.float64)
    table = (table * (table > 0.4)).fill_diagonal_(0)
    return ref, table / table.sum()


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("name", TABLE_LOSSES)
def test_runs_agree_with_python(page, name, optimiser):
    # sppo's beta is a step size: 1 / (2 beta) is its target. 0.1 keeps every loss stable.
    rate = 0.1 * RATES[optimiser]
    record = [1, 2, 10, 100, 300]
    assert_same_run(page, name, REF, SOFT, 0.5, optimiser, rate, record)
    ref, table = random_world(5, seed=7)
    assert_same_run(page, name, ref, table, 0.3, optimiser, rate, record)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("tdpo2", {"tdpo_alpha": 2.0}),
        ("cdpo", {"label_smoothing": 0.3}),
        ("simpo", {"gamma_beta_ratio": 1.5}),
    ],
)
def test_options_reach_the_loss(page, name, options):
    assert_same_run(page, name, REF, SOFT, 0.5, "sgd", 0.3, [1, 50], **options)


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("beta", [0.05, 0.5, 2.0])
def test_a_long_run_agrees_to_its_end(page, beta, optimiser):
    rate = RATES[optimiser]
    assert_same_run(page, "dpo", REF, SOFT, beta, optimiser, rate, [1, 100, 3000])


def test_one_step_worked_by_hand(page):
    """Two even answers, one certain label, beta .5: the gradient is -.25 at the winner's logit."""
    ref = torch.full((2,), -math.log(2), dtype=torch.float64)
    table = torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    for optimiser, moved in (("sgd", 2 * 0.25 * 0.3), ("adam", 2 * 0.3)):
        shown = follow(page, "dpo", ref, table, 0.5, optimiser, 0.3, [0, 1])
        assert shown["losses"][0] == pytest.approx(math.log(2), rel=1e-15)
        gap = shown["policies"][1][0] - shown["policies"][1][1]
        assert gap == pytest.approx(moved, rel=1e-7)


def test_a_step_that_leaves_the_numbers_is_not_taken(page):
    shown = follow(page, "sppo_hard", REF, SOFT, 1e-3, "sgd", 1e3, [2000])
    assert 0 < shown["broken"] < 2000


def test_preferences_are_pythons(page):
    wins = bradley_terry.win_matrix(REWARDS)
    for flip_rate in (0.0, 0.2, 1.0):
        shown = page.evaluate(
            "(given) => tested.expectedPreferences(...given)",
            [uniform_pairs(8).tolist(), wins.tolist(), flip_rate],
        )
        expected = expected_preferences(uniform_pairs(8), wins, flip_rate)
        np.testing.assert_allclose(shown, expected, rtol=1e-14)
