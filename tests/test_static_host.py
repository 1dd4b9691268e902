"""book/_static/anywidget-host.js, run as it is: what it promises explorers and readers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from conftest import ROOT

pytestmark = pytest.mark.browser

HOST = (ROOT / "book" / "_static" / "anywidget-host.js").read_text(encoding="utf-8")
MIME = "application/vnd.jupyter.widget-"

# A button that counts, and notes in `window.log` what the host calls.
COUNTER = """
(globalThis.log ??= []).push("imported");
export default () => ({
  async initialize({ model, signal }) {
    log.push(`initialized ${model.get("n")} ${signal.aborted}`);
    return () => log.push("closed model");
  },
  render({ model, el }) {
    const button = document.createElement("button");
    const draw = () => { button.textContent = model.get("label") + model.get("n"); };
    button.onclick = () => { model.set("n", model.get("n") + 1); model.save_changes(); };
    model.on("change:n", draw);
    draw();
    el.append(button);
    return () => log.push("closed view");
  },
});
"""


def stored(esm: str, **traits) -> dict:
    state = {"_esm": esm, "_css": "button { color: rgb(1, 2, 3) }", **traits}
    return {"model_module": "anywidget", "model_name": "AnyModel", "state": state}


@pytest.fixture
def page(chromium) -> Iterator[object]:
    page = chromium.new_page()
    yield page
    page.close()


def start(page, states: dict[str, dict], views: list[str]) -> None:
    """Open a page as Sphinx writes it: views where they belong, states and host behind them."""
    view = '<script type="{}view+json">{}</script>'
    shown = "".join(
        f'<div class="output">{view.format(MIME, json.dumps({"model_id": each}))}</div>'
        for each in views
    )
    kept = json.dumps({"state": states}).replace("</", "<\\/")
    page.set_content(
        f'<!DOCTYPE html><body>{shown}<script type="{MIME}state+json">{kept}</script>'
        f"<script>{HOST}</script></body>"
    )
    page.wait_for_function(
        "(n) => [...document.querySelectorAll('.output > div')]"
        ".filter((el) => el.childElementCount).length === n",
        arg=len(views),
    )


def test_an_explorer_lives_without_a_kernel(page):
    start(page, {"a": stored(COUNTER, n=41, label="n is ")}, ["a"])
    button = page.get_by_role("button")
    assert button.text_content() == "n is 41"
    button.click()
    assert button.text_content() == "n is 42"
    assert page.evaluate("log") == ["imported", "initialized 41 false"]
    assert button.evaluate("el => getComputedStyle(el).color") == "rgb(1, 2, 3)"


def test_two_views_of_one_model_move_together(page):
    start(page, {"a": stored(COUNTER, n=1, label="")}, ["a", "a"])
    first, second = page.get_by_role("button").all()
    first.click()
    assert [first.text_content(), second.text_content()] == ["2", "2"]
    assert page.evaluate("log") == ["imported", "initialized 1 false"]


def test_two_models_share_code_and_style_but_not_state(page):
    states = {"a": stored(COUNTER, n=1, label="a"), "b": stored(COUNTER, n=5, label="b")}
    start(page, states, ["a", "b"])
    page.get_by_role("button").first.click()
    assert page.get_by_role("button").all_text_contents() == ["a2", "b5"]
    assert page.evaluate("log").count("imported") == 1
    assert page.locator("style").count() == 1


def test_leaving_the_page_cleans_up_unless_it_is_only_put_aside(page):
    start(page, {"a": stored(COUNTER, n=1, label="")}, ["a"])
    leave = "(persisted) => dispatchEvent(new PageTransitionEvent('pagehide', { persisted }))"
    page.evaluate(leave, True)
    assert not [each for each in page.evaluate("log") if "closed" in each]
    page.evaluate(leave, False)
    assert sorted(page.evaluate("log")[-2:]) == ["closed model", "closed view"]


def test_the_model_tells_listeners_what_changed_and_only_that(page):
    esm = """
    export default { render({ model, el }) {
      const heard = [];
      const note = (_, value) => heard.push(`x=${value}`);
      const first = () => heard.push(`seen y=${model.get("y")}`);
      model.on("change:x", note);
      model.on("change:x", first);
      model.on("change", () => heard.push("change"));
      model.set("x", 1);
      model.set("x", 1);
      model.set({ x: 2, y: 7 });
      model.off("change:x", first);
      model.set("x", 3);
      model.off("change:x");
      model.set("x", 4);
      model.off();
      model.set("x", 5);
      el.append(Object.assign(document.createElement("p"), { textContent: heard.join(" ") }));
    } };
    """
    start(page, {"a": stored(esm, x=0, y=0)}, ["a"])
    assert page.locator(".output p").text_content() == (
        "x=1 seen y=0 change x=2 seen y=7 change x=3 change change"
    )


def test_text_of_the_state_stays_text(page):
    label = "<img src=x onerror='window.hacked = 1'></script><script>window.hacked = 2</script>"
    start(page, {"a": stored(COUNTER, n=0, label=label)}, ["a"])
    assert page.get_by_role("button").text_content() == label + "0"
    assert page.evaluate("window.hacked") is None


FAILURES = {
    "a throwing render": (
        stored("export default { render() { throw new Error('bars <b>fell</b> over'); } };"),
        "bars <b>fell</b> over",
    ),
    "a module that does not parse": (stored("export default {"), ""),
    "a module without a widget": (stored("export const x = 1;"), "exports nothing to render"),
    "a control of ipywidgets": (
        {"model_module": "@jupyter-widgets/controls", "state": {}},
        "needs a running kernel",
    ),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_is_a_sentence_in_the_page_and_harms_no_other(page, kind):
    broken, reason = FAILURES[kind]
    start(page, {"bad": broken, "good": stored(COUNTER, n=1, label="")}, ["bad", "good"])
    said = page.get_by_role("alert").text_content()
    assert said.startswith("This explorer could not start: ")
    assert reason in said
    assert page.get_by_role("button").text_content() == "1"


def test_a_view_without_its_state_says_so(page):
    start(page, {}, ["gone"])
    assert "state is not stored" in page.get_by_role("alert").text_content()


def test_the_host_stays_small():
    assert len(HOST.splitlines()) < 100
    assert "innerHTML" not in HOST
