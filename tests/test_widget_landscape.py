"""The landscape explorer driven in Chromium as a reader would, its numbers against Python's."""

from __future__ import annotations

import math
import re
import statistics

import pytest
import torch
from widget_page import DRAWN, assert_fits_a_phone, chapters, readers

from dpo_lab.errors import InputError
from dpo_lab.landscape import pair_surface
from dpo_lab.losses import LOSSES
from dpo_lab.widgets import LandscapeExplorer
from dpo_lab.widgets.landscape import NAMES

NUMBERS = """() => Object.fromEntries([...document.querySelectorAll("[data-number]")]
  .map((tile) => [tile.dataset.number, Number(tile.dataset.value)]))"""
PLACE = """() => {
  const number = (selector, names) => {
    const node = document.querySelector(selector);
    return names.map((name) => Number(node.getAttribute(name)));
  };
  return {
    hand: number(".dpo-hand", ["x", "y", "width", "height"]),
    dot: number(".dpo-plot .dpo-point", ["cx", "cy"]),
    end: number(".dpo-path-end", ["cx", "cy", "data-a", "data-b"]),
    arrow: document.querySelector(".dpo-arrow").getAttribute("transform"),
  };
}"""
# The colours of the picture, at shares of its width from the left and of its height from below.
COLORS = """(places) => {
  const canvas = document.querySelector("canvas");
  const pen = canvas.getContext("2d");
  return places.map(([x, y]) =>
    [...pen.getImageData(x * canvas.width, (1 - y) * canvas.height, 1, 1).data.slice(0, 3)]);
}"""


def in_python(state: dict) -> dict[str, float]:
    """Loss and derivatives at the point, from `pair_surface` on a grid of one."""
    a, b = (torch.tensor([u], dtype=torch.float64) for u in state["point"])
    c = state["c"] if state["penalised"] else 0.0
    surface = pair_surface(
        state["loss"],
        a,
        b,
        state["beta"] or LOSSES[state["loss"]].beta,
        win_probability=float(state["win_probability"]),
        penalty=lambda u: c * u,
    )
    loss, da, db = (float(x) for x in (surface.losses, surface.grad_chosen, surface.grad_rejected))
    return {"loss": loss, "da": da, "db": db, "along": da + db}


def assert_agrees(page) -> dict:
    state = page.state()
    shown = page.page.evaluate(NUMBERS)
    expected = in_python(state)
    assert set(shown) == set(expected)
    for name, value in expected.items():
        assert shown[name] == pytest.approx(value, rel=1e-10, abs=1e-13), (state, name)
    return state


@pytest.fixture
def reader(chromium):
    with readers(chromium) as open_one:
        yield lambda explorer=None, **options: open_one(explorer or LandscapeExplorer(), **options)


@pytest.fixture(scope="class")
def shared(chromium):
    """One page for all widths and themes."""
    with readers(chromium) as open_one:
        yield open_one(LandscapeExplorer())


def choose(page, loss: str) -> None:
    page.page.get_by_role("combobox", name="loss", exact=True).select_option(loss)
    page.drawn()


class TestPython:
    def test_the_losses_are_those_of_two_log_ratios(self):
        assert {"dpo", "ipo_sum", "nca_pair", "kto_simplified", "fdpo_js"} <= set(NAMES)
        assert not {"simpo", "kto", "wpo", "ipo_avg", "aot", "cpo"} & set(NAMES)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"loss": "simpo"}, "loss 'simpo' reads more than two log-ratios; use dpo"),
            ({"loss": "aot"}, "loss 'aot' mixes"),
            ({"beta": -1.0}, "beta must be finite and greater than 0"),
            ({"half_width": 0}, "half_width must be finite and greater than 0"),
            ({"c": -0.1}, "c must be at least 0, got -0.1"),
            ({"point": [1, 2, 3]}, "point must be two numbers, got 3"),
            ({"win_probability": -0.1}, "win_probability must lie in"),
        ],
    )
    def test_bad_input_is_named(self, arguments, message):
        with pytest.raises(InputError, match=message):
            LandscapeExplorer(**arguments)


