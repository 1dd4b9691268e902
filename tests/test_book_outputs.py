"""What the book's run of each chapter put out is what the notebook in the repository holds.

The comparison is nbval's own, strict. The book has just executed every chapter, so a second run
would tell nothing new; some chapters are run once more by nbval itself, far from this repository
(test_notebooks_alone.py).
"""

from __future__ import annotations

from types import SimpleNamespace

import nbformat
import pytest
from conftest import ROOT
from execute import REMEMBERED, library_hash, run_key
from nbval.plugin import IPyNbCell, get_sanitize_patterns, nocolors

pytestmark = pytest.mark.browser  # it needs the built book
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# As IPyNbFile has them: what differs from run to run, and pictures.
SKIPPED = ("metadata", "traceback", "prompt_number", "output_type", "name", "execution_count")
SKIPPED += ("application/vnd.jupyter.widget-view+json", "image/png", "image/jpeg")


@pytest.fixture(scope="module")
def library() -> str:
    return library_hash(ROOT)


@pytest.fixture(scope="module")
def comparer(request: pytest.FixtureRequest) -> IPyNbCell:
    """nbval's cell, in this test's session and not in one of nbval's own."""
    cell = object.__new__(IPyNbCell)
    cell.session, cell.config, cell.path = request.session, request.config, request.path
    patterns = dict(get_sanitize_patterns((ROOT / "tests" / "nbval_sanitize.cfg").read_text()))
    cell.parent = SimpleNamespace(skip_compare=SKIPPED, sanitize_patterns=patterns)
    cell.colors = nocolors
    return cell


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_book_ran_to_what_is_stored(path, library, comparer) -> None:
    stored = nbformat.read(path, as_version=4)
    run = nbformat.read(ROOT / REMEMBERED / path.name, as_version=4)
    assert run.metadata["run_key"] == run_key(stored, library), "make book first"
    compared = 0
    for number, (ran, kept) in enumerate(zip(run.cells, stored.cells, strict=True)):
        if kept.cell_type != "code" or "nbval-ignore-output" in kept.metadata.get("tags", []):
            continue
        same = comparer.compare_outputs(ran.outputs, kept.outputs)
        assert same, f"cell {number}: " + "\n".join(comparer.comparison_traceback)
        compared += 1
    assert compared > 1
