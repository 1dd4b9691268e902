"""The playground on its own page of the built book: links, touch, clipboard, frames."""

from __future__ import annotations

import statistics

import pytest
from playground_python import HOSTILE, TILES, WORK, in_python
from widget_page import DRAWN, STORED, chapters


@pytest.fixture
def built(chromium, built_site, site_addresses):
    """Opens the playground's page in the built book, over http or as a file, at some address."""
    with chapters(chromium, built_site, site_addresses) as open_one:
        yield lambda hash_="", **options: open_one("playground", "Playground", hash_, **options)


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
        state = other.evaluate(STORED, "Playground") | {
            "loss": "ipo_sum",
            "coverage": "blocks",
            "pairs": 990,
        }
        state["rewards"] = [0.1, *state["rewards"][1:]]
        for name, value in in_python(state, 1).items():
            assert shown[name] == pytest.approx(value, rel=1e-9), name

    @pytest.mark.parametrize("text", HOSTILE)
    def test_a_hostile_link_changes_nothing_and_is_named(self, built, text):
        page = built(text)
        assert page.get_by_role("alert").filter(has_text="Not understood in the link").is_visible()
        expected = in_python(page.evaluate(STORED, "Playground"), 0)
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
        phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
        page = built(typeset=True, **phone)
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
