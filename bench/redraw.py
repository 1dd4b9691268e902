"""How long an explorer holds the page in Chromium after its first slider was moved.

    python bench/redraw.py [--output FILE.json]

Counted is the page's own work: the slider's event, and the animation frames that follow, each with
its layout. Of a move the longest of these counts: that is what delays the next frame. An explorer
that computes on for many frames (BetaExplorer) does so in slices.
"""

from __future__ import annotations

import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

# The page on which the tests show an explorer.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from widget_page import open_explorer

from dpo_lab import widgets
from dpo_lab.bench.tables import Table, publish

RUN = [{"step": k, "loss": 1 / (k + 1), "rewards/margins": k / 100} for k in range(200)]
ANSWERS = [
    {"prompt": "p", "tokens": list("abcdefgh"), "logratios": [k / 9] * 8, "gold": k % 7}
    for k in range(60)
]
EXPLORERS = {
    "BoltzmannExplorer": widgets.BoltzmannExplorer,
    "LossExplorer": widgets.LossExplorer,
    "LandscapeExplorer": widgets.LandscapeExplorer,
    "BetaExplorer": widgets.BetaExplorer,
    "CurvesExplorer, 200 rows": lambda: widgets.CurvesExplorer(RUN),
    "ImplicitRewardExplorer, 60 answers": lambda: widgets.ImplicitRewardExplorer(ANSWERS),
    "Playground": widgets.Playground,
}
MOVES, FRAME = 60, 1000 / 60
WORK = """
async (moves) => {
  const slider = document.querySelector("input[type=range]");
  const real = window.requestAnimationFrame;
  let longest = 0;
  const timed = (run) => {
    const begin = performance.now();
    run();
    longest = Math.max(longest, performance.now() - begin);
  };
  window.requestAnimationFrame = (callback) => real((now) => timed(() => {
    callback(now);
    document.body.getBoundingClientRect();
  }));
  const step = Number(slider.step) || 1, middle = Number(slider.value), times = [];
  for (let i = 0; i < moves; i++) {
    longest = 0;
    slider.value = String(middle + step * (i % 2 ? 1 : -1));
    timed(() => slider.dispatchEvent(new Event("input", { bubbles: true })));
    await new Promise((done) => real(() => real(() => real(done))));
    times.push(longest);
  }
  return times;
}
"""


def redraw(browser: Browser, explorer: Any) -> list[float]:
    """Milliseconds of the longest piece of work after each move."""
    page = browser.new_page()
    open_explorer(page, explorer)
    times = page.evaluate(WORK, MOVES)
    page.close()
    return times[10:]


def main() -> None:
    """One explorer after the other."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    rows = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, make in EXPLORERS.items():
            times = redraw(browser, make())
            worst, median = max(times), statistics.median(times)
            rows.append((name, f"{median:.1f}", f"{worst:.1f}", f"{median / FRAME:.0%}"))
        browser.close()
    note = f"{MOVES - 10} moves of the first slider; a frame at 60 Hz has {FRAME:.1f} ms."
    publish(Table(("explorer", "median ms", "worst ms", "of a frame"), rows, note))


if __name__ == "__main__":
    main()
