"""Build the site in book/_build/html: execute the chapters, mirror the sources, run Sphinx.

Sphinx reads a mirror of the book's sources, in which each notebook is the executed one;
the stored notebooks stay as they are. Nothing is built again unless a source changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from execute import ROOT, ChapterError, execute_chapters
from nbformat import NotebookNode

BUILD = ROOT / "book" / "_build"
HTML = BUILD / "html"


def mirror(root: Path, chapters: dict[Path, NotebookNode], target: Path) -> None:
    """Copy the book's sources to `target`, with the executed chapters in place of the stored."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(
        root / "book", target / "book", ignore=shutil.ignore_patterns("_build", "__pycache__")
    )
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(root / name, target / name)
    (target / "notebooks").mkdir()
    for path, notebook in chapters.items():
        nbformat.write(notebook, target / "notebooks" / path.name)


def content_hash(folder: Path, *more: Path) -> str:
    """One hash of the place and bytes of every file in a folder, and of `more` files."""
    digest = hashlib.sha256()
    for path in [*sorted(p for p in folder.rglob("*") if p.is_file()), *more]:
        place = path.relative_to(folder) if path.is_relative_to(folder) else path.name
        digest.update(f"{place}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def run_sphinx(source: Path) -> int:
    """Build everything afresh, warnings as errors; the old site is replaced only by a whole one.

    Afresh, because an incremental build does not repeat the warnings of unchanged pages.
    """
    fresh = BUILD / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(source)]
    command += ["--path-output", str(fresh), "-W", "-n", "--keep-going", "--quiet"]
    # Its own report names the temporary folder; warnings and errors come by stderr.
    status = subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode
    if status == 0:
        shutil.rmtree(HTML, ignore_errors=True)
        (fresh / "_build" / "html").rename(HTML)
    shutil.rmtree(fresh, ignore_errors=True)
    return status


def build() -> int:
    """Execute and build what changed, then say where the book is; 1 where something failed."""
    try:
        chapters = execute_chapters(ROOT)
    except ChapterError as error:
        print(error, file=sys.stderr)
        return 1
    source, stamp = BUILD / "source", BUILD / "site.key"
    mirror(ROOT, chapters, source)
    key = content_hash(source, ROOT / "constraints.txt")
    if (HTML / "index.html").is_file() and stamp.is_file() and stamp.read_text() == key:
        print("   site unchanged", flush=True)
    else:
        begin = time.monotonic()
        if status := run_sphinx(source):
            print("The book was not built: see the warnings above.", file=sys.stderr)
            return status
        stamp.write_text(key)
        print(f"   site: {time.monotonic() - begin:.1f} s", flush=True)
    print(f"The book is at {HTML / 'index.html'}\n  open {(HTML / 'index.html').as_uri()}")
    return 0


def main() -> int:
    """Build, one build at a time in a checkout."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return build()


if __name__ == "__main__":
    sys.exit(main())
