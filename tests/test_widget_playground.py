"""The playground driven in Chromium: its votes, its steps and its link, against Python's."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch
from widget_page import open_modules, readers

from dpo_lab import boltzmann, bradley_terry
from dpo_lab.errors import InputError
from dpo_lab.tabular import TabularLoss, counted_preferences, descend
from dpo_lab.widgets import Playground
from dpo_lab.widgets.tables import TABLE_LOSSES
from dpo_lab.worlds import t8

_, REF, REWARDS = t8()
TILES = """
() => Object.fromEntries([...document.querySelectorAll("[data-number]")]
  .map((node) => [node.dataset.number, Number(node.dataset.value)]))
"""


def random_numbers(seed: int, count: int) -> list[float]:
    """mulberry32 in Python's whole numbers, cut to 32 bits."""
    numbers, state, low = [], seed, 2**32 - 1
    for _ in range(count):
        state = (state + 0x6D2B79F5) & low
        mixed = ((state ^ (state >> 15)) * (state | 1)) & low
        mixed ^= (mixed + (mixed ^ (mixed >> 7)) * (mixed | 61)) & low
        numbers.append((mixed ^ (mixed >> 14)) / 2**32)
    return numbers


def pairs_shown(state: dict) -> torch.Tensor:
    probs = torch.tensor(state["ref_probs"], dtype=torch.float64)
    half = torch.arange(8) >= 4
    weights = {
        "all": torch.ones(8, 8, dtype=torch.float64),
        "reference": probs[:, None] * probs,
        "first": (torch.arange(8) < state["first"]).double().expand(8, 8),
        "blocks": (half[:, None] == half).double(),
    }[state["coverage"]].triu(1)
    return weights / weights.sum()


