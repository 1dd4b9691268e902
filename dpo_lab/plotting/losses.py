"""Figures on the loss family: curves over the margin, moves under label noise, lengths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from dpo_lab.plotting.style import COLORS

# Up to seven lines: five colours, then two of them again, dashed.
LINE_STYLES = (
    ("policy", "-"),
    ("rejected", "-"),
    ("chosen", "-"),
    ("reward", "-"),
    ("theory", "-"),
    ("highlight", "--"),
    ("reference", "--"),
)


Point = tuple[float, float]


class Panel(NamedTuple):
    """One set of lines over a common x: axis labels, x, and y by the line's label."""

    xlabel: str
    ylabel: str
    x: ArrayLike
    lines: Mapping[str, ArrayLike]


def draw_panels(axes: Iterable[Axes], panels: Sequence[Panel]) -> list[Axes]:
    """One panel an axis; a label has one style in all of them, and the last axis is the legend."""
    *drawn, legend = axes
    labels = list(dict.fromkeys(label for panel in panels for label in panel.lines))
    styles = dict(zip(labels, LINE_STYLES[: len(labels)], strict=True))
    handles = {}
    for ax, panel in zip(drawn, panels, strict=True):
        for label, y in panel.lines.items():
            role, dash = styles[label]
            (handles[label],) = ax.plot(
                np.asarray(panel.x), np.asarray(y), dash, color=COLORS[role]
            )
        ax.set(xlabel=panel.xlabel, ylabel=panel.ylabel)
    legend.axis("off")
    legend.legend([handles[label] for label in labels], labels, loc="center")
    return [*drawn, legend]


def draw_bands(
    ax: Axes,
    x: ArrayLike,
    lines: Mapping[str, ArrayLike],
    bands: Mapping[str, tuple[ArrayLike, ArrayLike]],
) -> Axes:
    """Lines over x, and around some of them a band from a low to a high value.

    bands: by the line's label, (low, high), each as long as x.
    """
    for (role, dash), (label, y) in zip(LINE_STYLES[: len(lines)], lines.items(), strict=True):
        ax.plot(np.asarray(x), np.asarray(y), dash, color=COLORS[role], label=label)
        if label in bands:
            low, high = (np.asarray(edge) for edge in bands[label])
            ax.fill_between(np.asarray(x), low, high, color=COLORS[role], alpha=0.15, linewidth=0)
    return ax


def draw_moves(ax: Axes, moves: Mapping[str, tuple[Point, Point]]) -> Axes:
    """For each label a full dot, an open dot, and the line between them.

    moves: by label, the (x, y) of the full dot and the (x, y) of the open one.
    """
    for (role, dash), (label, ends) in zip(LINE_STYLES[: len(moves)], moves.items(), strict=True):
        (x0, y0), (x1, y1) = ends
        ax.plot([x0, x1], [y0, y1], dash, color=COLORS[role], linewidth=1.2)
        ax.plot(x0, y0, "o", color=COLORS[role], label=label)
        ax.plot(x1, y1, "o", color=COLORS[role], markerfacecolor="white")
    return ax
