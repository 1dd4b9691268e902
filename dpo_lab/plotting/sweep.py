"""The points of a sweep on the plane of KL and reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dpo_lab.plotting.policies import draw_family
from dpo_lab.plotting.style import COLORS, use_style

_ROLES = ("policy", "rejected", "chosen", "reward", "highlight", "extra")


def draw_sweep(ax: Axes, points: Sequence[Mapping[str, Any]], along: str) -> Axes:
    """Points joined along one setting; points that differ in another are lines of their own.

    points: `settings` (name to value), `kl` and `reward`, each with `kl_error`, `reward_error`.
    along: the setting whose values are written beside the points.
    """
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for point in points:
        rest = {k: v for k, v in point["settings"].items() if k != along}
        lines.setdefault(", ".join(f"{k} {v}" for k, v in rest.items()), []).append(point)
    for place, (label, members) in enumerate(lines.items()):
        members = sorted(members, key=lambda point: point["settings"][along])
        column = {key: [point[key] for point in members] for key in ("kl", "reward")}
        errors = tuple([point[f"{key}_error"] for point in members] for key in ("kl", "reward"))
        draw_family(
            ax,
            column["kl"],
            column["reward"],
            [str(point["settings"][along]) for point in members],
            label=label or along,
            color=COLORS[_ROLES[place % len(_ROLES)]],
            marker="os^Dv<"[place // len(_ROLES) % 6],
            errors=errors,
        )
    ax.legend(title=None if len(lines) == 1 else f"numbers: {along}")
    return ax


def save_sweep(points: Sequence[Mapping[str, Any]], along: str, reward: str, file: Path) -> None:
    """`draw_sweep`, written to `file` as PNG. reward: the name of the second axis."""
    use_style()
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    ax = draw_sweep(figure.subplots(), points, along)
    ax.set(xlabel="KL on the policy's own answers (nats)", ylabel=reward)
    unfinished = file.with_name(file.name + ".unfinished")
    figure.savefig(unfinished, format="png", dpi=120)
    unfinished.replace(file)
