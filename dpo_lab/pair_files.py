"""Raw rows out of files, saved data sets and the hub, with the row numbers that people see.

A problem of one row is carried in the row; a problem of the whole file raises `InputError`.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dpo_lab.errors import InputError
from dpo_lab.pair_types import Reason

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_INSTALL = "pip install 'dpo_lab[train]'"


class RawRow(NamedTuple):
    """One row as it stands in the source; `number` counts from 1 (see `OddRow.row`)."""

    number: int
    value: Any
    reason: Reason | None = None
    detail: str = ""


class RawTable(NamedTuple):
    """All rows of a source, in order, and every column name met."""

    rows: list[RawRow]
    columns: list[str]


def read_table(source: str | Path, split: str = "train") -> RawTable:
    """Read every row of a file, a folder or a data set on the hub.

    `split` matters for folders and hub names only. Raises `InputError` when the source is
    missing, empty, unreadable, cut short, or of an unknown kind.
    """
    path = Path(source)
    with _clear_errors(source):
        if path.is_dir():
            table = _read_dataset(source, split)
        elif path.exists():
            table = _read_file(path)
        elif isinstance(source, str) and _is_hub_name(source):
            table = _read_dataset(source, split)
        else:
            raise InputError(f"{source}: no such file or folder")
    if not table.rows:
        raise InputError(f"{source}: empty, there are no rows in it")
    return table


def file_kind(path: Path, kinds: dict[str, Any]) -> str:
    """The ending in `kinds` that the file's name has; `InputError` if it has none of them."""
    for ending in kinds:
        if path.name.endswith(ending):
            return ending
    raise InputError(f"{path}: the name must end in one of {', '.join(kinds)}")


def _is_hub_name(source: str) -> bool:
    ends_like_file = any(source.endswith(ending) for ending in _READERS)
    in_a_folder = "/" in source and Path(source).parent.is_dir()
    return bool(_HUB_NAME.fullmatch(source)) and not ends_like_file and not in_a_folder


def _read_file(path: Path) -> RawTable:
    return _READERS[file_kind(path, _READERS)](path)


@contextlib.contextmanager
def _clear_errors(source: str | Path) -> Iterator[None]:
    """Turn what the readers raise for a broken file into one message that names the file."""
    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"{source}: {error.name} is needed to read it: {_INSTALL}") from error
    except EOFError as error:
        raise InputError(f"{source}: the gzip file is cut short") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{source}: not a valid gzip file ({error})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: not UTF-8 text ({error.reason})") from error
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        first_line = (str(error).splitlines() or [""])[0]
        raise InputError(f"{source}: cannot be read ({first_line})") from error


def _read_jsonl(path: Path) -> RawTable:
    opener = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "rb") as lines:
        # Bytes are split at b"\n" only; text mode would also split at a lone carriage return.
        numbered = enumerate(lines, start=1)
        rows = [_parse_line(number, line) for number, line in numbered if line.strip()]
    return RawTable(rows, _columns(rows))


def _parse_line(number: int, line: bytes) -> RawRow:
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        return RawRow(number, json.loads(text, object_pairs_hook=_unique_keys))
    except UnicodeDecodeError as error:
        return RawRow(number, None, Reason.INVALID_JSON, f"not UTF-8 ({error.reason})")
    except json.JSONDecodeError as error:
        detail = f"{error.msg} at column {error.colno}"
        return RawRow(number, None, Reason.INVALID_JSON, detail)
    except ValueError as error:
        return RawRow(number, None, Reason.INVALID_JSON, str(error))
    except RecursionError:
        return RawRow(number, None, Reason.INVALID_JSON, "nested too deeply")


def _unique_keys(items: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse what `json` would resolve in silence: the same key twice in one object."""
    result = dict(items)
    if len(result) < len(items):
        keys = [key for key, _ in items]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return result


def _read_json(path: Path) -> RawTable:
    text = path.read_text(encoding="utf-8-sig")
    if not text.strip():
        return RawTable([], [])
    try:
        values = json.loads(text, object_pairs_hook=_unique_keys)
    except ValueError as error:
        hint = "one object a line belongs in a .jsonl file"
        raise InputError(f"{path}: not valid JSON ({error}); {hint}") from error
    if not isinstance(values, list):
        raise InputError(f"{path}: the JSON must be a list of rows, not {type(values).__name__}")
    rows = [RawRow(number, value) for number, value in enumerate(values, start=1)]
    return RawTable(rows, _columns(rows))


def _read_csv(path: Path) -> RawTable:
    previous_limit = csv.field_size_limit(2**31 - 1)  # The default refuses long conversations.
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _parse_csv(path, file)
    finally:
        csv.field_size_limit(previous_limit)


def _parse_csv(path: Path, file: Any) -> RawTable:
    reader = csv.reader(file, strict=True)
    header = next(reader, [])
    if len(set(header)) < len(header):
        raise InputError(f"{path}: two columns of the header have the same name: {header}")
    rows, last_line = [], reader.line_num
    try:
        for cells in reader:
            number, last_line = last_line + 1, reader.line_num
            if len(cells) > len(header):
                detail = f"{len(cells)} cells, {len(header)} columns"
                rows.append(RawRow(number, None, Reason.TOO_MANY_CELLS, detail))
            elif cells:
                # A short record leaves its last columns out, so they are reported as missing.
                rows.append(RawRow(number, dict(zip(header, cells, strict=False))))
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: {error}") from error
    return RawTable(rows, header)


def _read_parquet(path: Path) -> RawTable:
    from pyarrow import parquet

    table = parquet.read_table(path)
    rows = [RawRow(number, value) for number, value in enumerate(table.to_pylist(), start=1)]
    return RawTable(rows, table.column_names)


def _read_dataset(source: str | Path, split: str) -> RawTable:
    import datasets

    name = str(source)
    try:
        if Path(name, "dataset_dict.json").is_file():
            data = datasets.load_from_disk(str(_split_folder(Path(name), split)))
        elif Path(name, "state.json").is_file():
            data = datasets.load_from_disk(name)
        else:
            data = datasets.load_dataset(name, split=split)
    except datasets.exceptions.DatasetsError as error:
        raise InputError(f"{name}: the data set cannot be loaded ({error})") from error
    except IndexError as error:
        # This is how `datasets` meets a data set that was saved without rows.
        raise InputError(f"{name}: empty, there are no rows in it") from error
    rows = [RawRow(number, value) for number, value in enumerate(data, start=1)]
    return RawTable(rows, data.column_names)


def _split_folder(folder: Path, split: str) -> Path:
    splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
    if split not in splits:
        raise InputError(f"{folder}: there is no split {split!r}; it has {', '.join(splits)}")
    return folder / split


def _columns(rows: list[RawRow]) -> list[str]:
    names = (name for row in rows if isinstance(row.value, dict) for name in row.value)
    return list(dict.fromkeys(names))


_READERS = {
    ".jsonl": _read_jsonl,
    ".jsonl.gz": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
