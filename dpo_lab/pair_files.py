"""Raw rows out of files, saved data sets and the hub, with the row numbers that people see.

Rows are read while they are gone through, so a source may be larger than memory. A problem of one
row is carried in the row; a problem of the whole file raises `InputError`.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dpo_lab.errors import InputError
from dpo_lab.pair_types import Reason

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_INSTALL = "pip install 'dpo_lab[train]'"
_PARQUET_ROWS = 256  # rows that are in memory at once


class RawRow(NamedTuple):
    """One row as it stands in the source; `number` counts from 1 (see `OddRow.row`)."""

    number: int
    value: Any
    reason: Reason | None = None
    detail: str = ""


Read = Callable[[], Iterator[RawRow]]  # begins a pass


class RawTable:
    """All rows of a source, in order; each pass over them reads the source anew.

    A pass raises `InputError` where the source turns out to be empty, unreadable or cut short.
    """

    def __init__(self, source: str | Path, read: Read, columns: list[str] | None) -> None:
        self.source, self._read = source, read
        self.fixed = columns is not None
        self._columns = dict.fromkeys(columns or ())

    @property
    def columns(self) -> list[str]:
        """Every column's name; of JSON, where each row has its own, those met so far.

        `fixed` says that there will be no others.
        """
        return list(self._columns)

    def __iter__(self) -> Iterator[RawRow]:
        empty = True
        with _clear_errors(self.source):
            for row in self._read():
                empty = False
                if not self.fixed and isinstance(row.value, dict):
                    self._columns.update(dict.fromkeys(row.value))
                yield row
        if empty:
            raise InputError(f"{self.source}: empty, there are no rows in it")


def read_table(source: str | Path, split: str = "train") -> RawTable:
    """The rows of a file, a folder or a data set on the hub, read when they are gone through.

    `split` matters for folders and hub names only. A `.json` file, one list, is read whole; of
    all others a few rows at a time are in memory. Raises `InputError` when the source is missing
    or of an unknown kind, or when its first bytes show that it cannot be read.
    """
    path = Path(source)
    with _clear_errors(source):
        if path.is_file():
            return RawTable(source, *_FILES[file_kind(path, _FILES)](path))
        if path.exists() or (isinstance(source, str) and _is_hub_name(source)):
            return RawTable(source, *_open_dataset(str(source), split))
        raise InputError(f"{source}: no such file or folder")


def file_kind(path: Path, kinds: dict[str, Any]) -> str:
    """The ending in `kinds` that the file's name has; `InputError` if it has none of them."""
    for ending in kinds:
        if path.name.endswith(ending):
            return ending
    raise InputError(f"{path}: the name must end in one of {', '.join(kinds)}")


def _is_hub_name(source: str) -> bool:
    ends_like_file = any(source.endswith(ending) for ending in _FILES)
    in_a_folder = "/" in source and Path(source).parent.is_dir()
    return bool(_HUB_NAME.fullmatch(source)) and not ends_like_file and not in_a_folder


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


def _jsonl_rows(path: Path) -> Iterator[RawRow]:
    opener = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "rb") as lines:
        # Bytes are split at b"\n" only; text mode would also split at a lone carriage return.
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _parse_line(number, line)


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


def _json_rows(path: Path) -> Iterator[RawRow]:
    text = path.read_text(encoding="utf-8-sig")
    if not text.strip():
        return
    try:
        values = json.loads(text, object_pairs_hook=_unique_keys)
    except ValueError as error:
        hint = "one object a line belongs in a .jsonl file"
        raise InputError(f"{path}: not valid JSON ({error}); {hint}") from error
    if not isinstance(values, list):
        raise InputError(f"{path}: the JSON must be a list of rows, not {type(values).__name__}")
    yield from _numbered(values)


def _numbered(values: Iterable[Any]) -> Iterator[RawRow]:
    return (RawRow(number, value) for number, value in enumerate(values, start=1))


def _open_csv(path: Path) -> tuple[Read, list[str]]:
    with _csv_reader(path) as reader:
        header = next(reader, [])
    if len(set(header)) < len(header):
        raise InputError(f"{path}: two columns of the header have the same name: {header}")
    return lambda: _csv_rows(path), header


@contextlib.contextmanager
def _csv_reader(path: Path) -> Iterator[Any]:
    previous_limit = csv.field_size_limit(2**31 - 1)  # The default refuses long conversations.
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield csv.reader(file, strict=True)
    finally:
        csv.field_size_limit(previous_limit)


def _csv_rows(path: Path) -> Iterator[RawRow]:
    with _csv_reader(path) as reader:
        header = next(reader, [])
        last_line = reader.line_num
        try:
            for cells in reader:
                number, last_line = last_line + 1, reader.line_num
                if len(cells) > len(header):
                    detail = f"{len(cells)} cells, {len(header)} columns"
                    yield RawRow(number, None, Reason.TOO_MANY_CELLS, detail)
                elif cells:
                    # A short record leaves its last columns out, so they are reported as missing.
                    yield RawRow(number, dict(zip(header, cells, strict=False)))
        except csv.Error as error:
            raise InputError(f"{path}: line {reader.line_num}: {error}") from error


def _open_parquet(path: Path) -> tuple[Read, list[str]]:
    from pyarrow import parquet

    # Mapped and not buffered ahead: else a whole group of rows, often all, would be in memory.
    file = parquet.ParquetFile(path, memory_map=True, pre_buffer=False)

    def rows() -> Iterator[RawRow]:
        batches = file.iter_batches(_PARQUET_ROWS)
        return _numbered(value for batch in batches for value in batch.to_pylist())

    return rows, file.schema_arrow.names


def _open_dataset(name: str, split: str) -> tuple[Read, list[str]]:
    import datasets

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
    return lambda: _numbered(data), data.column_names


def _split_folder(folder: Path, split: str) -> Path:
    splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
    if split not in splits:
        raise InputError(f"{folder}: there is no split {split!r}; it has {', '.join(splits)}")
    return folder / split


_FILES = {
    ".jsonl": lambda path: (lambda: _jsonl_rows(path), None),
    ".jsonl.gz": lambda path: (lambda: _jsonl_rows(path), None),
    ".json": lambda path: (lambda: _json_rows(path), None),
    ".csv": _open_csv,
    ".parquet": _open_parquet,
}
