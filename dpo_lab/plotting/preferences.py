"""Figures of chapter 01: win probabilities, likelihoods, fitted rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from dpo_lab.plotting.style import COLORS


def win_curve(ax: Axes, gaps: ArrayLike, logistic: ArrayLike, gaussian: ArrayLike) -> Axes:
    """Win probability against the reward gap: the sigmoid, and the curve of Gaussian noise."""
    ax.plot(gaps, logistic, color=COLORS["policy"])
    ax.plot(gaps, gaussian, color=COLORS["rejected"], linestyle="--")
    ax.annotate("sigmoid", (1.2, 0.62), color=COLORS["policy"])
    ax.annotate("Gaussian noise,\nrescaled", (-4, 0.25), color=COLORS["rejected"])
    ax.set(xlabel="reward gap $r_i - r_j$ (nats)", ylabel="probability that i beats j")
    ax.set_ylim(0, 1)
    return ax


def likelihood_ridge(
    ax: Axes, axis: ArrayLike, log_likelihood: ArrayLike, gap: float, paths: Sequence[ArrayLike]
) -> Axes:
    """Log-likelihood over two rewards (rows: B, columns: A), its ridge, and ascent paths."""
    filled = ax.contourf(axis, axis, log_likelihood, levels=14, cmap="Greys_r")
    ax.figure.colorbar(filled, ax=ax, label="log-likelihood (nats)")
    low, high = min(axis), max(axis)
    ax.plot([low, high], [low - gap, high - gap], color=COLORS["highlight"], linestyle="--")
    for path in paths:
        xs, ys = zip(*path, strict=True)
        ax.plot(xs, ys, color=COLORS["policy"])
        ax.plot(xs[0], ys[0], "o", color=COLORS["policy"])
        ax.plot(xs[-1], ys[-1], "*", color=COLORS["policy"], markersize=14)
    ax.set(xlabel="reward of A (nats)", ylabel="reward of B (nats)", aspect="equal")
    ax.set(xlim=(low, high), ylim=(low, high))
    ax.grid(visible=False)
    return ax


def runaway(ax: Axes, steps: ArrayLike, running: ArrayLike, settled: ArrayLike) -> Axes:
    """Gradient ascent where one item never lost: its lead runs off, the other gap settles."""
    ax.plot(steps, running, color=COLORS["rejected"])
    ax.plot(steps, settled, color=COLORS["policy"])
    ax.annotate("lead of A,\nwho never lost", (steps[0] * 1.5, 7), color=COLORS["rejected"])
    ax.annotate("B against C", (steps[0] * 1.5, 2.0), color=COLORS["policy"])
    ax.set(xscale="log", xlabel="gradient steps", ylabel="reward gap (nats)")
    return ax


def rewards_with_intervals(
    ax: Axes,
    names: Sequence[str],
    rewards: ArrayLike,
    independent: Sequence[ArrayLike],
    resampled: Sequence[ArrayLike],
) -> Axes:
    """Fitted rewards with two intervals an item, each given as its lower and its upper ends."""
    for (low, high), shift, color, label in (
        (independent, -0.14, "policy", "votes independent"),
        (resampled, 0.14, "rejected", "prompts resampled"),
    ):
        heights = [place + shift for place in range(len(names))]
        ax.hlines(heights, low, high, color=COLORS[color], linewidth=3)
        ax.plot(rewards, heights, "o", color=COLORS[color])
        ax.annotate(
            label + "  ", (low[0], heights[0]), color=COLORS[color], ha="right", va="center"
        )
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlabel("reward, mean 0 (nats)")
    return ax


def predicted_against_observed(
    ax: Axes, predicted: ArrayLike, observed: ArrayLike, spread: ArrayLike
) -> Axes:
    """Observed win rates with 95 % bars of binomial noise against the fitted probabilities."""
    low, high = min(predicted) - 0.06, max(predicted) + 0.06
    ax.plot([low, high], [low, high], color=COLORS["theory"], linewidth=1)
    ax.errorbar(predicted, observed, yerr=spread, fmt="o", color=COLORS["policy"], capsize=3)
    ax.set(xlabel="win probability of the fit", ylabel="observed win rate")
    return ax


def noisy_gaps(
    ax: Axes,
    gaps: ArrayLike,
    curves: Mapping[float, ArrayLike],
    simulated_gaps: ArrayLike,
    simulated: Mapping[float, ArrayLike],
) -> Axes:
    """Fitted gap against true gap for each flip rate: closed form (lines), simulation (dots)."""
    for rate, color in zip(curves, ("theory", "policy", "rejected"), strict=True):
        ax.plot(gaps, curves[rate], color=COLORS[color])
        ax.plot(simulated_gaps, simulated[rate], "o", color=COLORS[color])
        ax.annotate(
            f"{rate:.0%} flipped",
            (gaps[-1], curves[rate][-1]),
            xytext=(4, -3),
            textcoords="offset points",
            color=COLORS[color],
        )
    ax.set(xlabel="true reward gap (nats)", ylabel="fitted gap (nats)")
    return ax


def false_winner(ax: Axes, ratios: ArrayLike, fitted: ArrayLike, truth: float) -> Axes:
    """Fitted P(A beats C) in a cycle, against how often the other two pairs are asked."""
    ax.plot(ratios, fitted, color=COLORS["policy"])
    ax.axhline(truth, color=COLORS["rejected"], linestyle="--")
    ax.axhline(0.5, color=COLORS["reference"], linewidth=1)
    ax.annotate(
        "fitted",
        (ratios[-1], fitted[-1]),
        xytext=(-40, -16),
        textcoords="offset points",
        color=COLORS["policy"],
    )
    ax.annotate(
        "true",
        (ratios[-1], truth),
        xytext=(-30, 6),
        textcoords="offset points",
        color=COLORS["rejected"],
    )
    ax.set(xscale="log", ylim=(0, 1))
    ax.set(xlabel="votes on A-B and B-C for each vote on A-C", ylabel="probability that A beats C")
    return ax
