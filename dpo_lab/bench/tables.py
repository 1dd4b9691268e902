"""What a small benchmark measured: one table, printed and kept as JSON and as Markdown."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lab.bench.report import describe_surroundings, markdown_table
from dpo_lab.training.run_folder import write_atomically
from dpo_lab.training.surroundings import processor, surroundings


@dataclass(frozen=True)
class Table:
    """A header, rows of finished text, and a sentence on how they came about."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str

    def results(self) -> dict[str, Any]:
        """Everything that is kept."""
        rows = [list(row) for row in self.rows]
        return {
            "surroundings": surroundings() | processor(),
            "note": self.note,
            "header": list(self.header),
            "rows": rows,
        }


def table_markdown(results: Mapping[str, Any] | None) -> str:
    """The table as the book shows it; None: nothing was measured yet."""
    if results is None:
        return "Not yet measured.\n"
    table = markdown_table(results["header"], results["rows"])
    return f"{results['note']} {describe_surroundings(results)}\n\n{table}\n"


def publish(table: Table, arguments: Sequence[str] | None = None) -> None:
    """Print the table; with `--output file.json` on the command line, keep it there."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, help="file.json; file.md is written beside it")
    file = parser.parse_args(arguments).output
    results = table.results()
    print(table_markdown(results))
    if file is not None:
        write_atomically(file, json.dumps(results, indent=1) + "\n")
        write_atomically(file.with_suffix(".md"), table_markdown(results))
