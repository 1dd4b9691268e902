"""Preference pairs: read, validate, split, write, fingerprint.

Accepted rows, told apart row by row from the fields they have:

* **explicit** (TRL's name): `prompt`, `chosen` and `rejected` are strings.
* **HH**: `chosen` and `rejected` are whole conversations, without `prompt`. The prompt ends
  behind the *last* `"\\n\\nAssistant:"`. The longest common prefix of the two sides would run
  into the answers wherever they begin alike.
* **conversational, explicit**: `prompt` is a list of `{"role", "content"}` messages; each
  answer is a list of one assistant message.
* **conversational, implicit**: `chosen` and `rejected` are whole message lists that share all
  but the last message, an assistant's. A text `prompt` beside them may repeat what the user first
  says there, and nothing else.
* **unpaired** (`read_unpaired`): `prompt`, `completion`, `label`.

Where TRL meets two strings without a prompt it takes their longest common prefix for the prompt
(`extract_prompt`). That gives " I" of "... I think" and "... I know" to the prompt, so each
answer loses its beginning. Here such a row is odd unless it has the HH marker.

A pair may say by how much the chosen answer was scored better: `margin`, or `score_chosen` and
`score_rejected`. Other fields of a row are ignored. Nothing is repaired, cut or dropped in silence:

>>> import json, pathlib, tempfile
>>> rows = [
...     {"prompt": "2+2=", "chosen": " 4", "rejected": " 5"},
...     {"prompt": "2+3=", "chosen": " 5", "rejected": " "},
...     {"prompt": "2+4=", "chosen": " 6", "rejected": 7},
... ]
>>> with tempfile.TemporaryDirectory() as folder:
...     path = pathlib.Path(folder, "sums.jsonl")
...     _ = path.write_text("\\n".join(map(json.dumps, rows)))
...     pairs, report = read_pairs(path, odd="report")
>>> pairs
[PreferencePair(prompt='2+2=', chosen=' 4', rejected=' 5', margin=None)]
>>> print(report.table().replace(str(path), path.name))
sums.jsonl: 3 rows, 1 kept, 2 odd
      1 x the answer is empty
      1 x the field is not a string
    row  field     reason
      2  rejected  the answer is empty
      3  rejected  the field is not a string: it is int
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from dpo_lab.errors import InputError
from dpo_lab.pair_files import file_kind, read_table
from dpo_lab.pair_passes import EITHER, PAIRED, UNPAIRED, collect, is_unpaired
from dpo_lab.pair_sets import data_hash, split_pairs
from dpo_lab.pair_types import (
    Message,
    OddRow,
    PairReport,
    PreferencePair,
    Prompt,
    Reason,
    UnpairedExample,
)

__all__ = [
    "Message",
    "OddRow",
    "PairReport",
    "PreferencePair",
    "Prompt",
    "Reason",
    "UnpairedExample",
    "data_hash",
    "read_examples",
    "read_pairs",
    "read_unpaired",
    "split_pairs",
    "write_pairs",
]

OddMode = Literal["strict", "report"]


def read_pairs(
    source: str | Path,
    *,
    odd: OddMode = "strict",
    max_chars: int | None = None,
    split: str = "train",
) -> tuple[list[PreferencePair], PairReport]:
    """Read preference pairs in the order of the source, with a report of the rows left out.

    `source` is a `.jsonl`, `.jsonl.gz`, `.json` (one list), `.csv` or `.parquet` file,
    a folder written by `save_to_disk` of `datasets`, or a name that `datasets.load_dataset`
    knows; `split` is for the last two. `odd="strict"` raises if any row is odd,
    `odd="report"` leaves odd rows out and names them in the report. `max_chars` bounds the
    characters of the prompt and the longer answer together.

    Raises `InputError` for a source that cannot be read or has no suitable columns, for text
    prompts and conversations in one source, and, in strict mode, for odd rows: it lists the first
    20 and counts the rest.
    """
    _check_modes(odd, max_chars)
    return collect(read_table(source, split), PAIRED, odd, max_chars, list)


def read_unpaired(
    source: str | Path,
    *,
    odd: OddMode = "strict",
    max_chars: int | None = None,
    split: str = "train",
) -> tuple[list[UnpairedExample], PairReport]:
    """Read `prompt`, `completion`, `label` rows; otherwise as `read_pairs`.

    `label` is a boolean, or one of the words true and false in any case (a CSV file has no
    booleans).
    """
    _check_modes(odd, max_chars)
    return collect(read_table(source, split), UNPAIRED, odd, max_chars, list)


def read_examples(
    source: str | Path,
    *,
    odd: OddMode = "strict",
    split: str = "train",
    keep: Callable[[Iterator[Any]], Sequence[Any]] = list,
) -> tuple[Sequence[PreferencePair] | Sequence[UnpairedExample], PairReport]:
    """Pairs or unpaired examples, whichever the columns say; otherwise as `read_pairs`.

    keep: takes the examples one by one as they are read and gives back what holds them. `list`
    holds them in memory, `disk_rows.write_rows` with a file on the disk.
    """
    _check_modes(odd, None)
    table = read_table(source, split)
    form = UNPAIRED if is_unpaired(table) else EITHER
    return collect(table, form, odd, None, keep)


def _check_modes(odd: str, max_chars: int | None) -> None:
    if odd not in ("strict", "report"):
        raise InputError(f"odd must be 'strict' or 'report', not {odd!r}")
    if max_chars is not None and max_chars < 1:
        raise InputError(f"max_chars must be at least 1, not {max_chars}")


def write_pairs(
    pairs: Sequence[PreferencePair], path: str | Path, *, overwrite: bool = False
) -> None:
    """Write pairs as `.jsonl` or `.jsonl.gz`; `read_pairs` gives the same pairs back.

    The same pairs give the same bytes. The file appears under its name only when it is complete.
    Raises `InputError` for another ending, a missing folder, text that is not Unicode, text prompts
    and conversations together, and an existing file unless `overwrite`.
    """
    path = Path(path)
    ending = file_kind(path, {".jsonl": None, ".jsonl.gz": None})
    forms = [isinstance(pair.prompt, str) for pair in pairs]
    if len(set(forms)) == 2:
        first = forms.index(not forms[0])
        raise InputError(f"pairs[{first}]: prompt is text in some pairs and messages in others")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already, and overwrite is not set")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist")
    data = b"".join(_encode_row(index, pair) for index, pair in enumerate(pairs))
    if ending == ".jsonl.gz":
        data = gzip.compress(data, mtime=0)  # A time stamp would make every file different.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _encode_row(index: int, pair: PreferencePair) -> bytes:
    if isinstance(pair.prompt, str):
        row = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
    else:
        row = {"prompt": [message._asdict() for message in pair.prompt]}
        for side in ("chosen", "rejected"):
            row[side] = [Message("assistant", getattr(pair, side))._asdict()]
    if pair.margin is not None:
        row["margin"] = pair.margin
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError as error:
        raise InputError(f"pairs[{index}]: {Reason.NOT_UNICODE}") from error
    except ValueError as error:
        raise InputError(f"pairs[{index}]: {Reason.BAD_SCORE}") from error
