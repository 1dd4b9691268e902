"""Figures on beta: paths of training for several beta, where they end, and sweeps over beta."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter
from numpy.typing import ArrayLike

from dpo_lab.plotting.gradient import draw_labelled_lines
from dpo_lab.plotting.style import COLORS


def draw_paths_and_ends(
    ax: Axes, steps: ArrayLike, paths: Mapping[str, ArrayLike], ends: Sequence[float]
) -> Axes:
    """One number over steps, both logarithmic, and where each path ends as a dashed line.

    paths: by label, one value a step. ends: one value a path, in the same order and colour.
    """
    draw_labelled_lines(ax, steps, paths)
    for line, end in zip(list(ax.lines), ends, strict=True):
        ax.axhline(end, color=line.get_color(), linestyle="--", linewidth=1)
    ax.set(xscale="log", yscale="log", xlabel="step")
    return ax


def draw_margins(
    ax: Axes,
    steps: ArrayLike,
    paths: Mapping[str, ArrayLike],
    theory: Mapping[str, ArrayLike],
) -> Axes:
    """Differences of log-ratios over logarithmic steps, with the theory as black dashes on top.

    paths, theory: by label, one value in nats a step; both have the same labels.
    """
    draw_labelled_lines(ax, steps, paths)
    for label in paths:
        ax.plot(steps, np.asarray(theory[label]), ":", color=COLORS["theory"], linewidth=1.2)
    ax.set(xscale="log", xlabel="step", ylabel="$h = u_w - u_l$ (nats)")
    return ax


def draw_beta_sweep(
    ax: Axes, betas: ArrayLike, kls: Mapping[str, ArrayLike], optimum: ArrayLike
) -> Axes:
    """KL over beta at given numbers of steps, and that of the optimum as a black dashed line."""
    draw_labelled_lines(ax, betas, kls)
    style = {"color": COLORS["theory"], "linestyle": "--", "linewidth": 1.2}
    ax.plot(np.asarray(betas), np.asarray(optimum), label="optimum", **style)
    ax.set(xscale="log", yscale="log", xlabel=r"$\beta$", ylabel="KL (nats)")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    return ax
