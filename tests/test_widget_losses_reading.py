"""The loss and the landscape explorer in both themes, and every name that a control needs."""

from __future__ import annotations

import pytest
from test_widget_reading import contrast, luminance, rgb
from widget_page import readers

from dpo_lab.widgets import LandscapeExplorer, LossExplorer

pytestmark = pytest.mark.browser

EXPLORERS = {
    "loss": lambda: LossExplorer("nca_pair", versus="dpo"),
    "landscape": lambda: LandscapeExplorer(penalised=True),
}

# Text on the explorer's own ground, and the shapes that stand on it (not on the heat map).
COLORS = """() => {
  const root = document.querySelector(".dpo-explorer");
  const texts = new Set();
  for (const node of root.querySelectorAll("*")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (node.matches("title, desc, option, optgroup") || !own) continue;
    const style = getComputedStyle(node);
    texts.add(node instanceof SVGElement ? style.fill : style.color);
  }
  const shapes = [...root.querySelectorAll(".dpo-line, .dpo-value")].map((node) => {
    const style = getComputedStyle(node);
    return style.fill === "none" ? style.stroke : style.fill;
  });
  const box = getComputedStyle(root.querySelector(".dpo-choice")).borderTopColor;
  const ground = getComputedStyle(root).backgroundColor;
  return { ground, texts: [...texts], shapes: [...shapes, box] };
}"""


@pytest.fixture
def reader(chromium):
    with readers(chromium) as open_one:
        yield lambda name, **options: open_one(EXPLORERS[name](), **options)


@pytest.mark.parametrize("name", EXPLORERS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colours_stand_out_in_both_themes(reader, name, theme):
    page = reader(name, theme=theme)
    page.type_beta("-1")  # the message is text too
    colors = page.page.evaluate(COLORS)
    ground = rgb(colors["ground"])
    assert (luminance(ground) < 0.1) is (theme == "dark")
    assert len(colors["texts"]) >= 3
    for text in colors["texts"]:
        assert contrast(rgb(text), ground) >= 4.5, text
    for shape in colors["shapes"]:
        assert contrast(rgb(shape), ground) >= 3, shape


@pytest.fixture(scope="module")
def opened(chromium):
    """One page of each explorer, for tests that change nothing but the theme and beta."""
    with readers(chromium) as open_one:
        pages = {}

        def once(name):
            if name not in pages:
                pages[name] = open_one(EXPLORERS[name](), reduced_motion="reduce")
            return pages[name]

        yield once


@pytest.mark.parametrize("name", EXPLORERS)
def test_every_control_has_a_name_of_its_own_and_its_own_keys(opened, name):
    page = opened(name).page
    controls = page.locator("input[type=range], input[type=text], select, [role=application]")
    names = [controls.nth(i).get_attribute("aria-label") for i in range(controls.count())]
    assert all(names)
    assert len(names) == len(set(names)) > 5
    for i in range(page.get_by_role("slider").count()):
        assert page.get_by_role("slider").nth(i).get_attribute("aria-valuetext")
    keyed = page.locator("input, select, [role=application]")
    own = page.locator(":is(input, select, [role=application])[data-lm-suppress-shortcuts=true]")
    assert keyed.count() == own.count()


@pytest.mark.parametrize("name", EXPLORERS)
def test_pictures_say_what_they_show(opened, name):
    page = opened(name).page
    for text in page.locator("svg.dpo-picture > desc").all_text_contents():
        assert len(text) > 40
    assert page.locator("svg.dpo-picture > title").count() == (2 if name == "loss" else 1)


@pytest.mark.parametrize("name", EXPLORERS)
def test_nothing_moves_by_itself(opened, name):
    page = opened(name)
    page.press(page.beta, "Home")
    assert page.page.evaluate("el.getAnimations({ subtree: true }).length") == 0
