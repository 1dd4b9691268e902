"""A bare page that runs one explorer in Chromium: the smallest host of the anywidget contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anywidget import AnyWidget

if TYPE_CHECKING:  # playwright may be absent: then the tests that need it are skipped
    from playwright.sync_api import Page

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
