"""The bibliography holds what is cited, all of it and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import nbformat
from conftest import ROOT

from dpo_lab.losses import LOSSES

CITATION = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")
NOTE = re.compile(r"\{[^}]*\}")  # "see" and "eq. 3" around a key
BIB = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")


def texts() -> Iterator[str]:
    """The prose of every page and chapter."""
    for page in sorted((ROOT / "book").glob("*.md")):
        yield page.read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                yield cell.source


def cited() -> set[str]:
    roles = [found for text in texts() for found in CITATION.findall(text)]
    return {key.strip() for role in roles for key in NOTE.sub("", role).split(",")}


def entries() -> list[str]:
    return re.findall(r"^@\w+\{(\w+),$", BIB, re.MULTILINE)


def test_every_entry_is_cited_and_every_citation_has_an_entry():
    assert sorted(entries()) == sorted(cited())


def test_the_sources_of_the_losses_are_named():
    """A loss that no chapter treats yet has its source in the table alone, with an address."""
    for name, spec in LOSSES.items():
        assert re.fullmatch(r"[a-z]+\d{4}[a-z]*", spec.paper), name
        assert re.fullmatch(r"\d{4}\.\d{5}|https://\S+", spec.arxiv), name


def test_no_entry_is_marked_as_unchecked():
    assert "checkme" not in BIB
