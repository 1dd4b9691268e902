"""The curves explorer driven in Chromium as a reader would: a run scrubbed step by step."""

from __future__ import annotations

import math
import re

import pytest
from test_widget_curves import HELD_OUT, NASTY, SAMPLES, TRAIN, rows
from widget_page import DRAWN, STORED, assert_fits_a_phone, chapters, readers, stored_size

from dpo_lab.widgets import CurvesExplorer

pytestmark = pytest.mark.browser

CELLS = """() => Object.fromEntries([...document.querySelectorAll("[data-cell]")]
  .map((cell) => [cell.dataset.cell, cell.textContent.replaceAll("−", "-")]))"""
MARKS = """() => Object.fromEntries([...document.querySelectorAll(".dpo-panels svg")].map((svg) => [
  svg.querySelector("title").textContent,
  [...svg.querySelectorAll(".dpo-now")].filter((node) => node.style.display !== "none")
    .map((node) => Number(node.dataset.value))]))"""
ANSWERS = """() => [...document.querySelectorAll(".dpo-answers tr")].map((row) =>
  [...row.children].map((cell) =>
    [...cell.querySelectorAll("p")].map((p) => p.textContent).join("|") || cell.textContent))"""


@pytest.fixture(scope="module")
def page(chromium):
    """One page for all readings; each begins with a reset."""
    with readers(chromium) as open_one:
        yield open_one(CurvesExplorer(rows(), SAMPLES))


@pytest.fixture
def reader(page):
    page.page.get_by_role("button", name="Reset").click()
    page.drawn()
    return page


def reading(page) -> str:
    return page.page.locator("[data-reading]").text_content()


class TestPage:
    def test_the_numbers_are_those_of_the_newest_rows(self, reader):
        recorded = rows()
        for step in sorted({*TRAIN, *HELD_OUT}):
            reader.set("step", step)
            cells = reader.page.evaluate(CELLS)
            for kind, prefix in (("training", ""), ("held out", "eval_")):
                name = f"{prefix}loss"
                newest = [r for r in recorded if name in r and r["step"] <= step][-1:]
                loss, ratio = (cells[f"{kind} {each}"] for each in ("loss", "logratios/rejected"))
                if not newest:
                    assert (loss, ratio) == ("–", "–")
                else:
                    assert float(loss) == pytest.approx(newest[0][name], abs=6e-4)
                    expected = newest[0][f"{prefix}logratios/rejected"]
                    assert float(ratio) == pytest.approx(expected, abs=6e-4)
        assert cells["held out kl/policy"] == "2.200 ± 0.200"
        assert cells["training kl/policy"] == cells["held out grad_weight"] == "–"
        assert cells["training rewards/accuracies"] == "80.0 %"
        heads = reader.page.locator("thead").first.inner_text()
        assert "training, step 30" in heads
        assert "held out, step 40" in heads

    def test_the_cursor_stands_at_the_step_in_every_panel(self, reader):
        reader.set("step", 20)
        marks = reader.page.evaluate(MARKS)
        assert marks == {
            "Log-ratio to the reference, nats": [-0.4, -2.4],
            "Mean margin": [0.2],
            "Loss": [0.68],
            "Mean force, grad_weight": [0.032],
            "KL on own answers, nats": [1.1],
            "True reward of own answers": [1.5],
        }
        places = "(nodes) => nodes.map((node) => Number(node.getAttribute('x1')))"
        assert reader.page.locator(".dpo-cursor").evaluate_all(places) == [158.0] * 6  # half way
        told = reader.page.get_by_role("img", name="KL on own answers, nats").locator("desc")
        assert told.text_content() == "KL: held out 1.100 at step 20."

    def test_dots_have_bars_of_two_standard_errors(self, reader):
        bars = reader.page.locator("svg", has_text="True reward").locator(".dpo-error")
        ends = [re.findall(r"[\d.]+", bars.nth(i).get_attribute("d")) for i in range(3)]
        lengths = [float(low) - float(high) for _, low, high in ends]
        dots = reader.page.locator("svg", has_text="True reward").locator(".dpo-dot")
        heights = [
            float(re.findall(r"[\d.]+", dots.nth(i).get_attribute("transform"))[1])
            for i in range(3)
        ]
        unit = heights[0] - heights[1]  # a true reward of 1
        assert lengths == pytest.approx([4 * 0.2 * unit] * 3)

    def test_arrow_keys_move_from_record_to_record(self, reader):
        slider = reader.slider("step")
        assert slider.get_attribute("aria-valuetext") == "step 40 of 40"
        reader.press(slider, "ArrowLeft", 2)
        assert reader.state()["step"] == 20
        reader.press(slider, "Home")
        assert reader.state()["step"] == 0
        reader.press(slider, "ArrowRight")
        assert (reader.state()["step"], slider.get_attribute("aria-valuetext")) == (
            1, "step 1 of 40"
        )  # fmt: skip
        own_keys = "input:not([data-lm-suppress-shortcuts=true]), button:not([data-lm-suppress-shortcuts=true])"  # noqa: E501
        assert reader.page.locator(own_keys).count() == 0

    def test_a_curve_is_scrubbed_with_the_pointer(self, reader):
        chart = reader.page.get_by_role("img", name="Loss")
        box = chart.bounding_box()
        x = lambda step: box["x"] + (46 + step / 40 * 224) / 280 * box["width"]  # noqa: E731
        reader.page.mouse.move(x(8), box["y"] + 40)
        reader.page.mouse.down()
        reader.drawn()
        assert reader.state()["step"] == 10
        reader.page.mouse.move(x(29), box["y"] + 60, steps=3)
        reader.page.mouse.up()
        reader.drawn()
        assert reader.state()["step"] == 30

    def test_a_step_from_the_kernel_stands_for_the_record_before_it(self, reader):
        reader.set("step", 29)
        assert "training, step 20" in reader.page.locator("thead").first.inner_text()
        assert reader.slider("step").get_attribute("aria-valuetext") == "step 20 of 40"

    def test_answers_are_the_newest_beside_the_first(self, reader):
        reader.set("step", 30)
        head, answers = reader.page.evaluate(ANSWERS)
        assert head == ["answer at step 0", "answer at step 20"]
        assert answers == [
            f"the film at 0{NASTY}|log-ratio 0 nats · true reward −1.500",
            f"the film at 20{NASTY}|log-ratio 2.000 nats · true reward −1.500",
        ]
        reader.page.get_by_role("combobox", name="prompt").select_option("1")
        reader.drawn()
        assert reader.state()["prompt"] == 1
        assert reader.page.locator("[data-said=prompt]").text_content() == NASTY
        head, answers = reader.page.evaluate(ANSWERS)
        assert answers[1] == f"{NASTY} at 20{NASTY}|log-ratio 2.000 nats"

    def test_text_is_never_markup(self, reader):
        assert reader.page.locator(".dpo-explorer :is(img:not(svg), b, script)").count() == 0
        assert reader.page.evaluate("window.hurt") is None

    def test_a_sentence_reads_the_state_and_is_heard(self, reader):
        reader.set("step", 30)
        text = (
            "Margin 0.300: the mean force left is 51 % of that at step 1. Held out, chosen and "
            "rejected answers are both less likely than under the reference, and the rejected "
            "ones fell further (−0.300 and −0.900 nats). True reward rose by 1.000 since step 0 "
            "at a KL of 1.100 nats."
        )
        assert reading(reader) == text
        said = "document.querySelector('[role=status]').textContent.startsWith('Step 30. Margin')"
        reader.page.wait_for_function(said)

    @pytest.mark.parametrize("theme", ["light", "dark"])
    @pytest.mark.parametrize("width", [320, 390, 1280])
    def test_no_width_scrolls_sideways_and_targets_are_large(self, reader, width, theme):
        reader.page.set_viewport_size({"width": width, "height": 800})
        reader.page.evaluate(
            "(theme) => { document.documentElement.dataset.theme = theme; }", theme
        )
        assert reader.page.evaluate("document.documentElement.scrollWidth") <= width
        controls = reader.page.locator(".dpo-explorer :is(input, button, select)")
        boxes = [controls.nth(i).bounding_box() for i in range(controls.count())]
        assert len(boxes) == 3
        assert all(min(box["width"], box["height"]) >= 24 for box in boxes)
        if width < 600:  # the slider stays on the screen while the curves go by
            reader.page.evaluate("scrollTo(0, 600)")
            assert 700 < reader.slider("step").bounding_box()["y"] < 800
        reader.page.evaluate("scrollTo(0, 0)")


