"""The Boltzmann explorer driven in Chromium as a reader would, its numbers against Python's."""

from __future__ import annotations

import math
import re
import statistics

import numpy as np
import pytest
import torch
from widget_page import in_python, readers

from dpo_lab.errors import InputError
from dpo_lab.widgets import BoltzmannExplorer
from dpo_lab.worlds import t8


@pytest.fixture
def reader(chromium):
    with readers(chromium) as open_one:
        yield lambda explorer=None, **options: open_one(explorer or BoltzmannExplorer(), **options)


class TestPython:
    def test_the_default_is_the_testbed(self):
        explorer = BoltzmannExplorer()
        world = t8()
        assert explorer.rewards == world.rewards.tolist()
        assert explorer.ref_probs == world.ref_logps.exp().tolist()
        assert explorer.labels == list(world.names)
        assert explorer.beta == 1.0

    def test_arrays_and_tensors_are_taken(self):
        explorer = BoltzmannExplorer(torch.tensor([3.0, 1.0]), np.array([0, 2]), beta=2)
        assert (explorer.ref_probs, explorer.rewards) == ([3.0, 1.0], [0.0, 2.0])
        explorer.rewards = torch.tensor([1.0, 0.0])
        assert explorer.get_state(["rewards"]) == {"rewards": [1.0, 0.0]}
        assert explorer.initial == {"beta": 2.0, "rewards": [0.0, 2.0], "ref_probs": [3.0, 1.0]}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"beta": 0}, "beta must be finite and greater than 0"),
            ({"beta": -1.0}, "beta must be finite and greater than 0"),
            ({"beta": math.nan}, "beta"),
            ({"beta": math.inf}, "beta"),
            ({"beta": "warm"}, "beta must be made of numbers"),
            ({"rewards": [0, 1, math.nan]}, r"rewards\[2\] must be finite"),
            ({"rewards": [0, 1, math.inf]}, r"rewards\[2\] must be finite"),
            ({"rewards": [0, 1]}, "rewards has 2 entries, but the explorer has 3 answers"),
            ({"rewards": 3.0}, "rewards must be made of numbers"),
            ({"ref_probs": [0.5, -0.1, 0.6]}, r"ref_probs\[1\] must be at least 0"),
            ({"ref_probs": [0, 0, 0]}, "ref_probs must have a positive, finite sum"),
            ({"ref_probs": [1.0]}, "ref_probs must have 2 to 12 entries, got 1"),
            ({"ref_probs": [1.0] * 13}, "ref_probs must have 2 to 12 entries, got 13"),
            ({"labels": ["a", "b"]}, "labels has 2 entries"),
            ({"labels": ["a", " ", "c"]}, r"labels\[1\]"),
            ({"labels": ["a", "b", 3]}, r"labels\[2\]"),
        ],
    )
    def test_bad_input_is_named(self, arguments, message):
        good = {"ref_probs": [0.2, 0.3, 0.5], "rewards": [0, 1, 2]}
        with pytest.raises(InputError, match=message):
            BoltzmannExplorer(**good | arguments)

    def test_a_bad_assignment_is_refused_and_changes_nothing(self):
        explorer = BoltzmannExplorer([0.5, 0.5], [0, 1])
        for name, value in [
            ("beta", -1),
            ("rewards", [1]),
            ("ref_probs", [0, 0]),
            ("labels", ["x"]),
        ]:
            before = getattr(explorer, name)
            with pytest.raises(InputError, match=name):
                setattr(explorer, name, value)
            assert getattr(explorer, name) == before


