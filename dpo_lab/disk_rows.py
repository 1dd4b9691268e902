"""Rows of text or of token ids on the disk: written once, one after the other, then read by number.

The file is Arrow's own format, mapped into memory. The system keeps as much of it in memory as
there is room for and lets go of it when something else needs the room; what this process holds
itself is a few bytes a row.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
from pyarrow import ipc

from dpo_lab.encoded import EncodedPair, EncodedResponse
from dpo_lab.lazy_rows import LazyRows, Row, in_batches
from dpo_lab.pair_types import Message, PreferencePair, Prompt, UnpairedExample

BATCH = 250  # rows in memory while they are written


class _Form(NamedTuple):
    """How a type of row becomes plain columns, and a row of these the same row again."""

    columns: dict[str, pyarrow.DataType]
    flat: Callable[[Any], tuple]
    row: Callable[..., Any]


def write_rows(file: Path, rows: Iterable[Row]) -> LazyRows[Row]:
    """Write rows of one type and open them: the same rows, read from the disk when asked for.

    Preference pairs, unpaired examples, encoded pairs and encoded responses can be written. The
    file must stay as long as its rows are in use. Raises `OSError` where it cannot be written.
    """
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return LazyRows(0, [].__getitem__)
    form = _FORMS[type(first)]
    schema = pyarrow.schema(list(form.columns.items()))
    with file.open("wb") as sink, ipc.new_file(sink, schema) as writer:
        for batch in in_batches(itertools.chain([first], rows), BATCH):
            columns = zip(*map(form.flat, batch), strict=True)
            arrays = list(map(_array, columns, schema.types))
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
    return _open(file, form)


def _open(file: Path, form: _Form) -> LazyRows:
    table = ipc.open_file(pyarrow.memory_map(str(file))).read_all()
    columns = table.columns
    return LazyRows(len(table), lambda i: form.row(*(_value(column[i]) for column in columns)))


def _array(cells: Sequence[Any], kind: pyarrow.DataType) -> pyarrow.Array:
    if kind != _IDS:
        return pyarrow.array(cells, type=kind)
    # As one block: pyarrow looks at each id by itself, which takes as long as making them.
    values, ends = array("i"), [0]
    for ids in cells:
        values.fromlist(ids)
        ends.append(len(values))
    block = [None, pyarrow.py_buffer(values)]
    ids = pyarrow.Array.from_buffers(pyarrow.int32(), len(values), block)
    return pyarrow.ListArray.from_arrays(pyarrow.array(ends, pyarrow.int32()), ids)


def _value(cell: pyarrow.Scalar) -> Any:
    """The cell in Python's own types; of token ids at once, since one by one is slow."""
    if cell.type == _IDS:
        return cell.values.to_numpy().tolist()
    return cell.as_py()


def _flat_prompt(prompt: Prompt) -> tuple[str | None, list[str] | None, list[str] | None]:
    if isinstance(prompt, str):
        return prompt, None, None
    return None, [message.role for message in prompt], [message.content for message in prompt]


def _prompt(text: str | None, roles: list[str] | None, contents: list[str] | None) -> Prompt:
    return tuple(map(Message, roles, contents)) if text is None else text


_IDS = pyarrow.list_(pyarrow.int32())
_TEXT = pyarrow.large_string()
_PROMPT = {"text": _TEXT, "roles": pyarrow.list_(_TEXT), "contents": pyarrow.list_(_TEXT)}
_FORMS = {
    PreferencePair: _Form(
        _PROMPT | {"chosen": _TEXT, "rejected": _TEXT, "margin": pyarrow.float64()},
        lambda pair: (*_flat_prompt(pair.prompt), *pair[1:]),
        lambda *cells: PreferencePair(_prompt(*cells[:3]), *cells[3:]),
    ),
    UnpairedExample: _Form(
        _PROMPT | {"completion": _TEXT, "label": pyarrow.bool_()},
        lambda example: (*_flat_prompt(example.prompt), *example[1:]),
        lambda *cells: UnpairedExample(_prompt(*cells[:3]), *cells[3:]),
    ),
    EncodedPair: _Form(
        {
            "chosen": _IDS,
            "chosen_prompt": pyarrow.int32(),
            "rejected": _IDS,
            "rejected_prompt": pyarrow.int32(),
        },
        lambda pair: (*pair.chosen, *pair.rejected),
        lambda *cells: EncodedPair(EncodedResponse(*cells[:2]), EncodedResponse(*cells[2:])),
    ),
    EncodedResponse: _Form(
        {"ids": _IDS, "prompt": pyarrow.int32()},
        tuple,
        EncodedResponse,
    ),
}
