"""The book's figures: one look, one function a figure, each takes arrays and an `ax`.

`style` sets the look; the other modules draw. A drawing function never creates data, never
saves, and returns the `ax` it drew on.
"""

from __future__ import annotations

from dpo_lab.plotting.style import COLORS, use_style

__all__ = ["COLORS", "use_style"]
