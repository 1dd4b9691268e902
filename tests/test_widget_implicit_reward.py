"""The implicit reward explorer driven in Chromium, its numbers against numpy's."""

from __future__ import annotations

import itertools
import json
import math
import re

import numpy as np
import pytest
from test_widget_reading import contrast, luminance, rgb
from widget_page import open_modules, readers

from dpo_lab.errors import InputError
from dpo_lab.widgets import ImplicitRewardExplorer

NASTY = '<img src=x onerror="window.hurt = 1"></script><b>'


def response(prompt: str, logratios: list[float], gold: float, first: str = " was") -> dict:
    tokens = [first, *[" good"] * (len(logratios) - 2), "<eos>"][: len(logratios)]
    return {"prompt": prompt, "tokens": tokens, "logratios": logratios, "gold": gold}


# By hand, at beta 0.5: implicit rewards 1, 2, -1 of the film and -0.5, 0.5 of the other prompt.
HAND = [
    response("the film", [3.0, -1.0, 0.0], 0.0),
    response("the film", [1.0, 3.0, 0.0], 4.0, first="two\nlines"),
    response("the film", [-2.0], 2.0),
    response(NASTY, [-2.0, 1.0], -3.0, first=NASTY),
    response(NASTY, [0.5, 0.5], -2.0, first=""),
]


def random_responses(seed: int) -> list[dict]:
    draw = np.random.default_rng(seed)
    return [
        response(
            f"prompt {draw.integers(4)}",
            draw.normal(0, 3, draw.integers(1, 9)).round(2).tolist(),
            float(draw.integers(-2, 3)),  # true rewards that tie
        )
        for _ in range(25)
    ]


def in_python(responses: list[dict], beta: float, constants: dict[str, float]) -> dict:
    """The same quantities by numpy, prompt by prompt."""
    prompts = list(dict.fromkeys(each["prompt"] for each in responses))
    group = np.array([prompts.index(each["prompt"]) for each in responses])
    gold = np.array([each["gold"] for each in responses])
    implicit = beta * np.array([math.fsum(each["logratios"]) for each in responses])
    best = [float((gold - implicit)[group == k].mean()) for k in range(len(prompts))]
    wins = [
        0.5 * (1 + np.sign((implicit[i] - implicit[j]) * (gold[i] - gold[j])))
        for i, j in itertools.combinations(range(len(gold)), 2)
        if group[i] == group[j] and gold[i] != gold[j]
    ]
    free = np.array([constants.get(prompt, 0.0) for prompt in prompts])
    return {
        "implicit": implicit,
        "best": best,
        "accuracy": float(np.mean(wins)) if wins else math.nan,
        "pairs": len(wins),
        "distance": float(np.sqrt(np.mean((implicit + free[group] - gold) ** 2))),
        "lowest": float(np.sqrt(np.mean((implicit + np.array(best)[group] - gold) ** 2))),
    }


