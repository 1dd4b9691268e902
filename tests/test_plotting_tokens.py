"""Strips of tokens show every token, and numbers only where a token counts."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dpo_lab.plotting.tokens import draw_token_strips

NAMES = [["the", " tea", " good"], ["the", " bad", "."]]
LOGPS = [[-9.0, -0.5, -4.0], [-9.0, -2.0, 0.0]]
MASK = [[False, True, True], [False, False, True]]


@pytest.fixture
def ax():
    return draw_token_strips(Figure().subplots(), NAMES, LOGPS, MASK, labels=("one", "two"))


def boxes(ax):
    """The boxes in the order of reading."""
    found = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    return sorted(found, key=lambda box: (box.get_x(), box.get_y()))


def test_every_token_is_shown_and_only_those_that_count_have_a_number(ax):
    shown = [text.get_text() for text in ax.texts]
    words = [text for text in shown if not text[-2:].isdigit()]
    assert words == ["the", "tea", "good", "the", "bad", "."]
    assert [text for text in shown if text not in words] == ["-0.50", "-4.00", "0.00"]


def test_masked_boxes_are_hatched_and_a_rarer_token_is_darker(ax):
    hatched = [bool(box.get_hatch()) for box in boxes(ax)]
    assert hatched == [True, False, False, True, True, False]
    red = [box.get_facecolor()[0] for box in boxes(ax)]
    assert red[2] < red[1] < red[5] == 1  # -4, -0.5 and 0 nats


def test_columns_are_named_and_read_downwards(ax):
    assert [label.get_text() for label in ax.get_xticklabels()] == ["one", "two"]
    low, high = ax.get_ylim()
    assert low > high
