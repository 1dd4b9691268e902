"""The implicit reward explorer driven in Chromium as a reader would, beside numpy's numbers."""

from __future__ import annotations

import re

import numpy as np
import pytest
from test_widget_implicit_reward import HAND, NASTY, in_python
from test_widget_reading import contrast, luminance, rgb
from widget_page import DRAWN, STORED, assert_fits_a_phone, chapters, readers, stored_size

from dpo_lab.widgets import ImplicitRewardExplorer

pytestmark = pytest.mark.browser

NUMBERS = """() => Object.fromEntries([...document.querySelectorAll("[data-number]")]
  .map((tile) => [tile.dataset.number, Number(tile.dataset.value)]))"""
POINTS = """() => [...document.querySelectorAll("[role=option]")].map((node) => [
  Number(node.dataset.x), Number(node.dataset.y), node.getAttribute("aria-selected") === "true",
  node.getAttribute("transform").match(/[\\d.]+/g).map(Number)])"""


@pytest.fixture(scope="module")
def page(chromium):
    """One page for all readings; each begins with a reset."""
    with readers(chromium) as open_one:
        yield open_one(ImplicitRewardExplorer(HAND, 0.5))


@pytest.fixture
def reader(page):
    page.page.set_viewport_size({"width": 1280, "height": 1000})
    page.page.get_by_role("button", name="Reset").click()
    page.drawn()
    return page


def assert_agrees(page) -> dict:
    """Tiles and points hold Python's numbers for the state, which is returned."""
    state = page.state()
    constants = dict(zip(state["prompts"], state["constants"], strict=True))
    expected = in_python(HAND, float(state["beta"]), constants)
    shown = page.page.evaluate(NUMBERS)
    for name in ("accuracy", "distance", "lowest"):
        assert shown[name] == pytest.approx(expected[name], rel=1e-12, abs=1e-12), name
    points = page.page.evaluate(POINTS)
    ys = [y + constants[each["prompt"]] for y, each in zip(expected["implicit"], HAND, strict=True)]
    assert [x for x, *_ in points] == [each["gold"] for each in HAND]
    np.testing.assert_allclose([y for _, y, *_ in points], ys, rtol=1e-12, atol=1e-12)
    assert [i for i, point in enumerate(points) if point[2]] == [state["selected"]]
    return state


def note(page) -> str:
    return page.page.locator("[data-token-note]").text_content()


class TestConstants:
    def test_one_prompts_points_move_and_its_ranking_stays(self, reader):
        assert_agrees(reader)
        before = reader.page.evaluate(NUMBERS)
        reader.press(reader.slider("c(x) of this prompt"), "ArrowRight", 7)
        state = assert_agrees(reader)
        assert state["constants"][0] > 0
        assert state["constants"][1] == 0
        after = reader.page.evaluate(NUMBERS)
        assert after["accuracy"] == before["accuracy"] == 0.75
        assert after["distance"] != pytest.approx(before["distance"])
        assert after["lowest"] == pytest.approx(before["lowest"])

    def test_the_best_constants_and_reset(self, reader):
        reader.page.get_by_role("button", name="Best constants").click()
        reader.drawn()
        state = assert_agrees(reader)
        assert state["constants"] == [pytest.approx(4 / 3), -2.5]
        numbers = reader.page.evaluate(NUMBERS)
        assert numbers["distance"] == pytest.approx(numbers["lowest"])
        text = reader.page.locator("[data-reading]").text_content()
        assert "No constants bring the points nearer to the line than 1.317" in text
        reader.page.get_by_role("button", name="Reset").click()
        reader.drawn()
        assert assert_agrees(reader)["constants"] == [0, 0]

    def test_beta_stretches_and_leaves_the_ranking(self, reader):
        reader.press(reader.beta, "ArrowRight", 5)
        assert assert_agrees(reader)["beta"] > 0.5
        reader.type_beta("2")
        assert assert_agrees(reader)["beta"] == 2
        assert reader.page.evaluate(NUMBERS)["accuracy"] == 0.75

    def test_a_sentence_says_what_is_learned_and_is_heard(self, reader):
        reader.set("selected", 1)
        text = reader.page.locator("[data-reading]").text_content()
        assert text == (
            "c(x) moves all answers of a prompt together, so 75.0\u00a0% of 4 pairs within "
            "prompts are ranked right whatever β and c(x) are. The points lie 2.302 from the "
            "line; the best constants would leave 1.317."
        )
        reader.page.wait_for_function("document.querySelector('[role=status]').textContent")
        assert reader.page.locator("[role=status]").text_content() == text


