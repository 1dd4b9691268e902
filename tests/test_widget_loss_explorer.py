"""The loss explorer driven in Chromium as a reader would, its numbers against Python's."""

from __future__ import annotations

import math
import re
import statistics

import pytest
import torch
from loss_cases import TABLE_OF, spread
from widget_page import readers

from dpo_lab.errors import InputError
from dpo_lab.losses import LOSSES, PairLogps, compute_loss
from dpo_lab.widgets import LossExplorer
from dpo_lab.widgets.losses import catalogue

SIDES = [("chosen_kl", "rejected_kl"), ("chosen_weights", "rejected_weights")]
WITH_SETTINGS = [
    name
    for name in catalogue()
    if LOSSES[name].options or LOSSES[name].inputs or "lengths" in LOSSES[name].needs
]
REST = {"score_difference": 1.0, "chosen_weights": 1.0, "rejected_weights": 1.0, "phi": 1.0}


class TestPython:
    def test_the_default_is_dpo_at_its_own_beta(self):
        explorer = LossExplorer()
        assert (explorer.loss, explorer.beta, explorer.versus) == ("dpo", None, "")
        assert explorer.initial["point"] == [1.0, -1.0]

    def test_an_alias_is_resolved(self):
        assert LossExplorer("sigmoid", versus="ipo").loss == "dpo"
        assert LossExplorer("sigmoid", versus="ipo").versus == "ipo_avg"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"loss": "dpo2"}, "loss must be one of dpo, cdpo"),
            ({"loss": "aot"}, "loss 'aot' mixes the pairs of a batch"),
            ({"versus": "beta_dpo"}, "versus 'beta_dpo' mixes"),
            ({"beta": 0}, "beta must be finite and greater than 0"),
            ({"settings": {"tau": 1}}, "loss 'dpo' has no setting 'tau'; known: refChosen"),
            ({"settings": {"refChosen": math.nan}}, r"settings.refChosen\[0\] must be finite"),
            ({"settings": {"refChosen": 0.5}}, "refChosen is a log-probability"),
            ({"settings": {"chosenLength": 0}}, "chosenLength must be at least 1"),
            ({"loss": "cdpo", "settings": {"label_smoothing": 0.5}}, "label_smoothing must lie in"),
            ({"point": [1.0]}, "point must be two numbers, got 1"),
            ({"point": [1.0, math.inf]}, r"point\[1\] must be finite"),
            ({"win_probability": 1.1}, r"win_probability must lie in \[0, 1\]"),
        ],
    )
    def test_bad_input_is_named(self, arguments, message):
        with pytest.raises(InputError, match=message):
            LossExplorer(**arguments)

    def test_a_bad_assignment_is_refused_and_changes_nothing(self):
        explorer = LossExplorer()
        with pytest.raises(InputError, match="loss"):
            explorer.loss = "aot_unpaired"
        assert explorer.loss == "dpo"

    def test_the_catalogue_says_what_the_table_says(self):
        about = catalogue()
        assert list(about) == [n for n in LOSSES if n not in ("aot", "aot_unpaired", "beta_dpo")]
        assert about["dpo"] == {
            "group": "of the margin",
            "formula": "-log sigmoid(m), m = beta * (u_chosen - u_rejected)",
            "summary": "logistic loss on the difference of implicit rewards",
            "source": "Rafailov 2023, eq. 7",
            "address": "https://arxiv.org/abs/2305.18290",
            "needs": "a reference",
            "optimum": "m = logit(p)",
        }
        assert about["cdpo"]["address"] == "https://ericmitchell.ai/cdpo.pdf"
        assert about["cpo"]["needs"] == "log-probabilities of the policy alone"
        assert about["sigmoid_norm"]["needs"] == "a reference, lengths"
        assert about["odpo"]["needs"].endswith("score_difference (score of chosen minus that of "
                                               "rejected)")  # fmt: skip
        assert all(all(entry.values()) for entry in about.values())


@pytest.fixture
def reader(chromium):
    with readers(chromium) as open_one:
        yield lambda explorer=None, **options: open_one(explorer or LossExplorer(), **options)


