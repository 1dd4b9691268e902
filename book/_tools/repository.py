"""The repository's address: read from pyproject.toml, carried to every place that names it.

`python book/_tools/repository.py` puts today's address everywhere (also the set-up cell and
the Colab link into a new chapter), `... URL` moves the project, `... --check` only looks.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from normalise import text_of

ROOT = Path(__file__).resolve().parents[2]
SOURCE = re.compile(r'(?<=^Repository = ")[^"]*(?="$)', re.MULTILINE)
ADDRESS = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")

# Where else the address, or its owner/name, stands in a file of text.
COLAB = "https://colab.research.google.com/github/"
PLACES = {
    "_config.yml": [r"(?<=^  url: )\S+"],
    "CITATION.cff": [r"(?<=^repository-code: )\S+"],
    "README.md": [r"(?<=git clone )[^\s`]+", rf"(?<={re.escape(COLAB)})[\w.-]+/[\w.-]+"],
    "book/*.md": [r"(?<=git clone )[^\s`]+", rf"(?<={re.escape(COLAB)})[\w.-]+/[\w.-]+"],
}

SETUP_TAGS = ["setup", "nbval-ignore-output", "hide-cell"]
SETUP_CELL = """\
# Uses the installed dpo_lab, else the clone around this notebook, else installs it (Colab).
import importlib.util
import subprocess
import sys
from pathlib import Path

if getattr(importlib.util.find_spec("dpo_lab"), "origin", None) is None:
    folders = [Path.cwd(), *Path.cwd().parents]
    clone = next((f for f in folders if (f / "dpo_lab" / "notebook.py").is_file()), None)
    if clone:
        sys.path.insert(0, str(clone))
    else:
        wanted = "dpo_lab[train] @ git+{address}"
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", wanted], check=True)
    importlib.invalidate_caches()

importlib.import_module("dpo_lab.notebook").setup()
"""


def address(root: Path) -> str:
    """The one address, from pyproject.toml."""
    return SOURCE.search((root / "pyproject.toml").read_text(encoding="utf-8"))[0]


def setup_cell(url: str) -> str:
    """The text of the set-up cell that every chapter carries."""
    return SETUP_CELL.format(address=url).rstrip("\n")


def colab_line(url: str, notebook: str) -> str:
    """The line under a chapter's title that opens it on Colab."""
    name = url.removeprefix("https://github.com/")
    return f"[Open in Colab]({COLAB}{name}/blob/main/notebooks/{notebook})"


def with_address(url: str, root: Path) -> Iterator[tuple[Path, str]]:
    """Every file that follows the address, with the text it has when `url` is the address."""
    pyproject = root / "pyproject.toml"
    yield pyproject, SOURCE.sub(url, pyproject.read_text(encoding="utf-8"))
    name = url.removeprefix("https://github.com/")
    for glob, patterns in PLACES.items():
        for path in sorted(root.glob(glob)):
            text = path.read_text(encoding="utf-8")
            for pattern in patterns:
                value = name if COLAB in pattern.replace("\\", "") else url
                text = re.sub(pattern, value, text, flags=re.MULTILINE)
            yield path, text
    for path in sorted(root.glob("notebooks/*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        _address_notebook(notebook, url, path.name)
        yield path, text_of(notebook)


def _address_notebook(notebook: NotebookNode, url: str, name: str) -> None:
    """Put the Colab line under the title and the set-up cell after the first cell."""
    title, line = notebook.cells[0], colab_line(url, name)
    lines = title.source.split("\n")
    if len(lines) > 2 and lines[2].startswith("[Open in Colab]("):
        lines[2] = line
    else:
        lines[1:1] = ["", line]
    title.source = "\n".join(lines)
    cells = [cell for cell in notebook.cells if "setup" in cell.metadata.get("tags", [])]
    if not cells:
        cells = [nbformat.v4.new_code_cell(id="setup")]
        notebook.cells.insert(1, cells[0])
    cells[0].source, cells[0].metadata["tags"] = setup_cell(url), SETUP_TAGS


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Carry the address everywhere or, with --check, name the files that do not follow it."""
    parser = argparse.ArgumentParser(description="Carry the repository's address everywhere.")
    parser.add_argument("url", nargs="?", help="the new address, https://github.com/OWNER/NAME")
    parser.add_argument("--check", action="store_true", help="change nothing; 1 if a file differs")
    asked = parser.parse_args(arguments)
    url = (asked.url or address(root)).removesuffix("/").removesuffix(".git")
    if not ADDRESS.fullmatch(url):
        parser.error(f"{url!r} is not https://github.com/OWNER/NAME (Colab opens only GitHub's)")
    stale = [
        (path, text)
        for path, text in with_address(url, root)
        if path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        print(path.relative_to(root), "differs" if asked.check else "rewritten")
        if not asked.check:
            path.write_text(text, encoding="utf-8")
    print(f"{url}: {len(stale)} files {'differ' if asked.check else 'rewritten'}")
    return int(asked.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
