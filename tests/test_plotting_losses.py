"""The figures of the loss family keep one style a label, and show which end is which."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from dpo_lab.plotting.losses import Panel, draw_bands, draw_moves, draw_panels


def test_a_label_has_one_style_in_all_panels_and_one_place_in_the_legend() -> None:
    axes = Figure().subplots(1, 3)
    first = Panel("m", "loss", [0, 1], {"dpo": [0, 1], "ipo": [1, 0]})
    second = Panel("p", "margin", [0, 1], {"ipo": [2, 3]})
    draw_panels(axes, [first, second])
    assert axes[1].lines[0].get_color() == axes[0].lines[1].get_color()
    assert axes[0].lines[0].get_color() != axes[0].lines[1].get_color()
    assert [text.get_text() for text in axes[2].get_legend().get_texts()] == ["dpo", "ipo"]
    assert axes[1].get_xlabel() == "p"


def test_more_lines_than_styles_are_an_error_and_not_a_silent_loss() -> None:
    many = {str(k): [0, 1] for k in range(8)}
    with pytest.raises(ValueError, match="zip"):
        draw_panels(Figure().subplots(1, 2), [Panel("", "", [0, 1], many)])


def test_a_band_lies_around_its_own_line() -> None:
    lines = {"dpo": [1.0, 1.0], "robust": [5.0, 5.0]}
    ax = draw_bands(Figure().subplots(), [0, 1], lines, {"robust": ([4.0, 4.0], [6.0, 7.0])})
    (band,) = ax.collections
    corners = band.get_paths()[0].vertices[:, 1]
    assert (corners.min(), corners.max()) == (4.0, 7.0)


def test_the_full_dot_is_the_first_place() -> None:
    ax = draw_moves(Figure().subplots(), {"dpo": ((1.0, 2.0), (0.5, 0.7))})
    _, full, opened = ax.lines
    assert full.get_xydata().tolist() == [[1.0, 2.0]]
    assert opened.get_xydata().tolist() == [[0.5, 0.7]]
    assert opened.get_markerfacecolor() == "white"
    assert full.get_markerfacecolor() != "white"