@pytest.fixture(scope="class")
def shared(chromium):
    """One page for many tests, which begin with a reset."""
    with readers(chromium) as open_one:
        yield open_one(LossExplorer(versus="fdpo_forward_kl"))


def choose(page, loss: str) -> None:
    page.page.get_by_role("combobox", name="loss", exact=True).select_option(loss)
    page.drawn()


def numbers(page) -> dict[str, float]:
    return page.page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("[data-number]")]
          .map((cell) => [cell.dataset.number, Number(cell.dataset.value)]))"""
    )


def in_python(state: dict) -> dict[str, float]:
    """Loss and derivatives at the point for both labels, from compute_loss and autograd."""
    name, settings = state["loss"], state["settings"]
    spec = LOSSES[name]
    facts = {"refChosen": -20.0, "refRejected": -20.0, "chosenLength": 10, "rejectedLength": 10}
    facts |= settings
    u = torch.tensor(state["point"], dtype=torch.float64, requires_grad=True)
    refs = torch.tensor([facts["refChosen"], facts["refRejected"]], dtype=torch.float64)
    tokens = torch.tensor([facts["chosenLength"], facts["rejectedLength"]]).long()
    options = {key: float(value) for key, value in settings.items() if key in spec.options}
    inputs = {
        key: torch.tensor([settings.get(key, REST.get(key, 0.0))], dtype=torch.float64)
        for key in spec.inputs
        if key not in TABLE_OF
    }
    swapped = dict(inputs)
    for one, other in SIDES:
        if one in inputs:
            swapped[one], swapped[other] = inputs[other], inputs[one]
    found = {}
    for label, order, given in (("one", [0, 1], inputs), ("two", [1, 0], swapped)):
        policy, ref, length = (x[order] for x in (refs + u, refs, tokens))
        logps = PairLogps(
            *(policy[[i]] for i in (0, 1)), *(ref[[i]] for i in (0, 1)),
            *(length[[i]] for i in (0, 1)),
        )  # fmt: skip
        tables = {key: spread(logps, TABLE_OF[key]) for key in spec.inputs if key in TABLE_OF}
        loss = compute_loss(name, logps, state["beta"], inputs=given | tables, **options).losses[0]
        (slope,) = torch.autograd.grad(loss, u)
        values = [loss.item(), *slope.tolist()]
        found |= {f"{label}-{kind}": v for kind, v in zip(("loss", "da", "db"), values)}  # noqa: B905
    p = state["win_probability"]
    for kind in ("loss", "da", "db"):
        found[f"mean-{kind}"] = p * found[f"one-{kind}"] + (1 - p) * found[f"two-{kind}"]
    return found


def assert_agrees(page) -> dict:
    state = page.state()
    expected = in_python(state)
    shown = numbers(page)
    assert set(shown) == set(expected)
    for name, value in expected.items():
        assert shown[name] == pytest.approx(value, rel=1e-10, abs=1e-13), (state["loss"], name)
    return state


@pytest.fixture(autouse=True)
def double():
    """Python turns an option times a length into the default dtype before it meets a log-prob."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.browser
