"""The beta explorer driven in Chromium as a reader would, its runs against Python's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from widget_page import open_modules, readers

from dpo_lab import boltzmann, bradley_terry
from dpo_lab.errors import InputError
from dpo_lab.population import uniform_pairs
from dpo_lab.tabular import TabularLoss, descend, expected_preferences
from dpo_lab.widgets import BetaExplorer
from dpo_lab.worlds import t8

_, REF, REWARDS = t8()
STOPS = [10, 100, 1000]  # Python takes seconds for the page's 10 000
CELLS = """
() => [...document.querySelectorAll("tbody tr")].map((row) =>
  [...row.querySelectorAll("td")].map((cell) => cell.dataset.value && Number(cell.dataset.value)))
"""
DRAWN_GOALS = ".dpo-goal:not([style*=none])"  # a level line has no height to be visible by
# The time from frame to frame until all runs have ended.
FRAMES = """
() => new Promise((done) => {
  const root = document.querySelector(".dpo-explorer");
  const times = [performance.now()];
  const next = () => {
    times.push(performance.now());
    if (root.hasAttribute("aria-busy")) requestAnimationFrame(next);
    else done(times.slice(2).map((time, i) => time - times[i + 1]));
  };
  requestAnimationFrame(next);
})
"""


def table_of(labels: str, flip_rate: float) -> torch.Tensor:
    wins = bradley_terry.win_matrix(REWARDS)
    if labels == "certain":
        wins = (wins > 0.5).double() + 0.5 * torch.eye(8)
    return expected_preferences(uniform_pairs(8), wins, float(flip_rate))


def end_of(loss: str, preferences: torch.Tensor, beta: float) -> torch.Tensor:
    """The policy of lowest loss, by Newton's method or by linear least squares."""
    if loss == "dpo":
        return boltzmann.optimal_policy(REF, bradley_terry.fit(preferences).rewards, beta)
    won, lost = preferences.nonzero().unbind(-1)
    rows = torch.eye(8, dtype=torch.float64)
    weights = preferences[won, lost].sqrt()[:, None]
    target = torch.full((len(won), 1), 0.5 / beta, dtype=torch.float64)
    gaps = torch.linalg.lstsq(weights * (rows[won] - rows[lost]), weights * target, driver="gelsd")
    return torch.log_softmax(REF + gaps.solution[:, 0], -1)


def kl_of(policy: torch.Tensor) -> float:
    return boltzmann.kl(policy, REF).item()


@pytest.fixture(scope="module")
def page(chromium):
    """One page for all tests; each begins with a reset, whose runs have ended."""
    with readers(chromium) as open_one:
        yield open_one(BetaExplorer())


@pytest.fixture
def reader(page):
    page.page.set_viewport_size({"width": 1280, "height": 800})
    page.page.get_by_role("button", name="Reset").click()
    finish(page)
    return page


def finish(page) -> None:
    page.drawn()
    page.page.wait_for_selector(".dpo-explorer:not([aria-busy])")


def assert_shows_python(page) -> dict:
    """The table holds the KL of Python's runs and ends for the state, which is returned."""
    state = page.state()
    preferences = table_of(state["labels"], state["flip_rate"])
    certain = state["labels"] == "certain" and state["flip_rate"] == 0
    betas = [float(beta) for beta in state["betas"]]
    for beta, cells in zip(betas, page.page.evaluate(CELLS), strict=True):
        path = descend(
            TabularLoss(state["loss"], REF, preferences, beta),
            REF,
            steps=STOPS[-1],
            learning_rate=float(state["learning_rate"]),
            optimiser=state["optimiser"],
            record=STOPS,
        )
        expected = [kl_of(policy) for policy in path.policy_logps]
        np.testing.assert_allclose(cells[:3], expected, rtol=1e-8, atol=1e-13)
        if state["loss"] == "dpo" and certain:
            assert cells[4] == ""
        else:
            end = kl_of(end_of(state["loss"], preferences, beta))
            assert cells[4] == pytest.approx(end, rel=1e-8)
    return state


