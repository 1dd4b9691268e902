"""The figures of chapter 09 show the numbers they were given, at their places."""

from __future__ import annotations

import pytest
import torch
from matplotlib.figure import Figure

from dpo_lab.evaluation import Interval, reliability
from dpo_lab.plotting.implicit_reward import draw_rewards_by_prompt
from dpo_lab.plotting.reward_models import draw_intervals, draw_reliability, draw_token_rewards


def test_reliability_leaves_out_empty_bins_and_keeps_the_share_inside_its_bar():
    margins = torch.tensor([0.1, -0.1, 3.0, 3.0])  # bins at 1/2 and at 0.95; none between
    fit = reliability(margins, bins=5)
    ax = draw_reliability(Figure().subplots(), {"dpo": fit})
    bars = ax.containers[0]
    sure = torch.sigmoid(margins.abs().double())
    assert bars.lines[0].get_xdata().tolist() == pytest.approx(sure[[0, 2]].tolist())
    assert bars.lines[0].get_ydata().tolist() == [0.5, 1.0]
    (low, high), certain = (segment[:, 1] for segment in bars.lines[2][0].get_segments())
    assert low < 0.5 < high
    assert certain[1] == 1.0 > certain[0]


def test_intervals_stand_in_their_rows():
    series = {
        "a": [Interval(1.0, 0.5, 2.0), Interval(0.0, -1.0, 0.25)],
        "b": [Interval(2.0, 1.5, 2.5), Interval(3.0, 2.0, 4.0)],
    }
    ax = draw_intervals(Figure().subplots(), ["first", "second"], series, reference=0.0)
    marks = ax.containers[0].lines[0]
    assert marks.get_xdata().tolist() == [1.0, 0.0]
    assert marks.get_ydata().round().tolist() == [0, 1]
    ends = [segment[:, 0].tolist() for segment in ax.containers[0].lines[2][0].get_segments()]
    assert ends == [[0.5, 2.0], [-1.0, 0.25]]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["first", "second"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first row is on top


def test_token_rewards_pair_their_bars():
    ax = draw_token_rewards(Figure().subplots(), ["was", "good"], [0.1, 0.6], [0.0, 1.0])
    implicit, true = ([bar.get_width() for bar in bars] for bars in ax.containers)
    assert (implicit, true) == ([0.1, 0.6], [0.0, 1.0])


def test_a_panel_has_the_line_of_slope_one_through_the_mean():
    axes = Figure().subplots(1, 2)
    true, implicit = ([0.0, 2.0], [1.0, 3.0]), ([1.0, 5.0], [-2.0, 0.0])
    first, second = draw_rewards_by_prompt(axes, ["soup", "park"], true, implicit)
    assert first.lines[1].get_ydata().tolist() == [2.0, 4.0]  # mean difference 2
    assert second.lines[1].get_ydata().tolist() == [-2.0, 0.0]
    assert (first.get_title(), second.get_title()) == ("soup: +2.0", "park: -3.0")