def cast_votes(state: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Winners and losers, by the rules of votes.js written once more."""
    shown, rewards = pairs_shown(state), state["rewards"]
    firsts, seconds = shown.nonzero().unbind(-1)
    edges = shown[firsts, seconds].cumsum(0)
    numbers = torch.tensor(random_numbers(state["seed"], 3 * state["pairs"]), dtype=torch.float64)
    where, preference, flip = numbers.view(-1, 3).unbind(-1)
    drawn = torch.searchsorted(edges, where, right=True).clamp(max=len(edges) - 1)
    i, j = firsts[drawn], seconds[drawn]
    gaps = torch.tensor(rewards, dtype=torch.float64)
    wins = (preference < torch.sigmoid(gaps[i] - gaps[j])) ^ (flip < state["flip_rate"])
    return torch.where(wins, i, j), torch.where(wins, j, i)


def in_python(state: dict, steps: int) -> dict:
    """The numbers on the page after some steps with all votes in."""
    table = counted_preferences(*cast_votes(state), 8)
    loss = TabularLoss(state["loss"], REF, table, float(state["beta"]))
    rate, optimiser = float(state["learning_rate"]), state["optimiser"]
    path = descend(loss, REF, steps=steps, learning_rate=rate, optimiser=optimiser, record=[steps])
    policy, rewards = path.policy_logps[0], torch.tensor(state["rewards"], dtype=torch.float64)
    best = boltzmann.optimal_policy(REF, rewards, float(state["beta"]))
    return {
        "value": path.losses.item(),
        "reward": boltzmann.expected_reward(policy, rewards).item(),
        "kl": boltzmann.kl(policy, REF).item(),
        "gap": state["beta"] * boltzmann.kl(policy, best).item(),
    }


def assert_shows_python(page, steps: int) -> dict:
    state = page.state()
    shown, expected = page.page.evaluate(TILES), in_python(state, steps)
    for name, value in expected.items():
        assert shown[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
    assert page.page.locator(".dpo-place").text_content().startswith(f"step {steps} ·")
    return state


def press(page, name: str, times: int = 1) -> None:
    for _ in range(times):
        page.page.get_by_role("button", name=name, exact=True).press("Enter")
    page.drawn()


@pytest.fixture
def reader(chromium):
    with readers(chromium) as open_one:
        yield lambda explorer=None, **options: open_one(explorer or Playground(), **options)


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


HOSTILE = [
    "#play?__proto__=1&constructor=2&toString=3",
    "#play?beta=<img src=x onerror=alert(1)>&loss=javascript:alert(1)",
    "#play?beta=NaN&learning_rate=Infinity&pairs=1e9&flip_rate=-1&seed=0x10&first=2.5",
    "#play?rewards=1,2&rewards=9,9,9&arrival=7&speed=1e3",
    "#play?" + "beta=1&" * 1000,
    "#play?%E0%A4%A=%&&&==&beta",
]


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
WORK = """
() => new Promise((done) => {
  const times = [];
  const real = window.requestAnimationFrame;
  window.requestAnimationFrame = (callback) => real((now) => {
    const begin = performance.now();
    callback(now);
    document.body.getBoundingClientRect(); // layout is part of the work
    times.push(performance.now() - begin);
    if (times.length === 120) { window.requestAnimationFrame = real; done(times); }
  });
  [...document.querySelectorAll("button")].find((each) => each.textContent === "Play").click();
})
"""


@pytest.mark.browser
class TestForEveryReader:
    @pytest.mark.parametrize("speed", [1, 10])
    def test_a_frame_with_a_thousand_votes_is_short(self, reader, speed):
        page = reader(Playground(pairs=1000, speed=speed))
        times = page.page.evaluate(WORK)
        assert statistics.median(times) < 10, sorted(times)[-5:]

    @pytest.mark.parametrize("width", [320, 390, 1280])
    def test_no_width_scrolls_sideways(self, reader, width):
        page = reader(viewport={"width": width, "height": 800}, has_touch=width < 500)
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width

    def test_every_control_has_a_name(self, reader):
        page = reader()
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


@pytest.fixture
def built(chromium, built_site, site_addresses):
    """Opens the playground's page in the built book, over http or as a file, at some address."""
    if not (built_site / "notebooks" / "playground.html").is_file():
        pytest.skip("the built site has no playground")
    contexts, troubles = [], []

    def open_one(hash_: str = "", kind: str = "http", **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console", lambda message: message.type == "error" and troubles.append(message.text)
        )
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(f"{site_addresses[kind]}notebooks/playground.html{hash_}")
        page.wait_for_selector(".dpo-place")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert troubles == []


STORED = """
() => Object.values(
  JSON.parse(document.querySelector("script[type*='widget-state+json']").textContent).state)
  .map((each) => each.state).find((state) => (state._anywidget_id ?? "").endsWith(".Playground"))
"""
DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.mark.browser
class TestBuiltPage:
    @pytest.mark.parametrize("kind", ["http", "sub-path", "file"])
    def test_a_link_opens_the_same_set_up(self, built, kind):
        page = built(kind=kind)
        page.get_by_role("combobox", name="loss").select_option("ipo_sum")
        page.get_by_role("combobox", name="pairs shown").select_option("blocks")
        page.get_by_role("slider", name="reward of A").press("ArrowRight")
        page.get_by_role("slider", name="votes").press("ArrowLeft")
        page.wait_for_function("location.hash.includes('pairs=990')")
        address = page.evaluate("location.hash")
        assert "loss=ipo_sum" in address
        assert "coverage=blocks" in address
        page.get_by_role("button", name="Step", exact=True).press("Enter")
        page.evaluate(DRAWN)
        shown = page.evaluate(TILES)

        other = built(address, kind=kind)
        other.get_by_role("button", name="Step", exact=True).click()
        other.evaluate(DRAWN)
        assert other.evaluate(TILES) == shown
        state = other.evaluate(STORED) | {"loss": "ipo_sum", "coverage": "blocks", "pairs": 990}
        state["rewards"] = [0.1, *state["rewards"][1:]]
        for name, value in in_python(state, 1).items():
            assert shown[name] == pytest.approx(value, rel=1e-9), name

    @pytest.mark.parametrize("text", HOSTILE)
    def test_a_hostile_link_changes_nothing_and_is_named(self, built, text):
        page = built(text)
        assert page.get_by_role("alert").filter(has_text="Not understood in the link").is_visible()
        expected = in_python(page.evaluate(STORED), 0)
        assert page.evaluate(TILES) == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert page.locator("img[src=x]").count() == 0

    def test_a_link_pasted_into_the_open_page_is_taken(self, built):
        page = built()
        page.evaluate("location.hash = '#play?beta=2&flip_rate=0.25'")
        page.wait_for_function(
            "document.querySelector('[aria-label=\"beta, exact value\"]').value === '2'"
        )
        slider = page.get_by_role("slider", name="flipped labels")
        assert slider.get_attribute("aria-valuetext") == "0.25"

    def test_copy_link_copies_or_shows_it(self, built):
        page = built(permissions=["clipboard-read", "clipboard-write"])
        page.get_by_role("slider", name="beta, logarithmic").press("ArrowRight")
        page.wait_for_function("location.hash.includes('beta=')")
        page.get_by_role("button", name="Copy link").click()
        page.get_by_role("alert").filter(has_text="Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == page.url

    def test_without_a_clipboard_the_link_stands_in_a_box(self, built):
        page = built()
        refuse = "() => { navigator.clipboard.writeText = () => Promise.reject(new Error()); }"
        page.evaluate(refuse)
        page.get_by_role("button", name="Copy link").click()
        box = page.get_by_role("textbox", name="link to this set-up")
        box.wait_for()
        assert box.input_value().startswith(page.url.split("#")[0] + "#play?loss=dpo&beta=0.5&")

    def test_a_phone_plays_it_by_touch(self, built):
        page = built(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.get_by_role("button", name="Play", exact=True).tap()
        page.wait_for_function(
            "parseInt(document.querySelector('.dpo-place').textContent.slice(5)) >= 30"
        )
        page.get_by_role("button", name="Pause", exact=True).tap()

    def test_sixty_frames_a_second(self, built):
        page = built()
        times = page.evaluate(WORK)
        assert statistics.median(times) < 10