@pytest.mark.browser
class TestNumbers:
    def test_the_first_picture_is_pythons(self, reader):
        reader().assert_agrees()

    def test_beta_moves_by_keyboard(self, reader):
        page = reader()
        steps = [
            ("ArrowRight", 1, 1.05),
            ("ArrowLeft", 6, 0.794),
            ("Home", 1, 0.01),
            ("End", 1, 100),
        ]
        for key, times, beta in steps:
            page.press(page.beta, key, times)
            assert page.assert_agrees()["beta"] == beta
            assert page.beta.get_attribute("aria-valuetext") == f"beta {beta}"
            assert page.box.input_value() == str(beta)
        assert page.page.evaluate("model.saves") == 9

    def test_beta_moves_by_mouse_drag(self, reader):
        page = reader()
        box = page.beta.bounding_box()
        middle, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.page.mouse.move(middle, y)
        page.page.mouse.down()
        page.page.mouse.move(middle - box["width"] / 4, y, steps=12)
        page.page.mouse.up()
        page.drawn()
        assert page.assert_agrees()["beta"] == pytest.approx(0.1, rel=0.15)

    def test_beta_moves_by_touch(self, reader):
        page = reader(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
        box = page.beta.bounding_box()
        # At the upper edge of the control: the whole height must be a target, not only the thumb.
        page.page.touchscreen.tap(box["x"] + 0.75 * box["width"], box["y"] + 3)
        page.drawn()
        assert page.assert_agrees()["beta"] == pytest.approx(10, rel=0.3)

    def test_an_exact_beta_can_be_typed(self, reader):
        page = reader()
        for text, beta in [("0.37", 0.37), ("0,5", 0.5), ("1e-6", 1e-6), ("1000000", 1e6)]:
            page.type_beta(text)
            assert page.assert_agrees()["beta"] == beta

    def test_a_wrong_beta_is_refused_in_words(self, reader):
        page = reader()
        alert = page.page.get_by_role("alert").filter(has_text="β must lie between")
        for text in ["0", "-1", "", "warm", "1e9", "Infinity", "NaN"]:
            page.type_beta(text)
            assert page.assert_agrees()["beta"] == 1
            assert page.box.get_attribute("aria-invalid") == "true"
            assert alert.is_visible()
            page.box.press("Escape")
            assert page.box.input_value() == "1"
            assert page.box.get_attribute("aria-invalid") == "false"
            assert alert.count() == 0

    def test_a_reward_and_a_weight_move(self, reader):
        page = reader()
        page.press(page.slider("reward of C"), "ArrowRight", 3)
        page.press(page.slider("reference weight of H"), "ArrowRight", 8)
        state = page.assert_agrees()
        assert state["rewards"][2] == pytest.approx(-0.7)
        assert state["ref_probs"][7] == pytest.approx(0.10)
        assert page.page.get_by_text("The weights sum to 1.08").is_visible()

    def test_zero_weight_means_zero_for_every_beta(self, reader):
        page = reader()
        page.press(page.slider("reference weight of H"), "Home")  # H has the best reward
        for beta in ("1e-6", "0.1", "1", "1e6"):
            page.type_beta(beta)
            page.assert_agrees()
            shown = page.shown()
            assert shown["ref"][7] == shown["policy"][7] == 0
        assert page.page.get_by_text("at 0 for every β: H.").is_visible()
        page.type_beta("1e-6")
        assert page.shown()["policy"][4] == 1  # E is the best of the support

    def test_the_last_positive_weight_stays(self, reader):
        page = reader(BoltzmannExplorer([0.4, 0.6], [0, 1]))
        page.press(page.slider("reference weight of A"), "Home")
        page.press(page.slider("reference weight of B"), "Home")
        assert page.assert_agrees()["ref_probs"] == [0, 0.6]
        assert float(page.slider("reference weight of B").input_value()) == 0.6
        assert page.page.get_by_role("alert").filter(has_text="must keep a positive").is_visible()

    def test_reset_brings_back_the_world_it_was_made_with(self, reader):
        page = reader(BoltzmannExplorer([1, 2, 3], [0, 1, -1], beta=0.3))
        before = page.state()
        page.press(page.beta, "End")
        page.press(page.slider("reward of B"), "Home")
        page.press(page.slider("reference weight of A"), "Home")
        assert page.state() != before
        page.page.get_by_role("button", name="Reset").click()
        page.drawn()
        assert page.assert_agrees() == before

    @pytest.mark.parametrize(
        ("weights", "rewards"),
        [
            ([1.0, 1e-300], [-1e4, 1e4]),
            ([0.5, 0.5], [7.0, 7.0]),
            ([1 / 8] * 8, [4.0] * 8),
            ([1 / 7] * 7, [-3.3] * 7),
            ([1.0, 0.0], [0.0, 5.0]),
            ([1 / 12] * 12, list(range(12))),
        ],
        ids=["extreme", "equal", "equal but for rounding", "below 0", "one answer", "twelve"],
    )
    def test_odd_worlds_are_drawn(self, reader, weights, rewards):
        page = reader(BoltzmannExplorer(weights, rewards))
        for beta in ("1e-6", "1", "1e6"):
            page.type_beta(beta)
            page.assert_agrees()
            drawing = page.page.evaluate("document.querySelector('.dpo-charts').outerHTML")
            assert not re.search(r"NaN|Infinity|undefined", drawing)


@pytest.mark.browser
class TestFrontier:
    def test_point_and_tangent_lie_where_the_numbers_say(self, reader):
        page = reader()
        page.type_beta("0.6")
        state = page.state()
        expected = in_python(state)
        drawn = page.page.evaluate(
            """() => {
              const number = (node, names) => names.map((name) => Number(node.getAttribute(name)));
              const find = (name) => document.querySelector(`.dpo-picture .dpo-${name}`);
              const ends = [...document.querySelectorAll(".dpo-picture .dpo-limit")];
              return {
                ends: ends.map((end) => number(end, ["cx", "cy", "data-kl", "data-reward"])),
                point: number(find("point"), ["cx", "cy"]),
                line: number(find("tangent"), ["x1", "y1", "x2", "y2"]),
                curve: find("curve").getAttribute("points").split(" ")
                  .map((pair) => pair.split(",").map(Number)),
              };
            }"""
        )
        (x0, y0, kl0, r0), (x1, y1, kl1, r1) = drawn["ends"]
        mean = float(np.dot(state["ref_probs"], state["rewards"]))
        np.testing.assert_allclose([kl0, r0, kl1, r1], [0, mean, -math.log(0.02), 3], atol=1e-12)
        # The two limits fix the scales; everything else must fit them.
        place = lambda kl, r: (  # noqa: E731
            x0 + (x1 - x0) * kl / kl1,
            y0 + (y1 - y0) * (r - r0) / (r1 - r0),
        )
        near = {"atol": 1e-9}
        np.testing.assert_allclose(
            drawn["point"], place(expected["kl"], expected["reward"]), **near
        )
        np.testing.assert_allclose(drawn["line"][:2], place(0, expected["value"]), **near)
        far_kl = (drawn["line"][2] - x0) / (x1 - x0) * kl1
        far = place(far_kl, expected["value"] + state["beta"] * far_kl)
        np.testing.assert_allclose(drawn["line"][2:], far, **near)
        # The curve is on or under its tangent (larger y is lower) and runs from end to end.
        height = np.interp([p[0] for p in drawn["curve"]], drawn["line"][::2], drawn["line"][1::2])
        inside = [p[0] <= drawn["line"][2] for p in drawn["curve"]]
        assert (np.array([p[1] for p in drawn["curve"]]) - height)[inside].min() > -1e-9
        assert drawn["curve"][0] == pytest.approx([x0, y0])
        assert drawn["curve"][-1] == pytest.approx([x1, y1])


@pytest.mark.browser
class TestHost:
    def test_changes_from_the_kernel_are_drawn(self, reader):
        page = reader()
        page.set("beta", 0.2)
        page.set("rewards", [3.0, 0, 0, 0, 0, 0, 0, -2.0])
        page.set("ref_probs", [1.0, 0, 2.0, 3.0, 0, 1.0, 1.0, 1.0])
        page.set("labels", [f"new {i}" for i in range(8)])
        assert page.assert_agrees()["beta"] == 0.2
        assert page.slider("reward of new 7").get_attribute("aria-valuetext") == "−2"

    def test_cleaning_up_leaves_nothing_behind(self, reader):
        page = reader()
        assert page.page.evaluate("model.listeners.length") == 4
        saves = page.page.evaluate(
            """async () => {
              const input = document.querySelector("input[type=range]");
              model.set("beta", 2);  // asks for a redraw that must not come any more
              cleanup();
              const before = model.saves;
              model.set("beta", 3);
              input.value = 0.5;
              input.dispatchEvent(new Event("input"));
              await drawn();
              return model.saves - before;
            }"""
        )
        assert saves == 0
        assert page.page.evaluate("model.listeners.length") == 0
        assert page.page.evaluate("el.childNodes.length") == 0

    def test_labels_stay_text(self, reader):
        evil = "<img src=x onerror='window.hacked = 1'>"
        page = reader(BoltzmannExplorer([0.5, 0.5], [0, 1], labels=[evil, "<b>B</b> & 'c'"]))
        assert page.page.evaluate("[document.images.length, window.hacked ?? null]") == [0, None]
        assert page.page.get_by_text(evil, exact=True).first.is_visible()
        assert page.slider(f"reward of {evil}").count() == 1

    def test_a_redraw_fits_into_a_frame(self, reader):
        """Script, style and layout of 200 redraws, alternately of beta and of a whole world."""
        page = reader()
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
              for (let i = 0; i < 200; i += 1) {
                if (i % 2) model.set("beta", 10 ** (i / 50 - 2));
                else model.set("rewards", model.get("rewards").map((_, k) => Math.sin(i + k)));
                await new Promise((done) => request(done));  // after the redraw of this frame
              }
              window.requestAnimationFrame = request;
              return times;
            }"""
        )
        assert len(times) == 200
        assert statistics.median(times) < 16
        page.assert_agrees()

    def test_many_moves_in_one_frame_are_drawn_once(self, reader):
        page = reader()
        draws = page.page.evaluate(
            """async () => {
              const title = document.querySelector("[data-number=kl]");
              let changes = 0;
              const watch = new MutationObserver((list) => { changes += 1; });
              watch.observe(title, { attributes: true });
              for (let i = 1; i <= 30; i += 1) model.set("beta", i);
              await drawn();
              watch.disconnect();
              return changes;
            }"""
        )
        assert draws == 1
        page.assert_agrees()
