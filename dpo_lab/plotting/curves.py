"""The curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dpo_lab.plotting.style import COLORS, use_style

Rows = Sequence[Mapping[str, float | int]]


def draw_metric(ax: Axes, rows: Rows, name: str, *, color: str, label: str) -> Axes:
    """One metric against optimiser steps; held-out values as dots on top of the training line."""
    train = [(row["step"], row[name]) for row in rows if name in row]
    held_out = [(row["step"], row[f"eval_{name}"]) for row in rows if f"eval_{name}" in row]
    if train:
        ax.plot(*zip(*train, strict=True), color=color, label=label)
    if held_out:
        ax.plot(*zip(*held_out, strict=True), "o", color=color, markersize=4, markeredgecolor="w")
    return ax


def draw_sampled(ax: Axes, rows: Rows, name: str, *, color: str, label: str) -> Axes:
    """A metric of the policy's own samples against steps, with bars of two standard errors.

    The standard errors are the rows' `{name}_error`.
    """
    found = [(row["step"], row[name], 2 * row[f"{name}_error"]) for row in rows if name in row]
    steps, values, bars = zip(*found, strict=True)
    ax.errorbar(steps, values, yerr=bars, fmt="o-", color=color, markersize=4, label=label)
    return ax


def save_curves(rows: Rows, file: Path) -> None:
    """Four panels, written to `file` as PNG: loss, accuracy, rewards, and log-ratios.

    A run without a reference has log-probabilities in the place of log-ratios; one on labelled
    answers has margins in the place of the accuracy.
    """
    use_style()
    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)  # no display is needed or looked for
    (loss, ranking), (rewards, ratios) = figure.subplots(2, 2)
    logged = set().union(*rows)
    paired, compared = "rewards/accuracies" in logged, "logratios/chosen" in logged
    draw_metric(loss, rows, "loss", color=COLORS["policy"], label="loss")
    name = "rewards/accuracies" if paired else "rewards/margins"
    draw_metric(ranking, rows, name, color=COLORS["policy"], label=name)
    for side in ("chosen", "rejected"):
        draw_metric(rewards, rows, f"rewards/{side}", color=COLORS[side], label=side)
        name = f"logratios/{side}" if compared else f"logps/{side}"
        draw_metric(ratios, rows, name, color=COLORS[side], label=side)
    loss.set(title="loss", ylabel="nats")
    if paired:
        ranking.set(title="share of pairs ranked right", ylabel="share", ylim=(0, 1))
    else:
        ranking.set(title="mean reward of good minus bad answers", ylabel="beta × nats")
    rewards.set(title="implicit reward" if compared else "reward", ylabel="beta × nats")
    log_title = "log-ratio to the reference" if compared else "log-probability of the answer"
    ratios.set(title=log_title, ylabel="nats")
    for ax in (rewards, ratios):
        ax.legend()
    for ax in (rewards, ratios, loss, ranking):
        ax.set_xlabel("optimiser steps (line: training, dots: held out)")
    unfinished = file.with_name(file.name + ".unfinished")
    figure.savefig(unfinished, format="png", dpi=120)
    unfinished.replace(file)
