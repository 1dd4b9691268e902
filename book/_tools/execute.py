"""Execute the chapters, two at a time, and remember the outputs until something changes.

`python book/_tools/execute.py` re-executes the stored notebooks in place (`make notebooks`);
`make_site.py` uses the same runs for the built pages. A run is remembered under a hash of
the notebook's code, every file of the library and the pinned versions.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from normalise import METADATA, SIZE_LIMIT, normalise, same_but_for_excused, text_of

ROOT = Path(__file__).resolve().parents[2]
REMEMBERED = Path("book/_build/executed")
AT_ONCE = 2
CELL_SECONDS = 300


class ChapterError(Exception):
    """A cell of a chapter failed; the message names the notebook and the cell."""


def library_hash(root: Path) -> str:
    """One hash of all that a chapter's outputs depend on besides its own cells."""
    digest = hashlib.sha256(sys.version.encode())
    files = [p for p in (root / "dpo_lab").rglob("*") if p.is_file() and p.suffix != ".pyc"]
    for path in [*sorted(files), root / "constraints.txt"]:
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def run_key(notebook: NotebookNode, library: str) -> str:
    """The hash under which a run is remembered: prose may change without a new run."""
    code = [(c.source, c.metadata.get("tags", [])) for c in _code_cells(notebook)]
    return hashlib.sha256(json.dumps([library, code]).encode()).hexdigest()


def execute_chapters(root: Path, *, again: bool = False) -> dict[Path, NotebookNode]:
    """Each notebook of the book with the outputs of a run on today's library.

    Raises:
        ChapterError: a cell failed; every failed notebook is named with its cell.
    """
    library = library_hash(root)
    chapters = {
        path: nbformat.read(path, as_version=4) for path in sorted(root.glob("notebooks/*.ipynb"))
    }
    remembered = root / REMEMBERED
    remembered.mkdir(parents=True, exist_ok=True)
    waiting = {}
    for path, notebook in chapters.items():
        run = _recall(remembered / path.name, run_key(notebook, library))
        if again or run is None:
            waiting[path] = notebook
        else:
            _carry_outputs(run, notebook)
    if same := len(chapters) - len(waiting):
        print(f"   {same} of {len(chapters)} chapters unchanged", flush=True)
    if waiting:
        os.environ["OMP_NUM_THREADS"] = "1"  # two kernels share the cores
        asyncio.run(_run_all(waiting, library, remembered))
    return chapters


async def _run_all(waiting: dict[Path, NotebookNode], library: str, remembered: Path) -> None:
    slots = asyncio.Semaphore(AT_ONCE)
    done = 0

    async def run_one(path: Path, notebook: NotebookNode) -> None:
        nonlocal done
        async with slots:
            begin = time.monotonic()
            await _run(path, notebook)
            done += 1
            seconds = time.monotonic() - begin
            print(f"   {path.name}: {seconds:.1f} s ({done} of {len(waiting)})", flush=True)
        notebook.metadata["run_key"] = run_key(notebook, library)
        (remembered / path.name).write_text(text_of(notebook), encoding="utf-8")

    results = await asyncio.gather(
        *(run_one(*each) for each in waiting.items()), return_exceptions=True
    )
    failures = [each for each in results if isinstance(each, BaseException)]
    for failure in failures:
        if not isinstance(failure, ChapterError):
            raise failure
    if failures:
        raise ChapterError("\n".join(map(str, failures)))


async def _run(path: Path, notebook: NotebookNode) -> None:
    """Execute `notebook` where it stands; its outputs and widget state are replaced."""
    current = 0

    def note(cell: NotebookNode, cell_index: int) -> None:
        nonlocal current
        current = cell_index

    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        record_timing=False,
        coalesce_streams=True,
        on_cell_execute=note,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(path.parent)}},
    )
    notebook.metadata = nbformat.from_dict(METADATA)
    try:
        await client.async_execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        where = f"{path.parent.name}/{path.name}, cell {current} (counted from 0)"
        raise ChapterError(f"{where} failed:\n{error}") from error


def _recall(path: Path, key: str) -> NotebookNode | None:
    """The remembered run of a notebook, if it is still valid."""
    if not path.is_file():
        return None
    run = nbformat.read(path, as_version=4)
    return run if run.metadata.get("run_key") == key else None


def _carry_outputs(run: NotebookNode, notebook: NotebookNode) -> None:
    """Put a remembered run's outputs, kernel and widget state into a notebook of the same code."""
    for ran, cell in zip(_code_cells(run), _code_cells(notebook), strict=True):
        cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
    notebook.metadata = run.metadata


def _code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def store(chapters: dict[Path, NotebookNode]) -> Iterable[str]:
    """Write the executed chapters where something changed; yields a line for each notebook.

    Raises:
        ChapterError: a notebook would be too large for the repository.
    """
    for path, notebook in chapters.items():
        new, old = normalise(notebook), nbformat.read(path, as_version=4)
        text = text_of(new)
        if len(text.encode()) > SIZE_LIMIT:
            size = len(text.encode()) // 1000
            raise ChapterError(f"{path.name}: {size} kB, over the {SIZE_LIMIT // 1000} kB limit")
        if same_but_for_excused(new, old):
            yield f"   {path.name}: outputs as stored"
        else:
            path.write_text(text, encoding="utf-8")
            yield f"   {path.name}: new outputs stored"


def main() -> int:
    """Re-execute and store the chapters; the exit status is 1 where a cell failed."""
    parser = argparse.ArgumentParser(description="Re-execute the notebooks in place.")
    parser.add_argument("--again", action="store_true", help="run even what has not changed")
    asked = parser.parse_args()
    try:
        for line in store(execute_chapters(ROOT, again=asked.again)):
            print(line)
    except ChapterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
