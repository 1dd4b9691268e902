"""One look for all figures: white ground (the dark theme keeps it), colour-blind-safe colours."""

from __future__ import annotations

import matplotlib as mpl

# Okabe & Ito's palette, by role, so that one thing has one colour in the whole book.
COLORS = {
    "reference": "#7f7f7f",
    "policy": "#0072B2",
    "chosen": "#009E73",
    "rejected": "#D55E00",
    "reward": "#CC79A7",
    "theory": "#000000",
    "highlight": "#E69F00",
    "extra": "#56B4E9",
}


def use_style() -> None:
    """Make every later figure of this process look like the book's."""
    mpl.rcParams.update(
        {
            "figure.figsize": (6.4, 3.6),
            "figure.dpi": 100,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "white",
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": mpl.cycler(
                color=[
                    COLORS[role]
                    for role in ("policy", "rejected", "chosen", "reward", "highlight", "extra")
                ]
            ),
            "grid.color": "#dddddd",
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.8,
            "font.size": 10,
            "axes.titlesize": 11,
            "legend.frameon": False,
        }
    )
