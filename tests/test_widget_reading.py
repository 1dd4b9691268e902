"""The Boltzmann explorer for every reader: themes, widths, screen readers, and the book's page."""

from __future__ import annotations

import re

import pytest
from widget_page import (
    READ,
    STORED,
    assert_fits_a_phone,
    assert_shows,
    chapters,
    in_python,
    readers,
)

from dpo_lab.widgets import BoltzmannExplorer

pytestmark = pytest.mark.browser


@pytest.fixture
def reader(chromium):
    with readers(chromium) as open_one:
        yield lambda explorer=None, **options: open_one(explorer or BoltzmannExplorer(), **options)


def luminance(color: list[float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: list[float], b: list[float]) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def rgb(text: str) -> list[float]:
    return [float(part) / 255 for part in re.findall(r"[\d.]+", text)[:3]]


def assert_stands_out(colors: dict) -> None:
    """Text at least 4.5 to 1 on its ground, shapes at least 3 to 1 (WCAG 2.2, 1.4.3 and 1.4.11)."""
    ground = rgb(colors["ground"])
    assert len(colors["texts"]) >= 2
    for text in colors["texts"]:
        assert contrast(rgb(text), ground) >= 4.5, text
    for shape in colors["shapes"]:
        assert contrast(rgb(shape), ground) >= 3, shape


COLORS_USED = """
() => {
  const root = document.querySelector(".dpo-explorer");
  const texts = new Set();
  for (const node of root.querySelectorAll("*")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (node.matches("title, desc") || (!own && !node.matches("input[type=text]"))) continue;
    const style = getComputedStyle(node);
    texts.add(node instanceof SVGElement ? style.fill : style.color);
  }
  const paint = (selector, name) => getComputedStyle(root.querySelector(selector))[name];
  const track = getComputedStyle(root).getPropertyValue("--dpo-track").trim();
  const probe = document.createElement("i");
  probe.style.color = track;
  root.append(probe);
  const shapes = [
    paint("rect.dpo-ref", "stroke"), paint("rect.dpo-policy", "fill"),
    paint("polyline", "stroke"), paint(".dpo-tangent", "stroke"), paint(".dpo-value", "fill"),
    paint(".dpo-box", "borderTopColor"), getComputedStyle(probe).color,
  ];
  probe.remove();
  return { ground: getComputedStyle(root).backgroundColor, texts: [...texts], shapes };
}
"""


@pytest.fixture(scope="module")
def long_labels(chromium):
    """One page for all widths, with labels that wrap and one that cannot."""
    labels = ["a rather long answer that wraps", "Unbreakable" * 6, *"CDEFGH"]
    with readers(chromium) as open_one:
        yield open_one(BoltzmannExplorer(labels=labels))


class TestForEveryReader:
    @pytest.mark.parametrize(
        ("theme", "scheme", "dark"),
        [
            ("light", "light", False),
            ("light", "dark", False),
            ("dark", "light", True),
            (None, "light", False),
            (None, "dark", True),
        ],
    )
    def test_colours_stand_out_in_both_themes(self, reader, theme, scheme, dark):
        page = reader(theme=theme, color_scheme=scheme)
        page.type_beta("-1")  # the message is text too
        colors = page.page.evaluate(COLORS_USED)
        assert (luminance(rgb(colors["ground"])) < 0.1) is dark
        assert_stands_out(colors)

    @pytest.mark.parametrize("width", [320, 360, 768, 1280])
    def test_no_width_scrolls_sideways_and_targets_are_large(self, long_labels, width):
        page = long_labels
        page.look_like("light", width)
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width
        sizes = page.page.evaluate(
            """() => [...document.querySelectorAll("input, button")].map((node) => {
              const box = node.getBoundingClientRect();
              return [box.width, box.height, box.left, box.right];
            })"""
        )
        assert len(sizes) == 19
        for box_width, height, left, right in sizes:
            assert min(box_width, height) >= 24
            assert 0 <= left < right <= width

    def test_every_control_has_a_name_and_says_its_value(self, reader):
        page = reader()
        sliders = page.page.get_by_role("slider")
        names = [sliders.nth(i).get_attribute("aria-label") for i in range(sliders.count())]
        assert len(names) == len(set(names)) == 17
        assert all(sliders.nth(i).get_attribute("aria-valuetext") for i in range(17))
        own_keys = "input:not([data-lm-suppress-shortcuts=true])"
        assert page.page.locator(own_keys).count() == 0
        pictures = page.page.get_by_role("img")
        assert pictures.count() == 2
        page.type_beta("0.5")
        shown = page.page.get_by_role("img", name="Reward-KL frontier").locator("desc")
        assert (
            "At beta 0.5 the optimum has expected reward 2.302 at KL 1.823" in shown.text_content()
        )
        shown = page.page.get_by_role("img", name="Probability of each answer").locator("desc")
        assert "H 2.0 % to 50.0 %" in shown.text_content()

    def test_a_screen_reader_hears_one_summary_after_the_hand_rests(self, reader):
        page = reader()
        page.page.evaluate(
            """() => {
              window.heard = [];
              const status = document.querySelector("[role=status]");
              new MutationObserver(() => heard.push(status.textContent))
                .observe(status, { childList: true, characterData: true, subtree: true });
            }"""
        )
        page.press(page.beta, "ArrowLeft", 15)
        page.page.wait_for_function("heard.length > 0")
        (heard,) = page.page.evaluate("heard")
        assert re.match(r"beta 0\.501: expected reward 2\.\d+, KL 1\.\d+ nats", heard)
        assert "Most likely answer: H" in heard

    def test_nothing_moves_by_itself(self, reader):
        page = reader(reduced_motion="reduce")
        page.press(page.beta, "Home")
        assert page.page.evaluate("el.getAnimations({ subtree: true }).length") == 0


@pytest.fixture(scope="class")
def chapter(chromium, built_site, site_addresses):
    """Opens the chapter of the book that holds the explorer, in a window of some size."""
    with chapters(chromium, built_site, site_addresses) as open_one:
        yield lambda **options: open_one("02_kl_optimum", "BoltzmannExplorer", **options)


@pytest.fixture(scope="class")
def opened(chapter):
    """One open page of the chapter for several tests."""
    return chapter()


class TestBuiltPage:
    def test_the_slider_moves_and_the_bars_are_pythons(self, opened):
        page = opened
        state = page.evaluate(STORED, "BoltzmannExplorer")
        assert_shows(page.evaluate(READ), in_python(state))
        slider = page.get_by_role("slider", name="beta, logarithmic").first
        slider.focus()
        for key in ("ArrowLeft", "PageDown", "ArrowRight", "ArrowLeft"):
            page.keyboard.press(key)
        page.evaluate("new Promise((done) => requestAnimationFrame(done))")
        beta = float(page.get_by_role("textbox", name="beta, exact value").first.input_value())
        assert beta < state["beta"]
        assert_shows(page.evaluate(READ), in_python(state | {"beta": beta}))

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_colours_stand_out_in_the_books_own_themes(self, opened, theme):
        page = opened
        page.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
        colors = page.evaluate(COLORS_USED)
        assert (luminance(rgb(colors["ground"])) < 0.1) is (theme == "dark")
        assert_stands_out(colors)

    def test_it_fits_a_phone(self, chapter):
        phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
        assert_fits_a_phone(chapter(typeset=True, **phone), 360)
