"""Show a figure as a small PNG, for chapters with many figures."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

PALETTE = 64  # colours; the figures use a few inks and their shades at the edges of lines


class Shown:
    """A drawn figure: as the last value of a notebook's cell it is shown as `png`."""

    def __init__(self, png: bytes) -> None:
        self.png = png

    def _repr_png_(self) -> bytes:
        return self.png

    def __repr__(self) -> str:
        return "<a figure>"


def show(figure: Figure) -> Shown:
    """Close the figure and return it as a PNG of `PALETTE` colours, a quarter of the usual bytes.

    It stands in the last line of a cell, in place of `plt.show()`.
    """
    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=figure.dpi, bbox_inches="tight")
    plt.close(figure)
    Image.open(drawn).convert("RGB").quantize(PALETTE).save(packed, "PNG", optimize=True)
    return Shown(packed.getvalue())
