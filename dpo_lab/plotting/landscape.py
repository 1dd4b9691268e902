"""Loss surfaces: over the two log-ratios of a pair, and around a point in weight space."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dpo_lab.landscape import PairSurface, WeightSurface
from dpo_lab.plotting.style import COLORS, use_style

ARROWS = 11  # a side; more than that is a texture, not a field


def draw_pair_surface(ax: Axes, surface: PairSurface) -> Axes:
    """Contours of the loss, arrows downhill, and the null direction through the reference."""
    chosen, rejected = surface.chosen.numpy(), surface.rejected.numpy()
    contours = ax.contour(chosen, rejected, surface.losses.T.numpy(), levels=10, cmap="viridis")
    ax.clabel(contours, fontsize=8, fmt="%.2g")
    every = max(1, len(chosen) // ARROWS), max(1, len(rejected) // ARROWS)
    ax.quiver(
        chosen[:: every[0]],
        rejected[:: every[1]],
        -surface.grad_chosen[:: every[0], :: every[1]].T.numpy(),
        -surface.grad_rejected[:: every[0], :: every[1]].T.numpy(),
        color=COLORS["reference"],
        width=0.004,
    )
    ax.axline((0, 0), slope=1, color=COLORS["highlight"], linestyle="--", label="margin 0")
    ax.set(xlabel="log-ratio of chosen (nats)", ylabel="log-ratio of rejected (nats)")
    ax.legend(loc="lower right")
    return ax


def draw_weight_surface(ax: Axes, surface: WeightSurface) -> Axes:
    """Contours of the loss on a plane in weight space, with the trained weights in the middle."""
    contours = ax.contour(
        surface.x.numpy(), surface.y.numpy(), surface.losses.T.numpy(), levels=12, cmap="viridis"
    )
    ax.clabel(contours, fontsize=8, fmt="%.3g")
    ax.plot(0, 0, "o", color=COLORS["highlight"], label="the weights")
    ax.set(xlabel="first direction", ylabel="second direction")
    ax.legend(loc="lower right")
    return ax


def save_weight_surface(surface: WeightSurface, file: Path) -> None:
    """`draw_weight_surface` written to `file` as PNG."""
    use_style()
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    FigureCanvasAgg(figure)  # no display is needed or looked for
    draw_weight_surface(figure.subplots(), surface)
    unfinished = file.with_name(file.name + ".unfinished")
    figure.savefig(unfinished, format="png", dpi=120)
    unfinished.replace(file)
