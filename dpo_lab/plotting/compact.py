"""Show a figure as a small PNG, for chapters with many figures."""

from __future__ import annotations

import io

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

PALETTE = 64  # colours; the figures use a few inks and their shades at the edges of lines


def png_of(figure: Figure) -> bytes:
    """The figure as a PNG of at most `PALETTE` colours: about a quarter of the usual bytes."""
    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=figure.dpi, bbox_inches="tight")
    Image.open(drawn).convert("RGB").quantize(PALETTE).save(packed, "PNG", optimize=True)
    return packed.getvalue()


def show(figure: Figure) -> None:
    """Show the figure in the notebook in place of `plt.show()`, and close it."""
    from IPython.display import Image as Shown
    from IPython.display import display

    display(Shown(png_of(figure)))
    plt.close(figure)
