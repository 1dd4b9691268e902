"""Figures on one gradient step: its weight, its path over the loss, and a term that runs away."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from dpo_lab.plotting.style import COLORS

LINE_ROLES = ("policy", "highlight", "rejected", "reward", "chosen")


def draw_labelled_lines(ax: Axes, x: ArrayLike, lines: Mapping[str, ArrayLike]) -> Axes:
    """One line for each label over the same x, in the book's order of colours."""
    for role, (label, y) in zip(LINE_ROLES, lines.items(), strict=False):
        ax.plot(np.asarray(x), np.asarray(y), color=COLORS[role], label=label)
    return ax


def draw_paths(ax: Axes, paths: Mapping[str, ArrayLike]) -> Axes:
    """Paths of training in the plane of log-ratios, a dot at each end, on an existing surface.

    paths: by label, (steps, 2) log-ratios of the chosen and of the rejected answer, in nats.
    """
    for role, (label, path) in zip(("rejected", "policy"), paths.items(), strict=True):
        path = np.asarray(path)
        ax.plot(*path.T, color=COLORS[role], linewidth=2.4, label=label)
        ax.plot(*path[-1], "o", color=COLORS[role], markersize=6)
    ax.plot(0, 0, "o", color=COLORS["theory"], markersize=5)
    ax.legend(loc="upper left", frameon=True)
    return ax


def draw_weight_groups(ax: Axes, groups: Mapping[str, ArrayLike], bins: int = 20) -> Axes:
    """Histograms of the weight sigmoid(-m), as shares of each group, on the same bins."""
    edges = np.linspace(0, 1, bins + 1)
    for role, (label, weights) in zip(("policy", "rejected"), groups.items(), strict=True):
        weights = np.asarray(weights)
        share = np.full(len(weights), 1 / len(weights))
        ax.hist(weights, edges, weights=share, color=COLORS[role], alpha=0.65, label=label)
    ax.set(xlabel="weight σ(−m)", ylabel="share of the group", xlim=(0, 1))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return ax