class TestNumbers:
    def test_every_loss_shows_pythons_numbers_and_its_words(self, reader):
        page = reader()
        about = catalogue()
        for name in about:
            choose(page, name)
            state = assert_agrees(page)
            assert (state["loss"], state["beta"]) == (name, None)
            assert page.box.input_value() == f"{LOSSES[name].beta:g}"
            card = page.page.locator(".dpo-card").first.inner_text()
            assert about[name]["formula"] in card
            assert about[name]["summary"] in card
            link = page.page.locator(".dpo-card a")
            assert link.get_attribute("href") == about[name]["address"]
            drawing = page.page.evaluate("el.innerHTML")
            assert not re.search(r"NaN|Infinity|undefined", drawing), name

    @pytest.mark.parametrize("name", WITH_SETTINGS)
    def test_each_setting_of_a_loss_moves_by_keyboard(self, shared, name):
        page = shared
        page.page.get_by_role("button", name="Reset").click()
        choose(page, name)
        spec = LOSSES[name]
        own = [*spec.options, *(key for key in spec.inputs if key not in TABLE_OF)]
        lengths = ["tokens of y₁", "tokens of y₂"] if "lengths" in spec.needs else []
        for label in [*own, *lengths]:
            page.press(page.slider(label), "ArrowRight", 3)
            assert_agrees(page)
        facts = ["chosenLength", "rejectedLength"] if lengths else []
        assert list(page.state()["settings"]) == [*own, *facts]

    def test_the_point_and_p_move_by_keyboard(self, reader):
        page = reader(LossExplorer("nca_pair", beta=0.2))
        page.press(page.slider("log-ratio u₁"), "ArrowRight", 4)
        page.press(page.slider("log-ratio u₂"), "ArrowLeft", 2)
        page.press(page.slider("P(y₁ wins) = p"), "ArrowLeft", 10)
        state = assert_agrees(page)
        assert state["win_probability"] == pytest.approx(0.7)
        assert state["point"][0] > 1
        assert state["point"][1] < -1

    def test_dragging_the_chart_moves_the_difference_and_keeps_the_mean(self, reader):
        page = reader(LossExplorer(point=[3.0, 1.0]))
        box = page.page.get_by_role("img", name="Loss", exact=True).bounding_box()
        x = box["x"] + box["width"] * (50 + 0.75 * (312 - 50)) / 320
        y = box["y"] + box["height"] / 2
        page.page.mouse.move(x - 60, y)
        page.page.mouse.down()
        page.page.mouse.move(x, y, steps=6)
        page.page.mouse.up()
        page.drawn()
        state = assert_agrees(page)
        assert sum(state["point"]) == pytest.approx(4)
        assert state["point"][0] - state["point"][1] == pytest.approx(30, abs=0.5)  # of 60 nats

    def test_the_lowest_point_of_the_mean_is_named(self, reader):
        page = reader(LossExplorer("dpo", beta=0.1))
        lowest = page.page.locator(".dpo-lowest")
        assert float(lowest.get_attribute("data-value")) == pytest.approx(math.log(4) / 0.1)
        assert "u₁ − u₂ = 13.863 nats, times β 1.386" in lowest.inner_text()
        page.press(page.slider("P(y₁ wins) = p"), "End")
        assert "No lowest point" in lowest.inner_text()
        choose(page, "cdpo")  # with a label that never varies: log((1 - e) / e)
        assert float(lowest.get_attribute("data-value")) == pytest.approx(math.log(9) / 0.1)

    def test_a_new_loss_brings_its_beta_and_keeps_the_pair(self, reader):
        page = reader(LossExplorer("simpo"))
        page.press(page.slider("tokens of y₁"), "ArrowRight", 2)
        page.press(page.slider("gamma_beta_ratio"), "ArrowRight", 2)
        page.type_beta("3")
        choose(page, "alphapo")
        state = assert_agrees(page)
        assert state["settings"] == {"chosenLength": 12}
        assert state["beta"] is None
        page.page.get_by_role("button", name="Reset").click()
        page.drawn()
        assert assert_agrees(page)["loss"] == "simpo"
        assert page.state()["settings"] == {}

    def test_without_a_reference_no_probability_passes_one(self, reader):
        page = reader(LossExplorer("cpo", point=[50.0, -1.0]))
        shown = numbers(page)
        # u1 stops where log pi(y1) = 0: u1 = 20 = -log pi_ref.
        expected = in_python(page.state() | {"point": [20.0, -1.0]})
        assert shown["one-loss"] == pytest.approx(expected["one-loss"], rel=1e-10)


CURVES = """() => Object.fromEntries([...document.querySelectorAll("polyline")].map((line) =>
  [line.getAttribute("class"), (line.getAttribute("points") || "").split(" ").length]))"""


# Script, style and layout of 100 redraws, alternately of two traits.
TIMES = """async ([first, second]) => {
  const request = window.requestAnimationFrame;
  const times = [];
  window.requestAnimationFrame = (draw) => request((now) => {
    const start = performance.now();
    draw(now);
    el.getBoundingClientRect();
    times.push(performance.now() - start);
  });
  for (let i = 0; i < 100; i += 1) {
    if (i % 2) model.set(first, 0.05 + i / 100);
    else model.set(second, [Math.sin(i), Math.cos(i)]);
    await new Promise((done) => request(done));
  }
  window.requestAnimationFrame = request;
  return times;
}"""


