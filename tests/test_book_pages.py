"""The built site in headless Chromium, as a reader without a network sees it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import repository
import yaml

pytestmark = pytest.mark.browser
AT_ONCE = 4
PHONE = {"width": 390, "height": 844}

# Done: equations typeset, fonts there, and each explorer has put something on the page.
SETTLED = """async () => {
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
  const views = document.querySelectorAll('script[type$="widget-view+json"]');
  return [...views].every((view) => view.nextElementSibling?.childElementCount > 0);
}"""

SET_THEME = "(name) => { document.documentElement.dataset.theme = name; }"

# WCAG 2: the contrast of each piece of text with the nearest opaque background behind it.
LOW_CONTRAST = """(least) => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const opaque = ([, , , alpha = 1]) => alpha === 1;
  const luminance = (color) => {
    const [r, g, b] = color.slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const grounds = new Map();
  const background = (el) => {
    if (!el) return [255, 255, 255];
    if (!grounds.has(el)) {
      const color = parse(getComputedStyle(el).backgroundColor);
      grounds.set(el, opaque(color) ? color : background(el.parentElement));
    }
    return grounds.get(el);
  };
  const low = new Set();
  const texts = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const el = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !el.checkVisibility() || el.closest("svg, img")) continue;
    const [one, other] = [parse(getComputedStyle(el).color), background(el)].map(luminance);
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < least) {
      const what = `${el.tagName}.${el.className}`;
      low.add(`${what} ${contrast.toFixed(2)}: ${el.textContent.slice(0, 40)}`);
    }
  }
  return [...low];
}"""

TOO_WIDE = """() => {
  const { scrollWidth } = document.documentElement;
  if (scrollWidth <= innerWidth) return [];
  const wide = [...document.querySelectorAll("body *")].filter((el) => {
    for (let box = el.parentElement; box; box = box.parentElement)
      if (box !== document.body && getComputedStyle(box).overflowX !== "visible") return false;
    return el.getBoundingClientRect().right > innerWidth + 1 && el.checkVisibility();
  });
  return [`to ${scrollWidth}`, ...wide.map((el) => `${el.tagName}.${el.className}`)];
}"""


# All that a reader's browser unpacks for this page, in bytes.
WEIGHT = """() => performance.getEntries()
  .reduce((sum, each) => sum + (each.decodedBodySize ?? 0), 0)"""
IMAGES = "() => [...document.images].map((each) => [each.src, each.alt])"


@pytest.fixture(scope="module")
def pages(built_site) -> list[str]:
    """Every page of the site; index.html only leads on and has a test of its own."""
    found = {path.relative_to(built_site).as_posix() for path in built_site.rglob("*.html")}
    return sorted(name for name in found - {"index.html"} if not name.startswith("_static/"))


class Visit:
    """One page in a tab, with all that it asked for and all that went wrong."""

    def __init__(self, context, base: str, name: str) -> None:
        self.base, self.name = base, name
        self.troubles: list[str] = []
        self.page = context.new_page()
        self.page.on("request", self._note_request)
        self.page.on("requestfailed", lambda each: self.troubles.append(f"failed: {each.url}"))
        self.page.on("response", self._note_response)
        self.page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        self.page.on("console", self._note_message)
        self.page.goto(base + name, wait_until="commit")

    def _note_request(self, request) -> None:
        if not request.url.startswith((self.base, "blob:", "data:")):
            self.troubles.append(f"external: {request.url}")

    def _note_response(self, response) -> None:
        if response.status >= 400:
            self.troubles.append(f"{response.status}: {response.url}")

    def _note_message(self, message) -> None:
        if message.type == "error":
            self.troubles.append(f"console: {message.text}")

    def settle(self) -> None:
        """Wait until the page has loaded, typeset and started everything it holds."""
        self.page.wait_for_load_state("load")
        self.page.wait_for_function(f"({SETTLED})()")


def visit_all(context, base: str, names: list[str]) -> Iterator[Visit]:
    """Each page in turn, settled; a few load at the same time."""
    for start in range(0, len(names), AT_ONCE):
        visits = [Visit(context, base, name) for name in names[start : start + AT_ONCE]]
        for visit in visits:
            visit.settle()
            yield visit
            visit.page.close()


def toc_files(node: object) -> list[str]:
    """The files that a part of _toc.yml names, in order."""
    if isinstance(node, list):
        return [name for each in node for name in toc_files(each)]
    if not isinstance(node, dict):
        return []
    own = [node[key] for key in ("root", "file") if key in node]
    return own + [name for value in node.values() for name in toc_files(value)]


def test_every_page_of_the_contents_is_built(root: Path, built_site: Path):
    names = toc_files(yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8")))
    assert names
    assert [name for name in names if not (built_site / f"{name}.html").is_file()] == []


def test_every_chapter_leads_to_its_notebook_on_colab(root: Path, built_site: Path):
    name = repository.address(root).removeprefix("https://github.com/")
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        link = f'href="{repository.COLAB}{name}/blob/main/notebooks/{path.name}"'
        page = (built_site / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
        # the launch button, which Jupyter Book makes, and the line under the title
        assert page.count(link) == 2, path.name


def look(visit: Visit) -> dict[str, list]:
    """What a reader would see: images, weight, text too faint, parts too wide for the window."""
    seen = {"images": visit.page.evaluate(IMAGES), "weight": visit.page.evaluate(WEIGHT)}
    seen["desk"] = visit.page.evaluate(TOO_WIDE)
    for theme in ("light", "dark"):
        visit.page.evaluate(SET_THEME, theme)
        seen[theme] = visit.page.evaluate(LOW_CONTRAST, 4.5)
    visit.page.set_viewport_size(PHONE)
    seen["phone"] = visit.page.evaluate(TOO_WIDE)
    return seen


def crawl(browser, base: str, pages: list[str], *, looking: bool = False) -> dict[str, dict]:
    """Visit every page; what went wrong on each and, if asked, what it looks like."""
    context = browser.new_context()
    found = {}
    for visit in visit_all(context, base, pages):
        maths = visit.page.locator(".math").count()
        typeset = visit.page.locator(".math mjx-container").count()
        if maths != typeset:
            visit.troubles.append(f"{typeset} of {maths} formulas are typeset")
        if broken := visit.page.locator("mjx-merror").all_text_contents():
            visit.troubles.append(f"formulas with errors: {broken}")
        found[visit.name] = look(visit) if looking else {}
        found[visit.name]["troubles"] = visit.troubles
    context.close()
    return found


def amiss(found: dict[str, dict], what: str) -> dict[str, list]:
    """The pages on which something of that kind was found."""
    return {name: each[what] for name, each in found.items() if each[what]}


@pytest.fixture(scope="module")
def found(chromium, site_addresses, pages) -> dict[str, dict]:
    return crawl(chromium, site_addresses["sub-path"], pages, looking=True)


class TestUnderASubPath:
    """One crawl, looked at from several sides.

    An address that works here works at the root of a server too: one from the root leads to a
    missing file here, and one that climbs too high leads out of the site.
    """

    def test_pages_are_whole_and_ask_nobody_else(self, found):
        assert amiss(found, "troubles") == {}

    @pytest.mark.parametrize("view", ["desk", "phone", "light", "dark"])
    def test_pages_fit_their_window_and_are_readable_in_both_themes(self, found, view):
        assert amiss(found, view) == {}

    def test_no_page_weighs_5_megabytes(self, found):
        weights = {name: page["weight"] for name, page in found.items()}
        assert max(weights.values()) > 3e6, "MathJax was not counted"
        assert {name: weight for name, weight in weights.items() if weight >= 5e6} == {}

    def test_every_image_is_described_in_words(self, found):
        # Sphinx puts the file's address where a description is missing.
        images = [(src, alt) for page in found.values() for src, alt in page["images"]]
        assert [(src, alt) for src, alt in images if not alt.strip() or "/" in alt] == []


class TestAsFiles:
    """The same pages from the disk; a class of its own runs beside the first."""

    def test_pages_are_whole_and_ask_nobody_else(self, chromium, site_addresses, pages):
        assert amiss(crawl(chromium, site_addresses["file"], pages), "troubles") == {}


def test_the_front_door_leads_to_the_first_page(chromium, site_addresses, root):
    first = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))["root"]
    page = chromium.new_page()
    page.goto(site_addresses["file"] + "index.html")
    page.wait_for_url(f"{site_addresses['file']}{first}.html")
    page.close()


def test_search_works_without_a_server_of_its_own(chromium, site_addresses):
    context = chromium.new_context()
    visit = Visit(context, site_addresses["sub-path"], "search.html?q=notation")
    visit.settle()
    found = visit.page.locator("ul.search a").first
    found.wait_for()
    assert urlsplit(found.get_attribute("href")).path.endswith("notation.html")
    assert visit.troubles == []
    context.close()