class TestPython:
    def test_answers_point_to_their_prompts(self):
        explorer = ImplicitRewardExplorer(HAND, selected=4)
        assert explorer.prompts == ["the film", NASTY]
        assert [each["prompt"] for each in explorer.responses] == [0, 0, 0, 1, 1]
        assert explorer.responses[1] == {
            "prompt": 0, "tokens": ["two\nlines", " good", "<eos>"], "logratios": [1, 3, 0],
            "gold": 4,
        }  # fmt: skip
        assert explorer.initial == {"beta": 0.1, "constants": [0, 0], "selected": 4}
        with pytest.raises(InputError, match="constants must be one number a prompt, got 3 for 2"):
            explorer.constants = [1, 2, 3]

    def test_a_hundred_answers_are_small(self):
        many = random_responses(1) * 4
        explorer = ImplicitRewardExplorer([each | {"gold": math.pi} for each in many])
        assert explorer.responses[0]["gold"] == 3.14159
        assert len(json.dumps([explorer.responses, explorer.prompts])) < 30_000

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"responses": []}, "responses must be a list of at least one"),
            ({"responses": "text"}, "responses must be a list of at least one"),
            ({"responses": [["x"]]}, r"responses\[0\] must be a mapping"),
            ({"responses": [{"prompt": "x"}]}, r"responses\[0\] has no 'tokens'"),
            ({"responses": [HAND[0] | {"tokens": []}]}, r"responses\[0\].tokens must be a list of"),
            ({"responses": [HAND[0] | {"tokens": "abc"}]}, r"responses\[0\].tokens must be a list"),
            ({"responses": [HAND[0] | {"tokens": [1, 2, 3]}]}, r"tokens\[0\] must be a text"),
            ({"responses": [HAND[0], HAND[2] | {"logratios": [1.0, 2.0]}]},
             r"responses\[1\] has 1 tokens, but 2 logratios"),
            ({"responses": [HAND[2] | {"logratios": [math.nan]}]}, r"logratios\[0\] must be fin"),
            ({"responses": [HAND[0] | {"gold": math.inf}]}, r"\[0\].gold\[0\] must be finite"),
            ({"responses": [HAND[0] | {"prompt": None}]}, r"responses\[0\].prompt must be a text"),
            ({"beta": 0}, "beta must be finite and greater than 0"),
            ({"constants": [1.0]}, "constants must be one number a prompt, got 1 for 2 prompts"),
            ({"selected": 5}, "selected must be a whole number from 0 to 4"),
        ],
    )  # fmt: skip
    def test_bad_input_is_named(self, arguments, message):
        with pytest.raises(InputError, match=message):
            ImplicitRewardExplorer(**{"responses": HAND} | arguments)


@pytest.fixture(scope="module")
def maths(chromium, tmp_path_factory):
    """All of implicit.js for the responses that Python would send."""
    page = chromium.new_page()
    names = "bestConstants, distance, implicitRewards, rankedRight"
    open_modules(page, tmp_path_factory.mktemp("modules"), {"implicit.js": names})

    def call(responses, beta, constants):
        explorer = ImplicitRewardExplorer(responses, beta)
        free = [constants.get(prompt, 0.0) for prompt in explorer.prompts]
        return page.evaluate(
            """([answers, beta, constants]) => {
              const implicit = tested.implicitRewards(answers, beta);
              const best = tested.bestConstants(answers, implicit, constants.length);
              const { share, pairs } = tested.rankedRight(answers, implicit);
              const [distance, lowest] = [constants, best].map((each) =>
                tested.distance(answers, implicit, each));
              return { implicit, best, accuracy: share, pairs, distance, lowest };
            }""",
            [explorer.responses, beta, free],
        )

    yield call
    page.close()


@pytest.mark.browser
class TestMaths:
    def test_by_hand(self, maths):
        shown = maths(HAND, 0.5, {"the film": 1.0})
        assert shown["implicit"] == [1, 2, -1, -0.5, 0.5]
        assert shown["best"] == [pytest.approx(4 / 3), -2.5]  # means of -1, 2, 3 and -2.5, -2.5
        # Right: the film's second answer against both others, and the other prompt's pair.
        assert (shown["accuracy"], shown["pairs"]) == (pytest.approx(3 / 4), 4)
        squares = 2**2 + 1**2 + 2**2 + 2.5**2 + 2.5**2
        assert shown["distance"] == pytest.approx(math.sqrt(squares / 5))

    @pytest.mark.parametrize("seed", range(4))
    def test_random_answers(self, maths, seed):
        responses = random_responses(seed)
        expected = in_python(responses, 0.3, {"prompt 1": 2.5})
        shown = maths(responses, 0.3, {"prompt 1": 2.5})
        for name, value in expected.items():
            np.testing.assert_allclose(shown[name], value, rtol=1e-12, atol=1e-12, err_msg=name)
        assert expected["lowest"] < expected["distance"]

    def test_ties_are_one_half_and_nothing_to_rank_is_no_number(self, maths):
        tie = [response("x", [1.0], 0.0), response("x", [1.0], 1.0), response("y", [3.0], 1.0)]
        assert (maths(tie, 1.0, {})["accuracy"], maths(tie, 1.0, {})["pairs"]) == (0.5, 1)
        assert math.isnan(maths(tie[1:], 1.0, {})["accuracy"])


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


@pytest.mark.browser
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


@pytest.mark.browser
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


@pytest.mark.browser
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


@pytest.mark.browser
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