@pytest.mark.browser
class TestPictures:
    def test_two_losses_are_drawn_beside_each_other(self, reader):
        page = reader()
        other = page.page.get_by_role("combobox", name="compare with")
        assert page.page.evaluate(CURVES)["dpo-line dpo-versus"] == 1
        other.select_option("ipo_sum")
        page.drawn()
        drawn = page.page.evaluate(CURVES)
        assert set(drawn.values()) == {161}
        # At beta = .1 over 60 nats IPO reaches 65^2 and DPO's mean 6: the legend names the factor.
        legends = page.page.locator(".dpo-legend").all_inner_texts()
        assert legends[0].endswith("ipo_sum × 0.001")
        assert legends[1].endswith("ipo_sum × 0.0008")
        other.select_option("cdpo")
        page.drawn()
        assert page.page.locator(".dpo-legend").first.inner_text().endswith("cdpo")
        other.select_option("ipo_sum")
        page.drawn()
        assert page.state()["versus"] == "ipo_sum"
        assert_agrees(page)

    def test_the_dots_lie_on_their_curves(self, reader):
        page = reader(LossExplorer("nca_pair", beta=0.1, point=[12.0, -3.0]))
        gaps = page.page.evaluate(
            """() => [[0, "mean"], [1, "up"], [1, "down"]].map(([chart, name], i) => {
              const picture = document.querySelectorAll("svg.dpo-picture")[chart];
              const inner = picture.querySelector("svg");
              const dot = picture.querySelectorAll("circle")[Math.max(0, i - 1)];
              const [left, top] = ["x", "y"].map((side) => Number(inner.getAttribute(side)));
              const [cx, cy] = ["cx", "cy"].map((side) => Number(dot.getAttribute(side)));
              const points = picture.querySelector(`.dpo-${name}`).getAttribute("points")
                .split(" ").map((each) => each.split(",").map(Number));
              const next = points.findIndex(([x]) => x + left >= cx);
              const [[x0, y0], [x1, y1]] = points.slice(next - 1, next + 1);
              const y = y0 + ((cx - left - x0) / (x1 - x0)) * (y1 - y0);
              return Math.abs(y + top - cy);
            })"""
        )
        assert max(gaps) < 0.1

    def test_a_redraw_fits_into_a_frame(self, reader):
        page = reader(LossExplorer("nca_pair", versus="fdpo_js"))
        times = page.page.evaluate(TIMES, ["beta", "point"])
        assert len(times) == 100
        assert statistics.median(times) < 16
        assert_agrees(page)

    def test_a_screen_reader_hears_numbers(self, reader):
        page = reader()
        page.press(page.slider("log-ratio u₁"), "ArrowRight")
        page.page.wait_for_function("document.querySelector('[role=status]').textContent")
        heard = page.page.locator("[role=status]").text_content()
        assert re.match(r"dpo, beta 0\.1, at u₁ − u₂ = \d\.\d+: loss 0\.\d+, force", heard)

    @pytest.mark.parametrize("theme", ["light", "dark"])
    @pytest.mark.parametrize("width", [320, 390, 1280])
    def test_no_width_scrolls_sideways_and_targets_are_large(self, shared, width, theme):
        page = shared
        choose(page, "rainbowpo")
        page.look_like(theme, width)
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width
        sizes = page.page.evaluate(
            """() => [...document.querySelectorAll("input, button, select")].map((node) => {
              const box = node.getBoundingClientRect();
              return [Math.min(box.width, box.height), box.left, box.right];
            })"""
        )
        assert len(sizes) == 15
        for size, left, right in sizes:
            assert size >= 24
            assert 0 <= left < right <= width

    def test_cleaning_up_leaves_nothing_behind(self, reader):
        page = reader()
        page.page.evaluate("cleanup()")
        left = page.page.evaluate("[model.listeners.length, el.childNodes.length]")
        assert left == [0, 0]
