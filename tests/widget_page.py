"""Explorers in a bare page in Chromium, with a reader who acts on them and checks their numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from anywidget import AnyWidget

from dpo_lab import boltzmann
from dpo_lab.widgets._bundle import STATIC, bundle

if TYPE_CHECKING:  # playwright may be absent: then the tests that need it are skipped
    from playwright.sync_api import Browser, Page

_HOST = """
class Model {
  constructor(state) { this.state = state; this.listeners = []; this.saves = 0; }
  get(name) { return this.state[name]; }
  set(name, value) {
    if (this.state[name] === value) return;
    this.state[name] = value;
    for (const [event, listener] of [...this.listeners])
      if (event === `change:${name}`) listener();
  }
  save_changes() { this.saves += 1; }
  on(event, listener) { this.listeners.push([event, listener]); }
  off(event, listener) {
    this.listeners = this.listeners.filter(([e, l]) => e !== event || l !== listener);
  }
}
window.importText = (text) =>
  import(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
window.start = async (esm, state) => {
  const widget = (await importText(esm)).default;
  window.model = new Model(state);
  window.el = document.getElementById("here");
  window.cleanup = await widget.render({ model: window.model, el: window.el });
};
// Two frames later every redraw that was asked for before has happened.
window.drawn = () =>
  new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
"""


def open_page(page: Page, css: str = "", *, theme: str | None = None) -> None:
    """Fill `page` with the host; `theme` is what the book writes on its <html>."""
    attribute = f' data-theme="{theme}"' if theme else ""
    page.set_content(
        f'<!DOCTYPE html><html lang="en"{attribute}><head><meta charset="utf-8"><title>x</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>body {{ margin: 16px; font-family: sans-serif }} {css}</style>"
        f'<script>{_HOST}</script></head><body><div id="here"></div></body></html>'
    )


def open_explorer(page: Page, explorer: AnyWidget, *, theme: str | None = None) -> None:
    """Show `explorer` on `page`, with the state that Python would send, and draw it."""
    open_page(page, explorer._css, theme=theme)
    own = set(explorer.trait_names(sync=True)) - set(AnyWidget.class_trait_names(sync=True))
    state = explorer.get_state([name for name in own if not name.startswith("_")])
    page.evaluate("([esm, state]) => start(esm, state)", [explorer._esm, state])


def open_modules(page: Page, folder: Path, modules: dict[str, str]) -> None:
    """Put exports of the explorers' modules, {file: "names"}, on `page` as `window.tested`."""
    for module in STATIC.glob("*.js"):
        shutil.copy(module, folder)
    lines = [f'import {{ {names} }} from "./{file}";' for file, names in modules.items()]
    lines.append(f"export default {{ {', '.join(modules.values())} }};")
    (folder / "entry.js").write_text("\n".join(lines), encoding="utf-8")
    open_page(page)
    text = bundle("entry.js", folder)
    page.evaluate("async (text) => { window.tested = (await importText(text)).default; }", text)


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

    def __init__(self, page: Page) -> None:
        self.page = page

    def slider(self, name: str):
        return self.page.get_by_role("slider", name=name, exact=True)

    @property
    def beta(self):
        return self.slider("beta, logarithmic")

    @property
    def box(self):
        return self.page.get_by_role("textbox", name="beta, exact value")

    def look_like(self, theme: str, width: int, height: int = 800) -> None:
        """Turn the open page to one of the book's themes and to a window of this size."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.evaluate("(theme) => { document.documentElement.dataset.theme = theme; }", theme)
        self.drawn()

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

    def shown(self) -> dict:
        """The bars, numbers and point on the page, at full precision."""
        return self.page.evaluate(READ)

    def assert_agrees(self) -> dict:
        """The page shows Python's numbers for the model's state, which is returned."""
        state = self.state()
        assert_shows(self.shown(), in_python(state))
        return state


@contextmanager
def readers(chromium: Browser) -> Iterator[Callable[..., Reader]]:
    """Opens explorers; at the end no page may have logged anything or asked for a file."""
    contexts, troubles = [], []

    def open_one(explorer, *, theme=None, **options) -> Reader:
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda r: r.url.startswith(("http", "file")) and troubles.append(r.url))
        open_explorer(page, explorer, theme=theme)
        return Reader(page)

    yield open_one
    for context in contexts:
        context.close()
    assert troubles == []


DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
STORED = """(name) => Object.values(
  JSON.parse(document.querySelector("script[type*='widget-state+json']").textContent).state)
  .map((each) => each.state).find((state) => (state._anywidget_id ?? "").endsWith(`.${name}`))"""


@contextmanager
def chapters(chromium: Browser, built_site: Path, addresses: dict[str, str]) -> Iterator[Callable]:
    """Opens pages of the built book; at the end none may have logged an error.

    Formulas take most of a page's time: they stay as they are written unless `typeset` is asked
    for. A page without the explorer, from before its chapter had one, skips the test.
    """
    contexts, troubles = [], []

    def open_one(
        name: str, explorer: str, hash_: str = "", *, kind="http", typeset=False, **options
    ) -> Page:
        file = built_site / "notebooks" / f"{name}.html"
        if not file.is_file() or explorer not in file.read_text(encoding="utf-8"):
            pytest.skip(f"the built site has no {explorer} in {name}")
        context = chromium.new_context(**options)
        contexts.append(context)
        if not typeset:
            context.route("**/mathjax/**", lambda r: r.fulfill(content_type="text/javascript"))
        page = context.new_page()
        page.on("console", lambda m: m.type == "error" and troubles.append(m.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        address = f"{addresses[kind]}notebooks/{file.name}{hash_}"
        page.goto(address, wait_until="load" if typeset else "commit")
        page.wait_for_selector(".dpo-explorer")
        if typeset:
            page.evaluate("MathJax.startup.promise.then(() => null)")
        page.evaluate(DRAWN)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert troubles == []


def stored_size(state: dict) -> int:
    """Bytes of an explorer's own stored state, without its code and style."""
    own = {name: value for name, value in state.items() if not name.startswith("_")}
    return len(json.dumps(own, ensure_ascii=False).encode())


def assert_fits_a_phone(page: Page, width: int) -> None:
    """Neither the page nor anything inside its explorer is wider than the window."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    overflow = "(node) => node.scrollWidth - node.clientWidth"
    assert page.locator(".dpo-explorer").first.evaluate(overflow) <= 0
