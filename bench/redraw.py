"""How long an explorer takes to redraw in Chromium after its first slider was moved.

    python bench/redraw.py [--output FILE.json]

Counted is the page's own work: the slider's event, every animation frame that follows, and layout.
"""

from __future__ import annotations

import shutil
import statistics
import sys
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

# The page on which the tests show an explorer.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from widget_page import open_explorer

from dpo_lab import widgets
from dpo_lab.bench.tables import Table, publish

EXPLORERS = ("BoltzmannExplorer", "LossExplorer", "BetaExplorer", "Playground")
MOVES, FRAME = 60, 1000 / 60
WORK = """
async (moves) => {
  const slider = document.querySelector("input[type=range]");
  const real = window.requestAnimationFrame;
  let spent = 0;
  const timed = (run) => {
    const begin = performance.now();
    run();
    spent += performance.now() - begin;
  };
  window.requestAnimationFrame = (callback) => real((now) => timed(() => {
    callback(now);
    document.body.getBoundingClientRect();
  }));
  const step = Number(slider.step) || 1, middle = Number(slider.value), times = [];
  for (let i = 0; i < moves; i++) {
    spent = 0;
    slider.value = String(middle + step * (i % 2 ? 1 : -1));
    timed(() => slider.dispatchEvent(new Event("input", { bubbles: true })));
    await new Promise((done) => real(() => real(() => real(done))));
    times.push(spent);
  }
  return times;
}
"""


def redraw(browser: Browser, name: str) -> list[float]:
    """Milliseconds of work after each move."""
    page = browser.new_page()
    open_explorer(page, getattr(widgets, name)())
    times = page.evaluate(WORK, MOVES)
    page.close()
    return times[10:]


def main() -> None:
    """One explorer after the other."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    rows = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name in EXPLORERS:
            times = redraw(browser, name)
            worst, median = max(times), statistics.median(times)
            rows.append((name, f"{median:.1f}", f"{worst:.1f}", f"{median / FRAME:.0%}"))
        browser.close()
    note = f"{MOVES - 10} moves of the first slider; a frame at 60 Hz has {FRAME:.1f} ms."
    publish(Table(("explorer", "median ms", "worst ms", "of a frame"), rows, note))


if __name__ == "__main__":
    main()
