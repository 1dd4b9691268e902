"""The playground driven in Chromium: its votes, its steps and its link, against Python's."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch
from playground_python import (
    HOSTILE,
    REWARDS,
    TILES,
    WORK,
    assert_shows_python,
    cast_votes,
    pairs_shown,
    press,
    random_numbers,
)
from widget_page import open_modules, readers

from dpo_lab import bradley_terry
from dpo_lab.errors import InputError
from dpo_lab.tabular import counted_preferences
from dpo_lab.widgets import Playground
from dpo_lab.widgets.tables import TABLE_LOSSES


@pytest.fixture
def reader(chromium):
    with readers(chromium) as open_one:
        yield lambda explorer=None, **options: open_one(explorer or Playground(), **options)


@pytest.fixture(scope="class")
def shared(chromium):
    """One page for tests that only look."""
    with readers(chromium) as open_one:
        yield open_one(Playground())


class TestPython:
    def test_the_default_is_the_testbed_with_a_thousand_votes(self):
        playground = Playground()
        assert playground.rewards == REWARDS.tolist()
        assert (playground.pairs, playground.loss, playground.learning_rate) == (1000, "dpo", 1.0)
        listed = [name for _, names in playground.names for name in names]
        assert sorted(listed) == sorted(TABLE_LOSSES)
        assert Playground(optimiser="adam").learning_rate == 0.01

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"loss": "aot"}, "loss must be one of dpo, cdpo"),
            ({"beta": 0}, "beta must be finite and greater than 0"),
            ({"optimiser": "lion"}, "optimiser must be one of sgd, adam"),
            ({"coverage": "none"}, "coverage must be one of all, reference, first, blocks"),
            ({"first": 1}, "first must be a whole number from 2 to 8"),
            ({"pairs": 1001}, "pairs must be a whole number from 1 to 1000"),
            ({"pairs": 10.5}, "pairs must be a whole number"),
            ({"arrival": 3}, "arrival must be one of 0, 1, 10"),
            ({"flip_rate": -0.1}, "flip_rate must lie in"),
            ({"rewards": [1, 2]}, "rewards must be eight numbers"),
            ({"rewards": [9] * 8}, "rewards must be eight numbers between -4 and 4"),
            ({"seed": -1}, "seed must be a whole number"),
        ],
    )
    def test_bad_input_is_named(self, arguments, message):
        with pytest.raises(InputError, match=message):
            Playground(**arguments)


@pytest.fixture(scope="module")
def tested(chromium, tmp_path_factory):
    page = chromium.new_page()
    modules = {
        "votes.js": "castVotes, countedPreferences, pairsShown, randomNumbers",
        "link.js": "among, inside, listOf, readLink, writeLink",
        "optima.js": "winTable",
    }
    open_modules(page, tmp_path_factory.mktemp("modules"), modules)
    yield page
    page.close()


@pytest.mark.browser
class TestVotes:
    def test_the_generator_is_the_known_one(self, tested):
        """First numbers of mulberry32 for seed 1, times 2^32, and a second implementation."""
        shown = tested.evaluate(
            "() => { const next = tested.randomNumbers(1); return Array.from({length: 9}, next); }"
        )
        assert [round(number * 2**32) for number in shown[:3]] == [2693262067, 11749833, 2265367787]
        assert shown == random_numbers(1, 9)

    @pytest.mark.parametrize("coverage", ["all", "reference", "first", "blocks"])
    def test_votes_are_those_of_a_second_implementation(self, tested, coverage):
        state = Playground(coverage=coverage, first=3, flip_rate=0.2, seed=7).get_state()
        call = """(state) => {
          const ref = state.ref_probs.map(Math.log);
          const shown = tested.pairsShown({ ...state, ref });
          const wins = tested.winTable(state.rewards, false);
          const votes = tested.castVotes(
            { seed: state.seed, count: state.pairs, shown, wins, flipRate: state.flip_rate });
          return { shown, votes, table: tested.countedPreferences(votes, 8) };
        }"""
        wanted = ["ref_probs", "rewards", "seed", "pairs", "flip_rate", "coverage", "first"]
        result = tested.evaluate(call, {name: state[name] for name in wanted})
        np.testing.assert_allclose(result["shown"], pairs_shown(state), rtol=1e-13)
        won, lost = cast_votes(state)
        assert result["votes"] == torch.stack([won, lost], -1).tolist()
        np.testing.assert_allclose(result["table"], counted_preferences(won, lost, 8), rtol=1e-12)

    def test_shares_of_votes_follow_bradley_terry(self):
        """400 votes on each of three pairs; five standard errors."""
        state = Playground(coverage="first", first=3, seed=3).get_state()
        won, lost = cast_votes(state)
        wins = bradley_terry.count_wins(won, lost, 8)
        for i, j in ((0, 1), (0, 2), (1, 2)):
            count = (wins[i, j] + wins[j, i]).item()
            p = torch.sigmoid(REWARDS[i] - REWARDS[j]).item()
            assert abs(wins[i, j].item() / count - p) < 5 * math.sqrt(p * (1 - p) / count)


@pytest.mark.browser
class TestLink:
    READ = """(text) => tested.readLink(text, { beta: tested.inside(1e-6, 1e6),
      first: tested.inside(2, 8, true), loss: tested.among(["dpo", "kto"]),
      rewards: tested.listOf(3, tested.inside(-4, 4)) })"""

    def test_what_is_written_is_read_back(self, tested):
        values = {"loss": "kto", "beta": 0.05, "first": 3, "rewards": [1, -0.5, 1e-7]}
        text = tested.evaluate("(values) => tested.writeLink(values)", values)
        assert text == "#play?loss=kto&beta=0.05&first=3&rewards=1,-0.5,1e-7"
        assert tested.evaluate(self.READ, text) == {"values": values, "ignored": []}

    def test_other_addresses_are_left_alone(self, tested):
        assert tested.evaluate(self.READ, "#three-things") is None
        assert tested.evaluate(self.READ, "") is None

    @pytest.mark.parametrize("text", HOSTILE)
    def test_nonsense_is_named_and_not_taken(self, tested, text):
        found = tested.evaluate(self.READ, text)
        assert found["values"] == {}
        assert found["ignored"]
        assert all(len(name) <= 25 for name in found["ignored"])

    def test_one_bad_field_does_not_spoil_the_others(self, tested):
        found = tested.evaluate(self.READ, "#play?loss=dpo&beta=-1&first=4&wings=2")
        assert found == {"values": {"loss": "dpo", "first": 4}, "ignored": ["beta", "wings"]}


@pytest.mark.browser
class TestRuns:
    def test_steps_by_keyboard_are_pythons(self, reader):
        page = reader()
        assert_shows_python(page, 0)
        press(page, "Step", 7)
        assert_shows_python(page, 7)
        press(page, "Back to step 0")
        assert_shows_python(page, 0)

    @pytest.mark.parametrize("loss", ["ipo_sum", "kto", "simpo", "tdpo2"])
    def test_other_settings_are_pythons(self, reader, loss):
        page = reader(
            Playground(loss=loss, beta=0.3, optimiser="adam", coverage="blocks", flip_rate=0.1)
        )
        press(page, "Step", 5)
        assert_shows_python(page, 5)

    def test_settings_changed_by_hand_reach_the_votes(self, reader):
        page = reader()
        page.page.get_by_role("combobox", name="pairs shown").select_option("reference")
        page.press(page.slider("reward of C"), "ArrowRight", 5)
        page.press(page.slider("votes"), "ArrowLeft", 90)
        page.press(page.slider("flipped labels"), "ArrowRight", 3)
        press(page, "New votes")
        press(page, "Back to step 0")
        press(page, "Step", 3)
        state = assert_shows_python(page, 3)
        assert (state["pairs"], state["seed"]) == (100, 2)
        assert state["rewards"][2] == pytest.approx(-0.5)

    def test_play_and_pause_end_on_pythons_numbers(self, reader):
        page = reader(Playground(speed=10))
        press(page, "Play")
        page.page.wait_for_function(
            "parseInt(document.querySelector('.dpo-place').textContent.slice(5)) >= 50"
        )
        press(page, "Pause")
        place = page.page.locator(".dpo-place").text_content()
        steps = int(place.split()[1])
        assert_shows_python(page, steps)
        page.page.wait_for_timeout(100)
        assert page.page.locator(".dpo-place").text_content() == place

    def test_votes_come_with_the_steps(self, reader):
        page = reader(Playground(arrival=10, pairs=35))
        counts = []
        for _ in range(5):
            counts.append(int(page.page.locator(".dpo-place").text_content().split()[3]))
            press(page, "Step")
        assert counts == [10, 20, 30, 35, 35]

    def test_a_change_goes_on_from_where_the_policy_is(self, reader):
        page = reader()
        press(page, "Step", 20)
        before = page.page.evaluate(TILES)
        page.set("beta", 0.1)
        after = page.page.evaluate(TILES)
        assert (after["kl"], after["reward"]) == (before["kl"], before["reward"])
        assert after["value"] != before["value"]
        press(page, "Reset")
        assert page.state()["beta"] == 0.5

    def test_too_large_steps_are_refused_in_words(self, reader):
        page = reader(Playground(loss="sppo_hard", beta=0.001, learning_rate=1e6, speed=100))
        press(page, "Play")
        alert = page.page.get_by_role("alert").filter(has_text="leaves the finite numbers")
        alert.wait_for()
        assert page.page.get_by_role("button", name="Play", exact=True).is_visible()

    def test_nothing_moves_before_play_and_a_listener_is_not_flooded(self, reader):
        page = reader(reduced_motion="reduce")
        page.page.wait_for_timeout(200)
        assert page.page.locator(".dpo-place").text_content().startswith("step 0 ")
        page.page.evaluate(
            """() => {
              window.heard = [];
              const status = document.querySelector("[role=status]");
              new MutationObserver(() => heard.push(status.textContent))
                .observe(status, { childList: true, characterData: true, subtree: true });
            }"""
        )
        press(page, "Play")
        page.page.wait_for_timeout(1500)
        assert page.page.evaluate("heard.length") == 0
        press(page, "Pause")
        page.page.wait_for_function("heard.length === 1")
        assert "expected reward" in page.page.evaluate("heard[0]")


# The work of each frame while playing: requested callbacks, timed from inside.


@pytest.mark.browser
class TestForEveryReader:
    @pytest.mark.parametrize("speed", [1, 10])
    def test_a_frame_with_a_thousand_votes_is_short(self, reader, speed):
        page = reader(Playground(pairs=1000, speed=speed))
        times = page.page.evaluate(WORK)
        assert statistics.median(times) < 10, sorted(times)[-5:]

    @pytest.mark.parametrize("width", [320, 390, 1280])
    def test_no_width_scrolls_sideways(self, shared, width):
        page = shared
        page.look_like("light", width)
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width

    def test_every_control_has_a_name(self, shared):
        page = shared
        for role, count in (("combobox", 5), ("slider", 12), ("textbox", 2)):
            found = page.page.get_by_role(role)
            names = [found.nth(i).get_attribute("aria-label") for i in range(found.count())]
            assert len(set(names)) == len(names) == count
            assert all(names)

    def test_outside_the_books_page_the_address_is_left_alone(self, reader):
        page = reader()
        page.set("beta", 2)
        page.page.wait_for_timeout(500)
        assert page.page.evaluate("location.hash") == ""
        assert page.page.get_by_role("button", name="Copy link").count() == 0
