"""What each stored chapter must look like, whatever it teaches."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
import yaml
from conftest import ROOT
from normalise import EXCUSED_TAG, SIZE_LIMIT, normalise, text_of
from repository import SETUP_TAGS

CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MACHINE_PATH = re.compile(r"(/root/|/home/\w|/Users/\w|/tmp/|/content/|[A-Z]:\\\\Users)")

chapters = pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]


def test_the_contents_name_every_chapter():
    text = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["root"] == "book/intro"
    assert re.findall(r"file: notebooks/(\S+)", text) == [path.stem for path in CHAPTERS]


@chapters
def test_a_chapter_is_stored_without_what_changes_from_run_to_run(path):
    text = path.read_text(encoding="utf-8")
    assert text == text_of(normalise(nbformat.read(path, as_version=4))), "run `make notebooks`"
    assert len(text.encode()) <= SIZE_LIMIT
    assert MACHINE_PATH.findall(text) == []


@chapters
def test_a_chapter_stores_a_clean_run(path):
    cells = code_cells(path)
    kinds = {(o.output_type, o.get("name")) for cell in cells for o in cell.outputs}
    assert ("stream", "stderr") not in kinds
    assert "error" not in {kind for kind, _ in kinds}
    assert sum(bool(cell.outputs) for cell in cells) > 2, "run `make notebooks`"


@chapters
def test_a_chapter_is_compared_and_asserts(path):
    first, *cells = code_cells(path)
    assert first.metadata.get("tags") == SETUP_TAGS
    excused = [cell for cell in cells if EXCUSED_TAG in cell.metadata.get("tags", [])]
    assert len(excused) * 2 <= len(cells), "most outputs must be compared with the stored ones"
    assert any(re.search(r"^\s*assert ", cell.source, re.MULTILINE) for cell in cells)


@chapters
def test_every_figure_is_described(path):
    def draws(cell: nbformat.NotebookNode) -> bool:
        return any("image/png" in output.get("data", {}) for output in cell.outputs)

    undescribed = [
        cell.source[:60]
        for cell in filter(draws, code_cells(path))
        if len(cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "").split()) < 5
    ]
    assert undescribed == [], "say in the cell's metadata, mystnb.image.alt, what the figure shows"
