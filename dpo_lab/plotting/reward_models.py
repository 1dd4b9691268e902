"""Figures on two reward models of the same pairs: their calibration, and where they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from dpo_lab.evaluation import Interval, Reliability, proportion
from dpo_lab.plotting.style import COLORS

SERIES = (("policy", "o"), ("rejected", "s"), ("chosen", "^"))
BAND = 0.5  # of the distance of two rows, shared by the marks of one row


def draw_reliability(ax: Axes, fits: Mapping[str, Reliability]) -> Axes:
    """How often the predicted winner won against how sure the prediction was, a line a model.

    Bars are 95 % Wilson intervals. On the diagonal the probabilities are right; below it the
    model is too sure. Empty bins are left out.
    """
    ax.plot([0.5, 1], [0.5, 1], ":", color=COLORS["theory"], linewidth=1)
    for (role, marker), (label, fit) in zip(SERIES, fits.items(), strict=False):
        full = fit.counts > 0
        shares = [
            proportion(rate * count, count)
            for rate, count in zip(
                fit.accuracy[full].tolist(), fit.counts[full].tolist(), strict=True
            )
        ]
        reach = [[s.value - s.low for s in shares], [s.high - s.value for s in shares]]
        style = {"color": COLORS[role], "fmt": f"{marker}-", "markersize": 5, "capsize": 2}
        heights = [share.value for share in shares]
        ax.errorbar(fit.confidence[full].numpy(), heights, yerr=reach, label=label, **style)
    ax.set(xlabel="probability given to the winner", ylabel="how often it won")
    return ax


def draw_intervals(
    ax: Axes,
    rows: Sequence[str],
    series: Mapping[str, Sequence[Interval]],
    *,
    reference: float | None = None,
) -> Axes:
    """Values with their intervals, one row a case from the top, one mark a series in each row.

    series: by label, one `Interval` a row. reference: where to draw a line for comparison.
    """
    if reference is not None:
        ax.axvline(reference, color=COLORS["theory"], linewidth=1)
    shifts = np.linspace(-BAND / 2, BAND / 2, len(series)) if len(series) > 1 else [0.0]
    for (role, marker), shift, (label, values) in zip(SERIES, shifts, series.items(), strict=False):
        reach = np.array([(v.value - v.low, v.high - v.value) for v in values]).T
        places = np.arange(len(rows)) + shift
        style = {"color": COLORS[role], "fmt": marker, "markersize": 5, "capsize": 2}
        ax.errorbar([v.value for v in values], places, xerr=reach, label=label, **style)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    return ax


def draw_token_rewards(
    ax: Axes, tokens: Sequence[str], implicit: ArrayLike, true: ArrayLike
) -> Axes:
    """Two bars a token, from the top down: its implicit reward and what the true reward adds there.

    implicit, true: (tokens,) in units of reward.
    """
    places = np.arange(len(tokens))
    for values, shift, role, label in (
        (implicit, -0.2, "policy", "implicit reward of the token"),
        (true, 0.2, "reward", "true reward of the word"),
    ):
        ax.barh(places + shift, np.asarray(values), 0.38, color=COLORS[role], label=label)
    ax.axvline(0, color=COLORS["theory"], linewidth=1)
    ax.set_yticks(places, tokens)
    ax.set_ylim(len(tokens) - 0.4, -0.6)
    ax.set(xlabel="reward (nats)")
    return ax
