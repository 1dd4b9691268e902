"""Figures of single tokens: how likely each was, and which of them count."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from dpo_lab.plotting.style import COLORS

HEIGHT = 0.86  # of a box; the rows are 1 apart


def draw_token_strips(
    ax: Axes,
    names: Sequence[Sequence[str]],
    logps: ArrayLike,
    mask: ArrayLike,
    *,
    labels: Sequence[str],
) -> Axes:
    """One row of boxes a sequence: a token's text and, where it counts, its log-probability.

    names: (rows, tokens) texts. logps: (rows, tokens) in nats. mask: (rows, tokens), true where
    a token counts; the other boxes are hatched. labels: one name a row. A box is darker the less
    likely its token was.
    """
    logps, mask = np.asarray(logps), np.asarray(mask, dtype=bool)
    shade = Normalize(min(-1.0, logps[mask].min()), 0.0)
    for row, texts in enumerate(names):
        for column, text in enumerate(texts):
            value = logps[row, column] if mask[row, column] else None
            _draw_box(ax, column, row, text, value, shade)
    ax.set_yticks(range(len(labels)), labels)
    ax.set(xlim=(-0.05, mask.shape[1] + 0.05), ylim=(len(labels) - 0.5, -0.5), xticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax


def _draw_box(
    ax: Axes, column: int, row: int, text: str, value: float | None, shade: Normalize
) -> None:
    """A masked box if `value` is None, else one coloured by it, with its number."""
    corner, middle = (column, row - HEIGHT / 2), column + 0.5
    ink = COLORS["theory"]
    if value is None:
        style = {"facecolor": "white", "edgecolor": "#cccccc", "hatch": "////"}
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        ax.add_patch(Rectangle(corner, 1, HEIGHT, linewidth=0.8, **style))
        ax.text(middle, row, text, ha="center", va="center", fontsize=8, color=ink, bbox=box)
        return
    likely = float(shade(value))  # 1 for a token that was certain
    face = tuple(1 + (channel - 1) * (1 - likely) * 0.75 for channel in _POLICY)
    ax.add_patch(Rectangle(corner, 1, HEIGHT, facecolor=face, edgecolor="#cccccc", linewidth=0.8))
    ax.text(middle, row - 0.16, text, ha="center", va="center", fontsize=8, color=ink)
    ax.text(middle, row + 0.2, f"{value:.2f}", ha="center", va="center", fontsize=8, color=ink)


_POLICY = tuple(int(COLORS["policy"][i : i + 2], 16) / 255 for i in (1, 3, 5))
