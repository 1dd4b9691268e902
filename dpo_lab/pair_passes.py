"""One pass over the rows of a source: usable ones are handed on, odd ones are reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from dpo_lab.errors import InputError
from dpo_lab.pair_files import RawTable
from dpo_lab.pair_rows import RowProblemError, parse_pair, parse_unpaired
from dpo_lab.pair_types import OddRow, PairReport


class Form(NamedTuple):
    """How one kind of row is read: the columns it needs, and what other columns would mean."""

    parse: Callable[[Any, int | None], Any]
    needed: set[str]
    accepted: str
    hint: str = ""


PAIRED = Form(
    parse_pair,
    {"chosen", "rejected"},
    "chosen and rejected, with or without prompt",
    "; these look like unpaired examples, which read_unpaired reads",
)
UNPAIRED = Form(
    parse_unpaired,
    {"prompt", "completion", "label"},
    "prompt, completion and label",
    "; these look like pairs, which read_pairs reads",
)
EITHER = PAIRED._replace(
    accepted="chosen and rejected (pairs), or prompt, completion and label", hint=""
)


def is_unpaired(table: RawTable) -> bool:
    """Whether the columns are those of unpaired examples alone: one pair says no.

    Where each row has its own columns, all rows may have to be seen, and are read twice.
    """
    rows = iter(()) if table.fixed else iter(table)
    found = set(table.columns)
    while not found >= PAIRED.needed and next(rows, None) is not None:
        found = set(table.columns)
    return found >= UNPAIRED.needed and not found >= PAIRED.needed


def _check_columns(table: RawTable, form: Form) -> None:
    """Raise if no row can have the needed fields."""
    found = set(table.columns)
    # No columns at all means that no row is an object; each is then reported by itself.
    if not found or form.needed <= found:
        return
    other = UNPAIRED if form.parse is parse_pair else PAIRED
    hint = form.hint if other.needed <= found else ""
    names = ", ".join(map(repr, table.columns))
    raise InputError(
        f"{table.source}: wrong columns, found {names}; accepted are {form.accepted}{hint}"
    )


def collect(
    table: RawTable,
    form: Form,
    odd: str,
    max_chars: int | None,
    keep: Callable[[Iterator[Any]], Sequence[Any]],
) -> tuple[Sequence[Any], PairReport]:
    """One pass: usable rows go to `keep`, odd ones into the report; then the whole is judged."""
    source = str(table.source)
    odd_rows: list[OddRow] = []
    first_of: dict[bool, int] = {}  # the first row with a text prompt, and with a conversation

    def usable() -> Iterator[Any]:
        for row in table:
            try:
                if row.reason is not None:
                    raise RowProblemError(row.reason, detail=row.detail)
                example = form.parse(row.value, max_chars)
            except RowProblemError as problem:
                found = (problem.field, problem.reason, problem.detail)
                odd_rows.append(OddRow(source, row.number, *found))
            else:
                first_of.setdefault(isinstance(example.prompt, str), row.number)
                yield example

    examples = keep(usable())
    _check_columns(table, form)
    report = PairReport(source, len(examples), tuple(odd_rows))
    if odd_rows and odd == "strict":
        raise InputError(report.table(limit=20))
    if len(first_of) == 2:
        # One would go through the chat template and the other not: two kinds of prompt in one run.
        raise InputError(
            f"{source}: the prompts have no common format; prompt is text in row {first_of[True]} "
            f"and a conversation in row {first_of[False]}"
        )
    return examples, report
