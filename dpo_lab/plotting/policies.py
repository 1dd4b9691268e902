"""Figures of policies on finitely many answers: bars, paths over beta, the reward-KL frontier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter
from numpy.typing import ArrayLike

from dpo_lab.plotting.style import COLORS

# Eight neighbouring answers in a stack: light enough for black letters, apart in lightness.
STACK = ("#dddddd", "#9ecae9", "#f2f2f2", "#a8ddb5", "#e69f00", "#c9c9c9", "#cc9cbd", "#4c9bd1")


def draw_bars(
    ax: Axes,
    names: Sequence[str],
    series: Mapping[str, ArrayLike],
    colors: Sequence[str],
    *,
    dots: ArrayLike | None = None,
    dots_label: str = "",
) -> Axes:
    """Probabilities of each answer as bars side by side, one colour a policy, and dots on the last.

    series: label -> (answers,) probabilities. dots: (answers,) probabilities of one more policy.
    """
    places = np.arange(len(names))
    width = 0.8 / len(series)
    for k, ((label, probabilities), color) in enumerate(zip(series.items(), colors, strict=True)):
        offset = (k - (len(series) - 1) / 2) * width
        ax.bar(places + offset, probabilities, width * 0.92, color=color, label=label)
    if dots is not None:
        style = {"color": COLORS["highlight"], "markeredgecolor": "black", "markersize": 7}
        ax.plot(places + offset, dots, "o", label=dots_label, **style)
    ax.set_xticks(places, names)
    ax.set(ylabel="probability", ylim=(0, None))
    ax.grid(visible=False, axis="x")
    return ax


def draw_path(ax: Axes, betas: ArrayLike, policies: ArrayLike, names: Sequence[str]) -> Axes:
    """How the answers share the probability at each beta: one band an answer, its letter inside.

    betas: (betas,). policies: (betas, answers) probabilities.
    """
    betas, policies = np.asarray(betas), np.asarray(policies)
    colors = [STACK[k % len(STACK)] for k in range(len(names))]
    ax.stackplot(betas, policies.T, colors=colors, edgecolor="white", linewidth=0.8)
    middles = policies.cumsum(axis=1) - policies / 2
    for k, name in enumerate(names):
        widest = int(policies[:, k].argmax())
        inset = min(max(widest, len(betas) // 25), len(betas) - 1 - len(betas) // 25)
        ax.text(betas[inset], middles[inset, k], name, ha="center", va="center")
    _beta_axis(ax)
    ax.set(ylabel="share of probability", ylim=(0, 1), xlim=(betas.min(), betas.max()))
    ax.grid(visible=False)
    return ax


def draw_over_beta(
    ax: Axes,
    betas: ArrayLike,
    values: ArrayLike,
    ylabel: str,
    *,
    color: str = COLORS["policy"],
    levels: Mapping[str, float] | None = None,
) -> Axes:
    """One number of the optimal policy against beta, with dashed lines at named levels."""
    ax.plot(betas, values, color=color)
    for name, level in (levels or {}).items():
        ax.axhline(level, color=COLORS["reference"], linestyle="--", linewidth=1)
        ax.annotate(
            name,
            (1, level),
            xycoords=("axes fraction", "data"),
            xytext=(-3, 3),
            textcoords="offset points",
            ha="right",
        )
    _beta_axis(ax)
    ax.set_ylabel(ylabel)
    return ax


def draw_frontier(ax: Axes, kls: ArrayLike, expected_rewards: ArrayLike) -> Axes:
    """The best expected reward at each KL from the reference."""
    ax.plot(kls, expected_rewards, color=COLORS["policy"])
    ax.set(xlabel="KL from the reference (nats)", ylabel="expected reward")
    return ax


def draw_marks(
    ax: Axes,
    kls: ArrayLike,
    expected_rewards: ArrayLike,
    labels: Sequence[str],
    *,
    color: str = COLORS["policy"],
    marker: str = "o",
) -> Axes:
    """Named points on a plane of KL and reward; labels stand to their lower right."""
    ax.plot(kls, expected_rewards, marker, color=color, markersize=6)
    ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
    for x, y, label in zip(kls, expected_rewards, labels, strict=True):
        place = {"xytext": (7, -12), "textcoords": "offset points"}
        ax.annotate(label, (float(x), float(y)), bbox=ground, **place)
    return ax


def draw_family(
    ax: Axes,
    kls: ArrayLike,
    rewards: ArrayLike,
    names: Sequence[str],
    *,
    label: str,
    color: str,
    marker: str = "o",
    errors: tuple[ArrayLike, ArrayLike] | None = None,
    names_at: tuple[float, float] = (5, -11),
) -> Axes:
    """Policies of one kind on a plane of KL and reward, joined in the given order.

    errors: standard errors of the KLs and of the rewards; two of them are drawn each way.
    names: one a policy, empty for none, `names_at` points away from it.
    """
    kls, rewards = np.asarray(kls), np.asarray(rewards)
    bars = {}
    if errors is not None:
        bars = {"xerr": 2 * np.asarray(errors[0]), "yerr": 2 * np.asarray(errors[1])}
    style = {"linewidth": 1, "markersize": 5, "elinewidth": 1, "color": color}
    ax.errorbar(kls, rewards, fmt=f"{marker}-", label=label, **style, **bars)
    for x, y, name in zip(kls, rewards, names, strict=True):
        place = {"xytext": names_at, "textcoords": "offset points"}
        ax.annotate(name, (float(x), float(y)), color=color, fontsize=9, **place)
    ax.set(xlabel="KL from the reference (nats)", ylabel="expected reward")
    return ax


def draw_cloud(ax: Axes, kls: ArrayLike, expected_rewards: ArrayLike) -> Axes:
    """Many policies as faint dots behind everything else."""
    style = {"markersize": 2, "alpha": 0.5, "color": COLORS["reference"], "zorder": 1}
    ax.plot(kls, expected_rewards, ".", **style)
    return ax


def draw_tangent(ax: Axes, value: float, beta: float, until: float) -> Axes:
    """The line of all points worth `value`: reward = value + beta KL, with V* marked at KL = 0."""
    ax.plot([0, until], [value, value + beta * until], "--", color=COLORS["theory"], linewidth=1)
    ax.plot(0, value, "D", color=COLORS["theory"], markersize=6)
    ax.annotate("$V^*$", (0, value), xytext=(2, 8), textcoords="offset points")
    return ax


def _beta_axis(ax: Axes) -> None:
    """A logarithmic axis with plain numbers."""
    ax.set(xscale="log", xlabel=r"$\beta$")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
