"""The benchmark's figure: pairs a second, a bar a contender."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dpo_lab.plotting.style import COLORS, use_style

Bar = tuple[str, float, str]  # label, pairs a second, contender


def draw_speeds(ax: Axes, bars: Sequence[Bar]) -> Axes:
    """Horizontal bars from the top, each with its number; TRL's grey, this library's blue."""
    colors = [COLORS["reference" if who.startswith("trl") else "policy"] for _, _, who in bars]
    drawn = ax.barh(range(len(bars)), [speed for _, speed, _ in bars], color=colors)
    ax.bar_label(drawn, fmt="%.3g", padding=3)
    ax.set_yticks(range(len(bars)), [label for label, _, _ in bars])
    ax.invert_yaxis()
    ax.margins(x=0.15)
    ax.set(xlabel="pairs a second")
    ax.grid(visible=False, axis="y")
    return ax


def save_speeds(panels: Mapping[str, Sequence[Bar]], file: Path) -> None:
    """One panel a model, under each other, written to `file` as PNG."""
    use_style()
    rows = [len(bars) for bars in panels.values()]
    figure = Figure(figsize=(5, sum(0.32 * count + 0.8 for count in rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), squeeze=False, height_ratios=rows)[:, 0]
    for ax, (name, bars) in zip(axes, panels.items(), strict=True):
        draw_speeds(ax, bars).set(title=name)
    figure.savefig(file, dpi=110)