class TestPython:
    def test_the_default_is_the_three_regimes(self):
        explorer = BetaExplorer()
        assert explorer.betas == [0.05, 0.5, 2.0]
        assert (explorer.loss, explorer.optimiser, explorer.learning_rate) == ("dpo", "sgd", 1.0)
        assert BetaExplorer(optimiser="adam").learning_rate == 0.01

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"betas": [0.1, 0.2]}, "betas must be three numbers, got 2"),
            ({"betas": [0.1, 0, 1]}, r"betas\[1\] must be finite and greater than 0"),
            ({"loss": "kto"}, "loss must be one of dpo, ipo_sum"),
            ({"labels": "soft"}, "labels must be one of bradley-terry, certain"),
            ({"optimiser": "lion"}, "optimiser must be one of sgd, adam"),
            ({"flip_rate": 1.1}, "flip_rate must lie in"),
            ({"learning_rate": 0}, "learning_rate must be finite and greater than 0"),
        ],
    )
    def test_bad_input_is_named(self, arguments, message):
        with pytest.raises(InputError, match=message):
            BetaExplorer(**arguments)


@pytest.fixture(scope="module")
def optima(chromium, tmp_path_factory):
    page = chromium.new_page()
    names = "bradleyTerryFit, populationOptima, uniformPairs, winTable"
    open_modules(page, tmp_path_factory.mktemp("modules"), {"optima.js": names})

    def call(name, *given, then=""):
        given = [each.tolist() if isinstance(each, torch.Tensor) else each for each in given]
        return page.evaluate(f"(given) => tested.{name}(...given){then}", given)

    yield call
    page.close()


@pytest.mark.browser
class TestOptima:
    def test_tables_are_pythons(self, optima):
        np.testing.assert_allclose(optima("uniformPairs", 8), uniform_pairs(8), rtol=1e-15)
        wins = optima("winTable", REWARDS, False)
        np.testing.assert_allclose(wins, bradley_terry.win_matrix(REWARDS), rtol=1e-14)
        assert optima("winTable", [0.0, 2.0, 2.0], True) == [
            [0.5, 0, 0],
            [1, 0.5, 0.5],
            [1, 0.5, 0.5],
        ]

    @pytest.mark.parametrize("flip_rate", [0.0, 0.01, 0.3])
    @pytest.mark.parametrize("labels", ["bradley-terry", "certain"])
    def test_ends_are_pythons(self, optima, labels, flip_rate):
        preferences = table_of(labels, flip_rate)
        for loss in ("dpo", "ipo_sum"):
            shown = optima("populationOptima", loss, REF, preferences, then="(0.5)")
            if loss == "dpo" and labels == "certain" and flip_rate == 0:
                assert shown is None
            else:
                expected = end_of(loss, preferences, 0.5)
                np.testing.assert_allclose(shown, expected, rtol=1e-9)

    def test_a_group_that_never_loses_has_no_fit(self, optima):
        wins = torch.zeros(4, 4)
        wins[0, 1] = wins[1, 0] = wins[2, 3] = wins[3, 2] = wins[0, 2] = 1
        assert optima("bradleyTerryFit", wins) is None
        wins[3, 1] = 1
        np.testing.assert_allclose(
            optima("bradleyTerryFit", wins), bradley_terry.fit(wins).rewards, atol=1e-12
        )


