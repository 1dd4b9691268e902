"""The curves of a run stand at the rows' steps, held-out values and standard errors included."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from dpo_lab.plotting.curves import draw_metric, draw_sampled

ROWS = [
    {"step": 0, "eval_loss": 0.7, "gold/reward": 1.0, "gold/reward_error": 0.5},
    {"step": 1, "loss": 0.6},
    {"step": 2, "loss": 0.5},
    {"step": 2, "eval_loss": 0.4, "gold/reward": 3.0, "gold/reward_error": 0.25},
]


def test_training_is_a_line_and_held_out_rows_are_dots():
    ax = draw_metric(Figure().subplots(), ROWS, "loss", color="blue", label="loss")
    line, dots = ax.lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([1, 2], [0.6, 0.5])
    assert (list(dots.get_xdata()), list(dots.get_ydata())) == ([0, 2], [0.7, 0.4])
    assert dots.get_linestyle() == "None"


def test_bars_of_samples_are_two_standard_errors():
    ax = draw_sampled(Figure().subplots(), ROWS, "gold/reward", color="blue", label="gold")
    (container,) = ax.containers
    line, _, (bars,) = container.lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0, 2], [1.0, 3.0])
    heights = [segment[:, 1].tolist() for segment in bars.get_segments()]
    np.testing.assert_allclose(heights, [[0.0, 2.0], [2.5, 3.5]])