class TestPlane:
    def test_slope_one_is_the_diagonal_and_points_lie_by_their_numbers(self, reader):
        shown = reader.page.evaluate(POINTS)
        (x0, y0), (x1, y1) = shown[3][3], shown[1][3]
        unit = (x1 - x0) / 7  # true rewards -3 and 4
        assert (y0 - y1) / 2.5 == pytest.approx(unit)  # implicit -0.5 and 2
        line = reader.page.locator("line.dpo-goal")
        ends = [float(line.get_attribute(name)) for name in ("x1", "y1", "x2", "y2")]
        assert ends[2] - ends[0] == ends[1] - ends[3] > 0
        # (4, 2) lies 2 below the line.
        on_line = ends[1] - (x1 - ends[0])
        assert y1 - on_line == pytest.approx(2 * unit)
        kinds = reader.page.locator("[role=option]").evaluate_all(
            "(nodes) => nodes.map((node) => node.getAttribute('d') + node.getAttribute('class'))"
        )
        assert [kind == kinds[0] for kind in kinds] == [True] * 3 + [False] * 2

    def test_points_are_chosen_by_keys(self, reader):
        plane = reader.page.get_by_role("listbox", name="Implicit against true reward")
        reader.press(plane, "Home")
        assert assert_agrees(reader)["selected"] == 3  # true rewards -3, -2, 0, 2, 4
        order = []
        for _ in range(5):
            reader.press(plane, "ArrowRight")
            order.append(assert_agrees(reader)["selected"])
        assert order == [4, 0, 2, 1, 1]
        active = plane.get_attribute("aria-activedescendant")
        chosen = reader.page.locator(f"[id='{active}']")
        assert chosen.get_attribute("aria-label") == (
            "Answer 2, two lines good<eos>: true 4.000, implicit 2.000"
        )
        assert reader.page.get_by_role("combobox", name="answer").input_value() == "1"

    def test_points_are_chosen_by_the_mouse_and_the_list(self, reader):
        box = reader.page.locator("[role=option]").nth(2).bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        reader.page.mouse.click(x + 9, y - 8)  # near is enough
        reader.drawn()
        assert assert_agrees(reader)["selected"] == 2
        reader.page.mouse.click(x + 60, y + 60)  # nothing is near
        reader.drawn()
        assert assert_agrees(reader)["selected"] == 2
        reader.page.get_by_role("combobox", name="answer").select_option("4")
        reader.drawn()
        assert assert_agrees(reader)["selected"] == 4


