"""Figures of policies show the numbers they are given, at the places where a reader looks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from dpo_lab.plotting import policies

BETAS = np.logspace(-1, 1, 5)


@pytest.fixture
def ax():
    return Figure().subplots()


def labels(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_bars_stand_side_by_side_and_have_the_given_heights(ax):
    series = {"reference": [0.75, 0.25], "policy": [0.1, 0.9]}
    policies.draw_bars(ax, ["A", "B"], series, ["grey", "blue"], dots=[0.2, 0.8], dots_label="dots")
    heights = [bar.get_height() for bars in ax.containers for bar in bars]
    assert heights == [0.75, 0.25, 0.1, 0.9]
    spans = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches)
    assert all(left[1] < right[0] for left, right in itertools.pairwise(spans))
    (dots,) = ax.lines
    bars = ax.containers[1]
    np.testing.assert_allclose(dots.get_xdata(), [b.get_x() + b.get_width() / 2 for b in bars])
    assert ax.get_legend_handles_labels()[1] == ["dots", "reference", "policy"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["A", "B"]


def test_path_names_each_band_inside_it(ax):
    shares = np.linspace(0.9, 0.2, 5)
    policies.draw_path(ax, BETAS, np.stack([shares, 1 - shares], axis=1), ["A", "B"])
    assert labels(ax) == ["A", "B"]
    (first_beta, first), (last_beta, last) = (text.get_position() for text in ax.texts)
    assert BETAS[0] <= first_beta < last_beta <= BETAS[-1]
    at_first, at_last = np.interp([first_beta, last_beta], BETAS, shares)
    assert 0 < first < at_first
    assert at_last < last < 1


def test_curves_over_beta_have_plain_logarithmic_ticks_and_named_levels(ax):
    policies.draw_over_beta(ax, BETAS, BETAS**2, "square", levels={"one": 1.0})
    assert ax.get_xscale() == "log"
    assert ax.xaxis.get_major_formatter()(0.1) == "0.1"
    curve, level = ax.lines
    np.testing.assert_allclose(curve.get_ydata(), BETAS**2)
    assert set(level.get_ydata()) == {1.0}
    assert labels(ax) == ["one"]


def test_frontier_has_marks_where_they_belong_and_a_tangent_of_slope_beta(ax):
    policies.draw_frontier(ax, [0, 1], [0.4, 2.0])
    policies.draw_marks(ax, [1.0], [2.0], ["best"], marker="s")
    policies.draw_tangent(ax, 1.5, 0.5, until=2.0)
    policies.draw_cloud(ax, [0.5, 0.6], [0.1, 0.2])
    assert labels(ax) == ["best", "$V^*$"]
    assert ax.texts[0].xy == (1.0, 2.0)
    _, mark, tangent, diamond, cloud = ax.lines
    assert (list(mark.get_xdata()), list(mark.get_ydata())) == ([1.0], [2.0])
    assert (list(tangent.get_xdata()), list(tangent.get_ydata())) == ([0, 2.0], [1.5, 2.5])
    assert list(diamond.get_ydata()) == [1.5]
    assert cloud.get_zorder() < mark.get_zorder()


def test_a_family_stands_where_it_was_measured_with_two_standard_errors_each_way(ax):
    where = {"label": "runs", "color": "blue"}
    policies.draw_family(
        ax, [1.0, 2.0], [0.5, 0.7], ["a", ""], errors=([0.1, 0.2], [0, 1]), **where
    )
    (container,) = ax.containers
    line, _, (across, along) = container.lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([1.0, 2.0], [0.5, 0.7])
    ends = [segment[:, 0].tolist() for segment in across.get_segments()]
    np.testing.assert_allclose(ends, [[0.8, 1.2], [1.6, 2.4]])
    np.testing.assert_allclose(along.get_segments()[1][:, 1], [-1.3, 2.7])
    assert labels(ax) == ["a", ""]
    assert ax.get_legend_handles_labels()[1] == ["runs"]