@pytest.mark.browser
class TestRuns:
    def test_the_numbers_of_the_notes(self, reader):
        """Science notes, E12b: at step 10 the largest beta is farthest, at the end the smallest."""
        page = reader
        assert_shows_python(page)
        notes = [[0.0003, 0.028, 1.81, 3.91], [0.024, 0.741, 1.81, 1.82], [0.0746, *[0.126] * 3]]
        shown = np.array([row[:4] for row in page.page.evaluate(CELLS)])
        np.testing.assert_allclose(shown, notes, rtol=0.015, atol=5e-5)
        reading = page.page.locator("[data-reading]").text_content()
        assert "at step 10 it is β = 2, at step 10000 it is β = 0.05" in reading

    def test_adam_hardly_sees_beta_at_first(self, reader):
        page = reader
        page.page.get_by_role("combobox", name="optimiser").select_option("adam")
        finish(page)
        assert assert_shows_python(page)["learning_rate"] == 0.01
        first = [row[0] for row in page.page.evaluate(CELLS)]
        assert max(first) < 1.3 * min(first)

    def test_certain_labels_have_no_end_for_dpo_and_one_for_ipo(self, reader):
        page = reader
        page.page.get_by_role("combobox", name="labels").select_option("certain")
        finish(page)
        assert_shows_python(page)
        assert "no lowest loss at any β" in page.page.locator("[data-reading]").text_content()
        assert page.page.locator(DRAWN_GOALS).count() == 0
        page.page.get_by_role("combobox", name="loss").select_option("ipo_sum")
        rate = page.page.get_by_role("textbox", name="learning rate, exact value")
        rate.fill("0.5")
        rate.press("Enter")
        finish(page)
        assert_shows_python(page)
        assert page.page.locator(DRAWN_GOALS).count() == 6

    def test_flips_and_betas_by_keyboard(self, reader):
        page = reader
        page.press(page.slider("flipped labels"), "ArrowRight", 20)
        box = page.page.get_by_role("textbox", name="beta 2")
        box.fill("1")
        box.press("Enter")
        finish(page)
        state = assert_shows_python(page)
        assert (state["flip_rate"], state["betas"]) == (pytest.approx(0.2), [0.05, 1, 2])
        page.page.get_by_role("button", name="Reset").click()
        finish(page)
        assert assert_shows_python(page)["betas"] == [0.05, 0.5, 2]

    def test_a_wrong_beta_is_refused(self, reader):
        page = reader
        box = page.page.get_by_role("textbox", name="beta 1")
        for text in ("0", "-1", "x", "1e9"):
            box.fill(text)
            box.press("Enter")
            alert = page.page.get_by_role("alert").filter(has_text="β must lie between")
            assert alert.is_visible()
            assert page.state()["betas"][0] == 0.05

    def test_a_run_that_breaks_says_so(self, chromium):
        with readers(chromium) as open_one:
            page = open_one(BetaExplorer(loss="ipo_sum", learning_rate=20.0))
            finish(page)
            reading = page.page.locator("[data-reading]").text_content()
            assert "left the finite numbers" in reading
            assert math.isfinite(page.page.evaluate(CELLS)[0][0])

    def test_the_page_never_freezes(self, reader):
        """Ten thousand steps at three betas, in pieces: no frame holds the page for long."""
        page = reader
        page.set("optimiser", "adam")  # all runs begin again
        took = page.page.evaluate(FRAMES)
        assert len(took) > 5
        assert np.median(took) < 34
        assert max(took) < 250


@pytest.mark.browser
class TestForEveryReader:
    @pytest.mark.parametrize("width", [320, 360, 390, 1280])
    def test_no_width_scrolls_sideways(self, reader, width):
        page = reader
        page.look_like("light", width)
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width

    def test_every_control_has_a_name(self, reader):
        page = reader
        for role, count in (("combobox", 3), ("slider", 2), ("textbox", 4)):
            found = page.page.get_by_role(role)
            names = [found.nth(i).get_attribute("aria-label") for i in range(found.count())]
            assert len(set(names)) == len(names) == count
            assert all(names)

    def test_one_summary_is_heard_when_the_runs_have_ended(self, reader):
        page = reader
        page.page.evaluate("document.querySelector('[role=status]').textContent = ''")
        page.set("optimiser", "adam")  # all runs begin again
        page.page.wait_for_function("document.querySelector('[role=status]').textContent")
        assert page.page.locator("[aria-busy]").count() == 0
        assert "Farthest" in page.page.locator("[role=status]").text_content()

    def test_its_own_code_is_small(self):
        assert len(BetaExplorer._esm.encode()) < 40_000