class TestTokens:
    def test_each_token_says_its_number_and_the_sum(self, reader):
        reader.set("selected", 1)
        tokens = reader.page.locator(".dpo-token")
        labels = [tokens.nth(i).get_attribute("aria-label") for i in range(tokens.count())]
        assert labels == ["two↵lines: +0.500", " good: +1.500", "<eos>: 0"]
        said = "β Σ u = 2.000, with c(x) = 0: 2.000. True reward: 4.000."
        assert reader.page.locator("[data-sum]").text_content() == said

    def test_arrow_keys_go_through_the_tokens(self, reader):
        reader.set("selected", 1)
        tokens = reader.page.locator(".dpo-token")
        assert reader.page.locator(".dpo-token[tabindex='0']").count() == 1
        reader.press(tokens.first, "ArrowRight")
        assert note(reader) == (
            "Token 2 of 3, “ good”: β u = +1.500, u = +3.000 nats, sum so far +2.000"
        )
        reader.press(tokens.nth(1), "End")
        assert "Token 3 of 3" in note(reader)
        assert tokens.nth(2).get_attribute("tabindex") == "0"
        tokens.nth(0).hover()
        assert "Token 1 of 3" in note(reader)

    def test_text_is_never_markup(self, reader):
        reader.set("selected", 3)
        assert reader.page.locator(".dpo-token").first.text_content() == NASTY
        assert reader.page.locator("[data-said=prompt]").text_content() == f"to “{NASTY}”"
        assert NASTY in note(reader)
        reader.set("selected", 4)
        assert reader.page.locator(".dpo-token").first.text_content() == "∅"
        assert reader.page.locator(".dpo-explorer :is(img:not(svg), b, script)").count() == 0
        assert reader.page.evaluate("window.hurt") is None

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_colours_diverge_and_their_text_stands_out(self, reader, theme):
        reader.page.evaluate(
            "(theme) => { document.documentElement.dataset.theme = theme; }", theme
        )
        looks = {}
        for selected in (0, 1):
            reader.set("selected", selected)
            for look in reader.page.locator(".dpo-token").evaluate_all(
                """(nodes) => nodes.map((node) => {
                  const { color, backgroundColor } = getComputedStyle(node);
                  const root = getComputedStyle(node.closest(".dpo-explorer")).backgroundColor;
                  return [Number(node.dataset.value), color, backgroundColor, root];
                })"""
            ):
                looks[look[0]] = look[1:]
        ground = rgb(looks[0][2])
        assert (luminance(ground) < 0.1) is (theme == "dark")

        def painted(value):
            part = [float(x) for x in re.findall(r"[\d.]+", looks[value][1])]
            share = part[3] if len(part) == 4 else 1.0
            return [share * c / 255 + (1 - share) * g for c, g in zip(part, ground, strict=False)]

        assert painted(0) == ground
        assert painted(1.5)[2] - painted(1.5)[0] > 0.2  # blue above 0
        assert painted(-0.5)[0] - painted(-0.5)[2] > 0.05  # orange below
        assert all(contrast(rgb(looks[v][0]), painted(v)) >= 4.5 for v in looks)


class TestForEveryReader:
    @pytest.mark.parametrize("width", [320, 390, 1280])
    def test_no_width_scrolls_sideways_and_targets_are_large(self, reader, width):
        reader.page.set_viewport_size({"width": width, "height": 800})
        reader.set("selected", 3)
        reader.page.get_by_role("button", name="Best constants").click()
        reader.drawn()
        assert reader.page.evaluate("document.documentElement.scrollWidth") <= width
        controls = reader.page.locator(".dpo-explorer :is(input, button, select)")
        boxes = [controls.nth(i).bounding_box() for i in range(controls.count())]
        assert len(boxes) == 8
        assert all(min(box["width"], box["height"]) >= 24 for box in boxes)
        inside = reader.page.locator(".dpo-explorer").evaluate(
            """(root) => [...root.querySelectorAll("*:not(svg *, .dpo-hidden)")].every((node) =>
              node.getBoundingClientRect().right <= root.getBoundingClientRect().right)"""
        )
        assert inside

    def test_cleaning_up_leaves_nothing_behind(self, chromium):
        with readers(chromium) as open_one:
            page = open_one(ImplicitRewardExplorer(HAND[:1]))
            assert "No prompt has two answers" in page.page.content()
            assert not re.search("NaN|undefined", page.page.locator("svg").first.inner_html())
            page.page.evaluate("cleanup()")
            assert page.page.evaluate("[model.listeners.length, el.childNodes.length]") == [0, 0]


class TestBuiltPage:
    def test_it_lives_in_chapter_09_fits_a_phone_and_is_small(
        self, chromium, built_site, site_addresses
    ):
        with chapters(chromium, built_site, site_addresses) as open_one:
            phone = {"viewport": {"width": 390, "height": 844}, "typeset": True}
            page = open_one("09_implicit_reward", "ImplicitRewardExplorer", **phone)
            state = page.evaluate(STORED, "ImplicitRewardExplorer")
            assert stored_size(state) < 30_000
            assert_fits_a_phone(page, 390)
            responses, constants = state["responses"], {}
            for button in (None, "Best constants"):
                if button:
                    page.get_by_role("button", name=button).click()
                    page.evaluate(DRAWN)
                    constants = dict(enumerate(in_python(responses, state["beta"], {})["best"]))
                expected = in_python(responses, state["beta"], constants)
                shown = page.evaluate(NUMBERS)
                for name in ("accuracy", "distance", "lowest"):
                    assert shown[name] == pytest.approx(expected[name], rel=1e-10), name
            page.get_by_role("combobox", name="answer").select_option("1")
            page.evaluate(DRAWN)
            assert page.locator(".dpo-token").all_text_contents() == responses[1]["tokens"]
            assert_fits_a_phone(page, 390)
