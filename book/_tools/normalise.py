"""What a stored notebook keeps of a run: its outputs, and nothing that changes from run to run."""

from __future__ import annotations

import base64
import io
import re
import uuid
from copy import deepcopy

import nbformat
from nbformat import NotebookNode
from PIL import Image, ImageChops

KEPT_CELL_METADATA = frozenset({"tags", "mystnb"})
EXCUSED_TAG = "nbval-ignore-output"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{8,}")
SIZE_LIMIT = 400_000
PALETTE = 256
UNSEEN = 24  # of 255: how far a colour may move when a figure is given a palette
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def normalise(notebook: NotebookNode) -> NotebookNode:
    """A copy of `notebook` without widget state, timings, kernel versions and random ids.

    Its figures are packed (`pack_figure`).
    """
    notebook = deepcopy(notebook)
    notebook.metadata = nbformat.from_dict(METADATA)
    count = 0
    for cell in notebook.cells:
        cell.metadata = NotebookNode(
            {name: value for name, value in cell.metadata.items() if name in KEPT_CELL_METADATA}
        )
        if cell.cell_type == "code":
            count += bool(cell.source.strip())
            cell.execution_count = count if cell.source.strip() else None
            _settle_outputs(cell)
    return notebook


def _settle_outputs(cell: NotebookNode) -> None:
    """Number the results as the cell is numbered; make ids and memory addresses the same."""
    for place, output in enumerate(cell.outputs):
        if output.output_type == "execute_result":
            output.execution_count = cell.execution_count
        data = output.get("data", {})
        if WIDGET_VIEW in data:
            name = f"{cell.id}/{place}"
            data[WIDGET_VIEW]["model_id"] = uuid.uuid5(uuid.NAMESPACE_OID, name).hex
        if "text/plain" in data:
            data["text/plain"] = ADDRESS.sub(" at 0x0", data["text/plain"])
        if "image/png" in data:
            png = pack_figure(base64.b64decode(data["image/png"]))
            data["image/png"] = base64.b64encode(png).decode()


def pack_figure(png: bytes) -> bytes:
    """The same picture in fewer bytes: a palette where no colour moves visibly, else lossless.

    Only opaque RGBA images, as matplotlib writes them, are packed. The result is never
    one of these, so that packing it again returns it unchanged.
    """
    image = Image.open(io.BytesIO(png))
    if image.mode != "RGBA" or image.getchannel("A").getextrema() != (255, 255):
        return png
    image = image.convert("RGB")
    coverage, no_dither = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    few = image.quantize(PALETTE, method=coverage, kmeans=1, dither=no_dither)
    moved = ImageChops.difference(image, few.convert("RGB")).getextrema()
    packed = io.BytesIO()
    (few if max(most for _, most in moved) <= UNSEEN else image).save(packed, "PNG", optimize=True)
    return packed.getvalue()


def text_of(notebook: NotebookNode) -> str:
    """The file's text: sorted keys, one indent, one newline at the end."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def same_but_for_excused(one: NotebookNode, other: NotebookNode) -> bool:
    """Whether two notebooks differ at most in the outputs that nbval is told not to compare.

    Such outputs (timings, progress bars) differ on every run: they alone are no reason
    to change a stored notebook.
    """

    def compared(notebook: NotebookNode) -> str:
        notebook = deepcopy(notebook)
        for cell in notebook.cells:
            if EXCUSED_TAG in cell.metadata.get("tags", []):
                cell.outputs = []
        return text_of(notebook)

    return compared(one) == compared(other)
