"""Figures of the gradient show the numbers they are given."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from dpo_lab.plotting import gradient


@pytest.fixture
def ax():
    return Figure().subplots()


def test_each_labelled_line_has_its_numbers_and_a_colour_of_its_own(ax):
    gradient.draw_labelled_lines(ax, [0, 1, 2], {"one": [1, 2, 3], "two": [4, 5, 6]})
    first, second = ax.lines
    assert first.get_ydata().tolist() == [1, 2, 3]
    assert (second.get_label(), second.get_xdata().tolist()) == ("two", [0, 1, 2])
    assert first.get_color() != second.get_color()


def test_a_path_has_the_chosen_answer_on_the_first_axis_and_a_dot_at_its_end(ax):
    gradient.draw_paths(ax, {"a": [[0, 0], [1, -2]], "b": [[0, 0], [-3, -4]]})
    line, end = ax.lines[0], ax.lines[1]
    assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == ([0, 1], [0, -2])
    assert (*end.get_xdata(), *end.get_ydata()) == (1, -2)


def test_histograms_show_shares_of_each_group(ax):
    gradient.draw_weight_groups(ax, {"kept": [0.1] * 8 + [0.9] * 2, "turned": [0.9]}, bins=2)
    kept, turned = ([bar.get_height() for bar in bars] for bars in ax.containers)
    np.testing.assert_allclose(kept, [0.8, 0.2])
    np.testing.assert_allclose(turned, [0, 1])
