"""Figures on beta: a path and its end share a colour, theory lies on what it explains."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from dpo_lab.plotting import beta


@pytest.fixture
def ax():
    return Figure().subplots()


def test_each_end_is_a_dashed_line_in_the_colour_of_its_path(ax):
    paths = {"β = 0.1": [1e-3, 1e-2], "β = 1": [1e-2, 2e-2]}
    beta.draw_paths_and_ends(ax, [1, 10], paths, [3.0, 0.5])
    first, second, first_end, second_end = ax.lines
    assert set(first_end.get_ydata()) == {3.0}
    assert set(second_end.get_ydata()) == {0.5}
    assert first_end.get_color() == first.get_color() != second.get_color()
    assert second_end.get_color() == second.get_color()
    assert second_end.get_linestyle() == "--"
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_legend_handles_labels()[1] == list(paths)


def test_theory_is_drawn_at_the_label_it_belongs_to(ax):
    paths, theory = {"a": [1, 2], "b": [3, 4]}, {"b": [3.1, 4.1], "a": [1.1, 2.1]}
    beta.draw_margins(ax, [1, 10], paths, theory)
    drawn = [line.get_ydata().tolist() for line in ax.lines]
    assert drawn == [[1, 2], [3, 4], [1.1, 2.1], [3.1, 4.1]]


def test_the_sweep_names_the_optimum_and_has_plain_numbers_below(ax):
    betas = np.logspace(-1, 1, 5)
    beta.draw_beta_sweep(ax, betas, {"10 steps": betas / 9}, 1 / betas)
    assert ax.get_legend_handles_labels()[1] == ["10 steps", "optimum"]
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), 1 / betas)
    assert ax.xaxis.get_major_formatter()(0.1) == "0.1"
