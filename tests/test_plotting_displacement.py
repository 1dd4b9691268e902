"""The figure of a score shows each pair once, on the side of 0 where it was measured."""

from __future__ import annotations

from matplotlib.figure import Figure

from dpo_lab.plotting.displacement import draw_score


def test_pairs_that_rose_and_pairs_that_fell_are_told_apart():
    ax = draw_score(Figure().subplots(), [1, 2, 3], [0.5, -0.25, 0])
    rose, fell, _ = ax.lines
    assert (rose.get_xdata().tolist(), rose.get_ydata().tolist()) == ([1, 3], [0.5, 0])
    assert (fell.get_xdata().tolist(), fell.get_ydata().tolist()) == ([2], [-0.25])
    assert rose.get_color() != fell.get_color()
