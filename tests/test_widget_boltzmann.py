"""The Boltzmann explorer driven in Chromium as a reader would, its numbers against Python's."""

from __future__ import annotations

import math
import re
import statistics

import numpy as np
import pytest
import torch
from widget_page import open_explorer

from dpo_lab import boltzmann
from dpo_lab.errors import InputError
from dpo_lab.widgets import BoltzmannExplorer
from dpo_lab.worlds import t8

READ = """
() => {
  const root = document.querySelector(".dpo-explorer");
  const values = (selector) => [...root.querySelectorAll(selector)].map((node) => node.dataset);
  const bars = (series) => values(`rect[data-series=${series}]`).map((data) => Number(data.value));
  const [point] = values(".dpo-point");
  return {
    ref: bars("ref"),
    policy: bars("policy"),
    numbers: Object.fromEntries(
      values("[data-number]").map((data) => [data.number, Number(data.value)])),
    point: [Number(point.kl), Number(point.reward)],
  };
}
"""


def in_python(state: dict) -> dict:
    ref = torch.log_softmax(torch.tensor(state["ref_probs"], dtype=torch.float64).log(), -1)
    rewards = torch.tensor(state["rewards"], dtype=torch.float64)
    beta = float(state["beta"])
    policy = boltzmann.optimal_policy(ref, rewards, beta)
    log_z = boltzmann.log_partition(ref, rewards, beta)
    return {
        "ref": ref.exp().tolist(),
        "policy": policy.exp().tolist(),
        "reward": float(boltzmann.expected_reward(policy, rewards)),
        "kl": float(boltzmann.kl(policy, ref)),
        "logZ": float(log_z),
        "value": float(beta * log_z),
        "beta": beta,
        "entropy": float(boltzmann.entropy(policy)),
    }


def assert_shows(shown: dict, expected: dict) -> None:
    # V* = beta log Z carries beta times the rounding of log Z.
    near = {"rtol": 1e-10, "atol": 1e-14 * max(10.0, expected["beta"])}
    np.testing.assert_allclose(shown["ref"], expected["ref"], **near)
    np.testing.assert_allclose(shown["policy"], expected["policy"], **near)
    assert set(shown["numbers"]) == {"reward", "kl", "logZ", "value", "entropy"}
    for name, value in shown["numbers"].items():
        np.testing.assert_allclose(value, expected[name], err_msg=name, **near)
    np.testing.assert_allclose(shown["point"], [expected["kl"], expected["reward"]], **near)


class Reader:
    """One reader before one explorer: acts on the page, and reads state and numbers off it."""

    def __init__(self, page) -> None:
        self.page = page

    def slider(self, name: str):
        return self.page.get_by_role("slider", name=name, exact=True)

    @property
    def beta(self):
        return self.slider("beta, logarithmic")

    @property
    def box(self):
        return self.page.get_by_role("textbox", name="beta, exact value")

    def press(self, control, key: str, times: int = 1) -> None:
        control.focus()
        for _ in range(times):
            self.page.keyboard.press(key)
        self.drawn()

    def type_beta(self, text: str) -> None:
        self.box.fill(text)
        self.box.press("Enter")
        self.drawn()

    def drawn(self) -> None:
        self.page.evaluate("drawn()")

    def state(self) -> dict:
        return self.page.evaluate("model.state")

    def set(self, name: str, value) -> None:
        """A change that comes from the kernel."""
        self.page.evaluate("([name, value]) => model.set(name, value)", [name, value])
        self.drawn()

    def assert_agrees(self) -> dict:
        """The page shows Python's numbers for the model's state, which is returned."""
        state = self.state()
        assert_shows(self.page.evaluate(READ), in_python(state))
        return state


@pytest.fixture
def reader(chromium):
    """Opens explorers; at the end no page may have logged an error or asked for anything."""
    contexts, troubles = [], []

    def open_one(explorer=None, *, theme=None, **options) -> Reader:
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda r: r.url.startswith(("http", "file")) and troubles.append(r.url))
        open_explorer(page, explorer or BoltzmannExplorer(), theme=theme)
        return Reader(page)

    yield open_one
    for context in contexts:
        context.close()
    assert troubles == []


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

    @pytest.mark.parametrize(
        ("keys", "beta"),
        [(["ArrowLeft"] * 5, 0.794), (["ArrowRight"], 1.05), (["Home"], 0.01), (["End"], 100)],
    )
    def test_beta_moves_by_keyboard(self, reader, keys, beta):
        page = reader()
        for key in keys:
            page.press(page.beta, key)
        assert page.assert_agrees()["beta"] == beta
        assert page.beta.get_attribute("aria-valuetext") == f"beta {beta}"
        assert page.box.input_value() == str(beta)
        assert page.page.evaluate("model.saves") > 0

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

    @pytest.mark.parametrize(
        ("text", "beta"), [("0.37", 0.37), ("0,5", 0.5), ("1e-6", 1e-6), ("1000000", 1e6)]
    )
    def test_an_exact_beta_can_be_typed(self, reader, text, beta):
        page = reader()
        page.type_beta(text)
        assert page.assert_agrees()["beta"] == beta

    @pytest.mark.parametrize("text", ["0", "-1", "", "warm", "1e9", "Infinity", "NaN"])
    def test_a_wrong_beta_is_refused_in_words(self, reader, text):
        page = reader()
        page.type_beta(text)
        assert page.assert_agrees()["beta"] == 1
        assert page.box.get_attribute("aria-invalid") == "true"
        alert = page.page.get_by_role("alert").filter(has_text="β must lie between")
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
            shown = page.page.evaluate(READ)
            assert shown["ref"][7] == shown["policy"][7] == 0
        assert page.page.get_by_text("at 0 for every β: H.").is_visible()
        page.type_beta("1e-6")
        assert page.page.evaluate(READ)["policy"][4] == 1  # E is the best of the support

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
            ([1.0, 0.0], [0.0, 5.0]),
            ([1 / 12] * 12, list(range(12))),
        ],
        ids=["extreme", "equal rewards", "one answer", "twelve"],
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
                await new Promise((done) => request(() => request(done)));
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


def luminance(color: list[float]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: list[float], b: list[float]) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def rgb(text: str) -> list[float]:
    return [float(part) / 255 for part in re.findall(r"[\d.]+", text)[:3]]


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


@pytest.mark.browser
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
        ground = rgb(colors["ground"])
        assert (luminance(ground) < 0.1) is dark
        assert len(colors["texts"]) >= 3
        for text in colors["texts"]:
            assert contrast(rgb(text), ground) >= 4.5, text
        for shape in colors["shapes"]:
            assert contrast(rgb(shape), ground) >= 3, shape

    @pytest.mark.parametrize("width", [320, 360, 768, 1280])
    def test_no_width_scrolls_sideways_and_targets_are_large(self, reader, width):
        labels = ["a rather long answer that wraps", "Unbreakable" * 6, *"CDEFGH"]
        page = reader(
            BoltzmannExplorer(labels=labels),
            viewport={"width": width, "height": 800},
            has_touch=width < 500,
        )
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
