"""Figures of single tokens: how likely each was, and which of them count."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from dpo_lab.plotting.style import COLORS

WIDTH = 0.94  # of a box; the columns are 1 apart


def draw_token_strips(
    ax: Axes,
    names: Sequence[Sequence[str]],
    logps: ArrayLike,
    mask: ArrayLike,
    *,
    labels: Sequence[str],
) -> Axes:
    """One column of boxes a sequence: a token's text and, where it counts, its log-probability.

    names: (rows, tokens) texts. logps: (rows, tokens) in nats. mask: (rows, tokens), true where
    a token counts; the other boxes are hatched. labels: one name a row of the arrays, shown above
    its column. A box is darker the less likely its token was. Tokens run downwards, so that the
    figure is narrow enough for a phone.
    """
    logps, mask = np.asarray(logps), np.asarray(mask, dtype=bool)
    shade = Normalize(min(-1.0, logps[mask].min()), 0.0)
    for column, texts in enumerate(names):
        for place, text in enumerate(texts):
            value = logps[column, place] if mask[column, place] else None
            _draw_box(ax, column, place, text.strip(), value, shade)
    ax.set_xticks([column + WIDTH / 2 for column in range(len(labels))], labels)
    ax.xaxis.tick_top()
    ax.set(xlim=(-0.05, len(labels)), ylim=(mask.shape[1] + 0.05, -0.05), yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax


def _draw_box(
    ax: Axes, column: int, place: int, text: str, value: float | None, shade: Normalize
) -> None:
    """A masked box if `value` is None, else one coloured by it, with its number."""
    corner, middle = (column, place), place + 0.5
    font = {"va": "center", "fontsize": 9, "color": COLORS["theory"]}
    if value is None:
        style = {"facecolor": "white", "edgecolor": "#cccccc", "hatch": "////"}
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        ax.add_patch(Rectangle(corner, WIDTH, 1, linewidth=0.8, **style))
        ax.text(column + WIDTH / 2, middle, text, ha="center", bbox=box, **font)
        return
    likely = float(shade(value))  # 1 for a token that was certain
    face = tuple(1 + (channel - 1) * (1 - likely) * 0.75 for channel in _POLICY)
    ax.add_patch(Rectangle(corner, WIDTH, 1, facecolor=face, edgecolor="#cccccc", linewidth=0.8))
    ax.text(column + 0.06, middle, text, ha="left", **font)
    ax.text(column + WIDTH - 0.06, middle, f"{value:.2f}", ha="right", **font)


_POLICY = tuple(int(COLORS["policy"][i : i + 2], 16) / 255 for i in (1, 3, 5))
