"""pair.js and descent.js, run in Chromium: mean losses against Python, paths and optima against
closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from widget_page import open_modules

from dpo_lab.landscape import pair_surface
from dpo_lab.widgets.landscape import NAMES

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(chromium, tmp_path_factory):
    page = chromium.new_page()
    open_modules(
        page,
        tmp_path_factory.mktemp("modules"),
        {"descent.js": "descentPath", "pair.js": "lowestDifference, meanLoss, swap"},
    )
    yield page
    page.close()


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_loss_is_pythons_surface(page, name):
    axis = torch.linspace(-6, 6, 7, dtype=torch.float64)
    for p, c in [(1.0, 0.0), (0.7, 0.0), (0.25, 0.05), (0.0, 0.0)]:
        surface = pair_surface(
            name, axis, axis, 0.5, win_probability=p, penalty=lambda u, c=c: c * u
        )
        shown = page.evaluate(
            """([setting, axis]) => axis.map((a) => axis.map((b) => {
              const { loss, da, db } = tested.meanLoss(setting, { a, b });
              return [loss, da, db];
            }))""",
            [{"name": name, "beta": 0.5, "p": p, "penalty": c}, axis.tolist()],
        )
        expected = [surface.losses, surface.grad_chosen, surface.grad_rejected]
        np.testing.assert_allclose(
            np.array(shown), torch.stack(expected, -1), rtol=1e-10, atol=1e-14
        )


def test_swapping_twice_changes_nothing_and_once_changes_sides(page):
    pair = {
        "a": 1, "b": 2, "refChosen": -3, "refRejected": -4, "chosenLength": 5,
        "rejectedLength": 6, "chosen_kl": 7, "rejected_kl": 8, "chosen_weights": 9,
        "rejected_weights": 10, "phi": 11,
    }  # fmt: skip
    once, twice = page.evaluate(
        "(pair) => [tested.swap(pair), tested.swap(tested.swap(pair))]", pair
    )
    assert twice == pair
    assert [once["a"], once["refChosen"], once["chosenLength"], once["chosen_kl"]] == [2, -4, 6, 8]
    assert [once["chosen_weights"], once["phi"]] == [10, 11]


def logit(p: float) -> float:
    return math.log(p / (1 - p))


OPTIMA = [
    # name, beta, options, p, u1 - u2 by hand from LOSSES' optimum
    ("dpo", 0.1, {}, 0.8, logit(0.8) / 0.1),
    ("dpo", 2.0, {}, 0.5, 0.0),
    ("cdpo", 0.5, {"label_smoothing": 0.1}, 0.8, logit(0.9 * 0.8 + 0.1 * 0.2) / 0.5),
    ("cdpo", 0.5, {"label_smoothing": 0.1}, 1.0, logit(0.9) / 0.5),
    ("robust", 0.5, {"label_smoothing": 0.1}, 0.8, logit(0.7 / 0.8) / 0.5),
    ("hinge", 0.05, {}, 0.8, 20.0),
    ("exo_pair", 0.1, {"label_smoothing": 1e-3}, 0.8, 0.6 * math.log(999) / 0.1),
    ("ipo_sum", 0.1, {}, 0.8, 3.0),
    ("ipo_sum", 0.1, {}, 1.0, 5.0),
    ("bco_pair", 0.1, {}, 0.7, 2 * logit(0.7) / 0.1),
    ("sppo_hard", 0.1, {}, 0.7, 4.0),
    ("fdpo_js", 1.0, {}, 0.6, None),
]


@pytest.mark.parametrize(("name", "beta", "options", "p", "expected"), OPTIMA)
def test_the_lowest_point_is_the_population_optimum(page, name, beta, options, p, expected):
    found = page.evaluate(
        "([setting, far]) => tested.lowestDifference(setting, { a: 0, b: 0 }, -far, far)",
        [{"name": name, "beta": beta, "options": options, "p": p}, 24 / beta],
    )
    if expected is None:  # f'(e^a) - f'(e^b) = logit(p) / beta with f' = log sigmoid, b = -a
        half = found / 2
        gap = math.log1p(math.exp(half)) - math.log1p(math.exp(-half))
        assert gap == pytest.approx(logit(p) / beta, rel=1e-9)
    else:
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "p", "options"),
    [
        ("dpo", 1.0, {}),
        ("robust", 0.95, {"label_smoothing": 0.1}),  # p > 1 - e: unbounded below
        ("kto_simplified", 0.8, {}),
        ("apo_zero", 0.8, {}),
    ],
)
def test_without_an_optimum_none_is_named(page, name, p, options):
    setting = {"name": name, "beta": 0.1, "options": options, "p": p}
    found = page.evaluate(
        "(setting) => tested.lowestDifference(setting, { a: 0, b: 0 }, -240, 240)", setting
    )
    assert found is None


def descend(page, setting: dict, start: tuple[float, float], edge: float):
    pair = {"a": start[0], "b": start[1]}
    result = page.evaluate(
        "([setting, pair, edge]) => tested.descentPath(setting, pair, edge)", [setting, pair, edge]
    )
    return np.array(result["path"]), result["end"]


def test_descent_on_dpo_keeps_the_sum_and_ends_in_the_valley(page):
    path, end = descend(page, {"name": "dpo", "beta": 0.1, "p": 0.8}, (-10, 16), 30)
    assert end == "rest"
    np.testing.assert_allclose(path.sum(1), 6, atol=1e-9)
    assert path[-1, 0] - path[-1, 1] == pytest.approx(logit(0.8) / 0.1, abs=1e-4)


def test_descent_of_a_pointwise_loss_ends_at_its_one_optimum(page):
    path, end = descend(page, {"name": "nca_pair", "beta": 0.5, "p": 0.8}, (-4, 5), 12)
    assert end == "rest"
    expected = [math.log(1.6) / 0.5, math.log(0.4) / 0.5]
    np.testing.assert_allclose(path[-1], expected, atol=1e-4)


def test_with_the_penalty_descent_leaves_to_the_lower_left(page):
    for p in (0.8, 1.0):
        setting = {"name": "dpo", "beta": 0.1, "p": p, "penalty": 0.03}
        path, end = descend(page, setting, (5, -5), 200)
        assert end == "left"
        direction = path[-1] - path[-20]
        # Far out the loss of the difference is settled, and only (-1, -1) still goes down.
        np.testing.assert_allclose(direction / np.linalg.norm(direction), -(0.5**0.5), atol=0.01)
        assert path[-1].min() < -200


def test_a_path_never_goes_up(page):
    for name in NAMES:
        setting = {"name": name, "beta": 0.2, "p": 0.7}
        path, _ = descend(page, setting, (-7, 3), 20)
        losses = page.evaluate(
            "([setting, path]) => path.map(([a, b]) => tested.meanLoss(setting, { a, b }).loss)",
            [setting, path.tolist()],
        )
        assert (np.diff(losses) < 0).all(), name