def test_what_is_not_finite_leaves_a_gap_and_is_said(chromium):
    broken = rows(loss=math.nan, **{"rewards/margins": math.inf, "grad_weight": -math.inf})
    broken[0]["gold/reward"] = broken[0]["kl/policy_error"] = math.nan
    with readers(chromium) as open_one:
        page = open_one(CurvesExplorer(broken, [SAMPLES[0] | {"logratio": math.nan}], step=20))
        assert "Not finite: loss at step 20, rewards/margins at step 20, " in reading(page)
        assert "infinity" not in page.page.evaluate("el.innerHTML").lower()
        lines = page.page.locator("svg .dpo-line")
        paths = [lines.nth(i).get_attribute("d") for i in range(lines.count())]
        assert not any("NaN" in path for path in paths)
        assert [path.count("M") for path in paths[:4]] == [1, 1, 2, 2]
        cells = page.page.evaluate(CELLS)
        assert (cells["training loss"], cells["training rewards/margins"]) == ("NaN", "∞")


def test_a_single_row_without_answers_is_enough(chromium):
    with readers(chromium) as open_one:
        page = open_one(CurvesExplorer([{"step": 7, "loss": 0.5}]))
        assert page.page.evaluate(MARKS) == {"Loss": [0.5]}
        assert page.page.get_by_role("combobox").count() == 0
        page.page.evaluate("cleanup()")
        assert page.page.evaluate("[model.listeners.length, el.childNodes.length]") == [0, 0]


class TestBuiltPage:
    def test_it_lives_in_chapter_07_fits_a_phone_and_is_small(
        self, chromium, built_site, site_addresses
    ):
        with chapters(chromium, built_site, site_addresses) as open_one:
            phone = {"viewport": {"width": 390, "height": 844}, "typeset": True}
            page = open_one("07_small_model", "CurvesExplorer", **phone)
            state = page.evaluate(STORED, "CurvesExplorer")
            assert stored_size(state) < 30_000
            for key, at in (("Home", 0), ("End", -1)):
                page.get_by_role("slider", name="step", exact=True).press(key)
                page.evaluate(DRAWN)
                assert_fits_a_phone(page, 390)
                cells = page.evaluate(CELLS)
                for kind, name in (("held out", "loss"), ("held out", "logratios/rejected")):
                    expected = state["held_out"][name][at]
                    assert float(cells[f"{kind} {name}"]) == pytest.approx(expected, abs=6e-4)
            assert float(cells["training loss"]) == pytest.approx(
                state["training"]["loss"][-1], abs=6e-4
            )
            assert page.locator("[data-reading]").text_content().startswith("Margin ")
