"""Figures on probability that leaves both answers of a pair: a score beside what was measured."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from dpo_lab.plotting.style import COLORS


def draw_score(ax: Axes, scores: ArrayLike, changes: ArrayLike) -> Axes:
    """One dot a pair: its score, and how the chosen log-probability changed; below 0 it fell.

    scores, changes: (pairs,), the changes in nats.
    """
    scores, changes = np.asarray(scores), np.asarray(changes)
    for fell, role, label in ((False, "policy", "rose"), (True, "rejected", "fell")):
        of = (changes < 0) == fell
        style = {"color": COLORS[role], "markersize": 3, "alpha": 0.5}
        ax.plot(scores[of], changes[of], "o", label=label, **style)
    ax.axhline(0, color="#7f7f7f", linewidth=1)
    return ax
