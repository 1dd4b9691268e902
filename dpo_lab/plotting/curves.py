"""The curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dpo_lab.plotting.style import COLORS, use_style

Rows = Sequence[Mapping[str, float]]


def draw_metric(ax: Axes, rows: Rows, name: str, *, color: str, label: str) -> Axes:
    """One metric against optimiser steps; held-out values as dots on top of the training line."""
    train = [(row["step"], row[name]) for row in rows if name in row]
    held_out = [(row["step"], row[f"eval_{name}"]) for row in rows if f"eval_{name}" in row]
    if train:
        ax.plot(*zip(*train, strict=True), color=color, label=label)
    if held_out:
        ax.plot(*zip(*held_out, strict=True), "o", color=color, markersize=4, markeredgecolor="w")
    return ax


def save_curves(rows: Rows, file: Path) -> None:
    """Four panels, loss, accuracy, rewards and log-ratios, written to `file` as PNG."""
    use_style()
    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)  # no display is needed or looked for
    (loss, accuracy), (rewards, ratios) = figure.subplots(2, 2)
    draw_metric(loss, rows, "loss", color=COLORS["policy"], label="loss")
    draw_metric(accuracy, rows, "rewards/accuracies", color=COLORS["policy"], label="accuracy")
    for side in ("chosen", "rejected"):
        draw_metric(rewards, rows, f"rewards/{side}", color=COLORS[side], label=side)
        draw_metric(ratios, rows, f"logratios/{side}", color=COLORS[side], label=side)
    loss.set(title="loss", ylabel="nats")
    accuracy.set(title="share of pairs ranked right", ylabel="share", ylim=(0, 1))
    rewards.set(title="implicit reward", ylabel="beta × nats")
    ratios.set(title="log-ratio to the reference", ylabel="nats")
    for ax in (rewards, ratios):
        ax.legend()
    for ax in (rewards, ratios, loss, accuracy):
        ax.set_xlabel("optimiser steps (line: training, dots: held out)")
    unfinished = file.with_name(file.name + ".unfinished")
    figure.savefig(unfinished, format="png", dpi=120)
    unfinished.replace(file)