@pytest.mark.browser
class TestNumbers:
    def test_every_loss_shows_pythons_numbers(self, reader):
        page = reader()
        for name in NAMES:
            choose(page, name)
            state = assert_agrees(page)
            assert (state["loss"], state["beta"], state["half_width"]) == (name, None, None)
            drawing = page.page.evaluate("el.innerHTML")
            assert not re.search(r"NaN|Infinity|undefined", drawing), name

    def test_the_point_moves_by_arrow_keys_on_the_plot(self, reader):
        page = reader(LandscapeExplorer(point=[0, 0]))  # half of 60 nats: a step is 0.6
        hand = page.page.get_by_role("application")
        for key, times in [("ArrowRight", 5), ("ArrowUp", 2), ("ArrowLeft", 1), ("ArrowDown", 4)]:
            page.press(hand, key, times)
        assert assert_agrees(page)["point"] == pytest.approx([2.4, -1.2])
        page.press(hand, "Shift+ArrowDown", 20)  # stops at the edge
        assert assert_agrees(page)["point"] == pytest.approx([2.4, -30])
        assert re.match(r"u₁ 2\.400, u₂ −30\.000, loss", hand.get_attribute("aria-label"))

    def test_the_point_follows_the_mouse(self, reader):
        page = reader()
        box = page.page.get_by_role("application").bounding_box()
        x, y = box["x"] + 0.75 * box["width"], box["y"] + 0.25 * box["height"]
        page.page.mouse.move(box["x"] + 5, box["y"] + 5)
        page.page.mouse.down()
        page.page.mouse.move(x, y, steps=8)
        page.page.mouse.up()
        page.page.mouse.move(x + 40, y)  # the button is up: the point stays
        page.drawn()
        assert assert_agrees(page)["point"] == pytest.approx([15, 15], abs=0.2)

    def test_the_point_follows_a_finger(self, reader):
        page = reader(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
        box = page.page.get_by_role("application").bounding_box()
        place = box["x"] + 0.25 * box["width"], box["y"] + 0.25 * box["height"]
        page.page.touchscreen.tap(*place)
        page.drawn()
        assert assert_agrees(page)["point"] == pytest.approx([-15, 15], abs=0.3)

    def test_sliders_and_the_penalty_change_the_ground(self, reader):
        page = reader()
        page.press(page.slider("log-ratio u₁"), "ArrowRight", 3)
        page.press(page.slider("log-ratio u₂"), "ArrowLeft", 5)
        page.press(page.slider("P(y₁ wins) = p"), "ArrowLeft", 10)
        before = assert_agrees(page)
        assert before["win_probability"] == pytest.approx(0.7)
        page.page.get_by_role("checkbox", name="add c · u₁").check()
        page.press(page.slider("c"), "ArrowRight", 4)
        state = assert_agrees(page)
        assert (state["penalised"], state["c"]) == (True, pytest.approx(0.07))
        page.type_beta("0.5")
        assert assert_agrees(page)["beta"] == 0.5
        page.page.get_by_role("button", name="Reset").click()
        page.drawn()
        assert assert_agrees(page) == before | before["initial"]


@pytest.mark.browser
class TestPath:
    def way(self, page) -> tuple[str, list[float]]:
        end = page.page.locator(".dpo-lowest").get_attribute("data-value")
        return end, page.page.evaluate(PLACE)["end"][2:]

    def test_what_the_chapter_says(self, reader):
        """p = 0.8: the valley at 13.863, the sum kept. p = 1: out. IPO: a difference of 5."""
        page = reader(LandscapeExplorer(point=[4, 10]))
        end, (a, b) = self.way(page)
        assert end == "rest"
        assert [a - b, a + b] == pytest.approx([math.log(4) / 0.1, 14], abs=1e-3)
        page.press(page.slider("P(y₁ wins) = p"), "End")
        assert self.way(page)[0] == "left"
        choose(page, "ipo_sum")
        end, (a, b) = self.way(page)
        assert end == "rest"
        assert [a - b, a + b] == pytest.approx([5, 14], abs=1e-3)

    @pytest.mark.parametrize("p", [0.8, 1.0])
    def test_the_penalty_leads_out_to_the_lower_left(self, reader, p):
        page = reader(LandscapeExplorer(penalised=True, win_probability=p))
        end, (a, b) = self.way(page)
        assert end == "left"
        assert a < 0
        assert b < -30
        assert "leaves the picture" in page.page.locator(".dpo-lowest").inner_text()

    def test_dot_arrow_and_end_lie_where_the_numbers_say(self, reader):
        page = reader(LandscapeExplorer("nca_pair", beta=0.5, point=[-4, 7], half_width=10))
        numbers = page.page.evaluate(NUMBERS)
        drawn = page.page.evaluate(PLACE)
        x0, y0, width, height = drawn["hand"]
        place = lambda a, b: [x0 + (a + 10) / 20 * width, y0 + (10 - b) / 20 * height]  # noqa: E731
        assert drawn["dot"] == pytest.approx(place(-4, 7))
        end = [math.log(1.6) / 0.5, math.log(0.4) / 0.5]
        assert drawn["end"][2:] == pytest.approx(end, abs=1e-3)
        assert drawn["end"][:2] == pytest.approx(place(*end), abs=0.05)
        turn = float(re.search(r"rotate\(([-\d.e]+)\)", drawn["arrow"])[1])
        # Right is +u1 and, in the picture, down is -u2; descent goes against the derivatives.
        assert math.cos(math.radians(turn)) * numbers["da"] < 0
        assert math.tan(math.radians(turn)) == pytest.approx(-numbers["db"] / numbers["da"])


@pytest.mark.browser
class TestPicture:
    def test_low_ground_is_dark_and_contours_follow_the_null_direction(self, reader):
        page = reader(LandscapeExplorer(win_probability=1.0))
        low, middle, high = page.page.evaluate(COLORS, [[0.97, 0.03], [0.5, 0.5], [0.03, 0.97]])
        assert low == [0x44, 0x01, 0x54]
        assert high == [0xFD, 0xE7, 0x25]
        assert middle not in (low, high)
        for offset in (-0.31, 0.02, 0.27):  # along (1, 1) the colour stays
            diagonal = [[0.5 + t + offset / 2, 0.5 + t - offset / 2] for t in (-0.3, 0, 0.3)]
            colors = page.page.evaluate(COLORS, diagonal)
            assert colors[0] == colors[1] == colors[2]

    def test_the_scale_names_the_edges_of_the_bands(self, reader):
        page = reader(LandscapeExplorer("ipo_sum", beta=0.1, point=[0, 0], win_probability=1.0))
        texts = page.page.locator(".dpo-scale span span").all_text_contents()
        edges = [float(text.replace("−", "-")) for text in texts]
        assert edges == sorted(edges)
        # Over u1 - u2 in [-15, 15] the square (d - 5)^2 ends at 400.
        assert edges[-1] == pytest.approx(400, rel=1e-3)

    def test_a_redraw_fits_into_a_frame(self, reader):
        """Script, style and layout, when the whole ground changes and when the point moves."""
        page = reader(LandscapeExplorer("exo_pair"))
        times = page.page.evaluate(
            """async () => {
              const request = window.requestAnimationFrame;
              const times = [];
              window.requestAnimationFrame = (draw) => request((now) => {
                const start = performance.now();
                draw(now);
                el.getBoundingClientRect();
                times.push(performance.now() - start);
              });
              for (let i = 0; i < 60; i += 1) {
                if (i < 30) model.set("win_probability", 0.6 + i / 100);
                else model.set("point", [20 * Math.sin(i), 20 * Math.cos(i)]);
                await new Promise((done) => request(done));
              }
              window.requestAnimationFrame = request;
              return times;
            }"""
        )
        assert len(times) == 60
        print(f"ground {statistics.median(times[:30]):.1f} ms, "
              f"point {statistics.median(times[30:]):.1f} ms")  # fmt: skip
        assert statistics.median(times[:30]) < 16
        assert statistics.median(times[30:]) < 16
        assert_agrees(page)

    @pytest.mark.parametrize("theme", ["light", "dark"])
    @pytest.mark.parametrize("width", [320, 390, 1280])
    def test_no_width_scrolls_sideways_and_targets_are_large(self, shared, width, theme):
        page = shared
        page.look_like(theme, width)
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width
        sizes = page.page.evaluate(
            """() => [...document.querySelectorAll("label, input:not([type=checkbox]), button, select")]
              .map((node) => {
                const box = node.getBoundingClientRect();
                return [Math.min(box.width, box.height), box.left, box.right];
              })"""  # noqa: E501
        )
        assert len(sizes) == 10
        for size, left, right in sizes:
            assert size >= 24
            assert 0 <= left < right <= width

    def test_a_screen_reader_hears_where_the_path_goes(self, reader):
        page = reader()
        page.press(page.page.get_by_role("application"), "ArrowRight")
        page.page.wait_for_function("document.querySelector('[role=status]').textContent")
        heard = page.page.locator("[role=status]").text_content()
        assert re.match(r"dpo, beta 0\.1: loss \d\.\d+\. Downhill ends at u₁ = ", heard)

    def test_cleaning_up_leaves_nothing_behind(self, reader):
        page = reader()
        page.page.evaluate("cleanup()")
        left = page.page.evaluate("[model.listeners.length, el.childNodes.length]")
        assert left == [0, 0]


@pytest.mark.browser
class TestBuiltPage:
    @pytest.fixture
    def chapter(self, chromium, built_site, site_addresses):
        with chapters(chromium, built_site, site_addresses) as open_one:
            phone = {"viewport": {"width": 390, "height": 844}, "typeset": True}
            yield open_one("04_loss_landscape", "LandscapeExplorer", **phone)

    def test_it_lives_in_chapter_04_and_fits_a_phone(self, chapter):
        assert_fits_a_phone(chapter, 390)
        state = {
            "loss": "dpo", "beta": 0.1, "point": [-10, 10], "win_probability": 0.8,
            "penalised": False, "c": 0.05,
        }  # fmt: skip
        hand = chapter.get_by_role("application")
        for moved, key in [(0.0, None), (0.6, "ArrowRight"), (1.2, "ArrowRight")]:
            if key:
                hand.focus()
                chapter.keyboard.press(key)
                chapter.evaluate(DRAWN)
            shown = chapter.evaluate(NUMBERS)
            expected = in_python(state | {"point": [-10 + moved, 10]})
            assert shown == pytest.approx(expected, rel=1e-10, abs=1e-13)
