"""Every kind of source gives the same pairs; every kind of broken file gives one clear message."""

from __future__ import annotations

import csv
import gzip
import json
import sys
from pathlib import Path

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from dpo_lab.errors import InputError
from dpo_lab.pairs import (
    PreferencePair,
    Reason,
    UnpairedExample,
    read_examples,
    read_pairs,
    read_unpaired,
)

ROWS = [
    {"prompt": "2+2=", "chosen": " 4", "rejected": " 5"},
    {"prompt": 'say "hi",\nplease', "chosen": "hi\u2028there", "rejected": "é\r\nё 🙂"},
]
PAIRS = [PreferencePair(**row) for row in ROWS]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch) -> None:
    """`load_dataset` would otherwise write below the user's home."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def jsonl(rows: list) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write_csv(path: Path, *records: list[str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(records)
    return path


def make_source(folder: Path, kind: str) -> Path:
    path = folder / f"pairs.{kind}"
    if kind == "jsonl":
        path.write_bytes(jsonl(ROWS))
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(jsonl(ROWS)))
    elif kind == "json":
        path.write_text(json.dumps(ROWS))
    elif kind == "csv":
        write_csv(path, list(ROWS[0]), *(list(row.values()) for row in ROWS))
    elif kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    elif kind == "saved":
        datasets.Dataset.from_list(ROWS).save_to_disk(path)
    elif kind == "saved_splits":
        both = {"train": datasets.Dataset.from_list(ROWS), "test": datasets.Dataset.from_list([])}
        datasets.DatasetDict(both).save_to_disk(path)
    elif kind == "repository":
        path.mkdir()
        (path / "train.jsonl").write_bytes(jsonl(ROWS))
    return path


KINDS = ["jsonl", "jsonl.gz", "json", "csv", "parquet", "saved", "saved_splits", "repository"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("as_type", [str, Path])
def test_every_kind_of_source_gives_the_same_pairs_in_order(tmp_path, kind, as_type) -> None:
    source = as_type(make_source(tmp_path, kind))
    pairs, report = read_pairs(source)
    assert pairs == PAIRS
    assert (report.source, report.kept) == (str(source), 2)


def test_hub_names_go_to_load_dataset(monkeypatch) -> None:
    asked = []

    def load_dataset(name: str, split: str) -> datasets.Dataset:
        asked.append((name, split))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert read_pairs("someone/some-pairs", split="test")[0] == PAIRS
    assert asked == [("someone/some-pairs", "test")]


def test_a_hub_failure_is_one_message_with_the_name(monkeypatch) -> None:
    def load_dataset(name: str, split: str) -> datasets.Dataset:
        raise datasets.exceptions.DatasetGenerationError("broken shard")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(InputError, match=r"someone/pairs: .*broken shard"):
        read_pairs("someone/pairs")


@pytest.mark.parametrize("name", ["gone.jsonl", "gone.csv", "a/b/c"])
def test_a_missing_file_is_not_looked_for_on_the_hub(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: no such file"):
        read_pairs(name)


def test_a_missing_file_in_an_existing_folder_is_not_a_hub_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match="data/pairs: no such file"):
        read_pairs("data/pairs")


def test_a_path_object_is_never_a_hub_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_pairs(tmp_path / "gone")
    with pytest.raises(InputError, match="no such file"):
        read_pairs(Path("gone"))


@pytest.mark.parametrize("kind", ["saved_splits", "repository"])
def test_a_missing_split_is_named_with_those_there_are(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match=r"validation.*train"):
        read_pairs(make_source(tmp_path, kind), split="validation")


def test_a_split_without_rows_is_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows"):
        read_pairs(make_source(tmp_path, "saved_splits"), split="test")


# --- broken files ----------------------------------------------------------------------------

BROKEN = {
    "empty.jsonl": (b"", "empty"),
    "blank.jsonl": (b"\n\n  \n", "empty"),
    "empty.jsonl.gz": (gzip.compress(b""), "empty"),
    "nothing.jsonl.gz": (b"", "empty"),
    "cut.jsonl.gz": (gzip.compress(jsonl(ROWS * 50))[:-9], "cut short"),
    "plain.jsonl.gz": (jsonl(ROWS), "not a valid gzip file"),
    "flipped.jsonl.gz": (
        gzip.compress(jsonl(ROWS))[:30] + b"\0" * 40 + gzip.compress(b"")[30:],
        "gzip",
    ),
    "empty.json": (b"", "empty"),
    "list.json": (b"[]", "empty"),
    "object.json": (b'{"prompt": "a"}', "must be a list of rows, not dict"),
    "broken.json": (b'[{"prompt": "a"', "not valid JSON"),
    "lines.json": (jsonl(ROWS), "belongs in a .jsonl file"),
    "deep.json": (b"[" * 200_000, "cannot be read"),
    "latin.json": ('[{"prompt": "é"}]'.encode("latin-1"), "not UTF-8"),
    "empty.csv": (b"", "empty"),
    "header.csv": (b"prompt,chosen,rejected\n", "empty"),
    "twice.csv": (b"chosen,chosen,rejected\na,b,c\n", "same name"),
    "quote.csv": (b'prompt,chosen,rejected\na,"b,c\n', "line 2"),
    "latin.csv": ("prompt,chosen,rejected\na,é,c\n".encode("latin-1"), "not UTF-8"),
    "broken.parquet": (b"PAR1 not really", "cannot be read"),
    "empty.parquet": (b"", "cannot be read"),
    "pairs.txt": (b"hello", r"must end in one of \.jsonl, \.jsonl\.gz, \.json, \.csv, \.parquet"),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("read", [read_pairs, read_unpaired])
def test_a_broken_file_is_one_message_that_names_it(tmp_path, name, read) -> None:
    content, message = BROKEN[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read(path, odd="report")
    assert str(caught.value).startswith(str(path))


def test_a_broken_saved_data_set_is_one_message(tmp_path: Path) -> None:
    folder = make_source(tmp_path, "saved")
    [shard] = folder.glob("*.arrow")
    shard.write_bytes(shard.read_bytes()[:200])
    with pytest.raises(InputError, match="cannot be read"):
        read_pairs(folder)


def test_an_empty_folder_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_pairs(tmp_path)


def test_an_unreadable_file_is_one_message(tmp_path: Path, monkeypatch) -> None:
    path = make_source(tmp_path, "jsonl")

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    # The owner of a test run may be root, who may read everything.
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(InputError, match=r"pairs.jsonl: cannot be read .*Permission denied"):
        read_pairs(path)


def test_a_missing_package_is_named_with_the_command_that_brings_it(tmp_path, monkeypatch) -> None:
    path = make_source(tmp_path, "parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'dpo_lab\[train\]'"):
        read_pairs(path)


# --- broken rows -----------------------------------------------------------------------------


def test_a_line_that_is_not_json_is_an_odd_row_with_its_number(tmp_path: Path) -> None:
    good = jsonl(ROWS[:1])
    lines = [
        good,
        b"\n",
        b'{"prompt": "a", \n',
        b"\xff\xfe\n",
        b'{"prompt": "a", "chosen": "b", "chosen": "c", "rejected": "d"}\n',
        b"[" * 200_000 + b"\n",
        good.rstrip(b"\n"),
    ]
    path = tmp_path / "odd.jsonl"
    path.write_bytes(b"".join(lines))
    pairs, report = read_pairs(path, odd="report")
    assert pairs == PAIRS[:1] * 2
    assert [odd.row for odd in report.odd] == [3, 4, 5, 6]
    assert report.counts == {str(Reason.INVALID_JSON): 4}
    details = [odd.detail for odd in report.odd]
    assert "column 16" in details[0]
    assert "not UTF-8" in details[1]
    assert details[2:] == ["the key 'chosen' stands twice in one object", "nested too deeply"]


def test_a_file_without_one_row_of_json_names_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "prose.jsonl"
    path.write_text("this is\nprose\n")
    assert read_pairs(path, odd="report")[1].counts == {str(Reason.INVALID_JSON): 2}
    with pytest.raises(InputError, match="2 rows, 0 kept, 2 odd"):
        read_pairs(path)


def test_byte_order_mark_and_windows_line_ends_are_no_content(tmp_path: Path) -> None:
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + jsonl(ROWS[:1]).replace(b"\n", b"\r\n"))
    assert read_pairs(path)[0] == PAIRS[:1]


def test_csv_rows_are_numbered_by_the_line_they_start_on(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "pairs.csv",
        ["prompt", "chosen", "rejected"],
        ["two\nlines", " a", " b"],
        ["short", " a"],
        ["long", " a", " b", "more"],
        ["two\nmore\nlines", "", " b"],
        ["p", "x" * 200_000, " b"],
    )
    pairs, report = read_pairs(path, odd="report")
    assert [pair.prompt for pair in pairs] == ["two\nlines", "p"]
    assert [(odd.row, odd.field, odd.reason) for odd in report.odd] == [
        (4, "rejected", Reason.MISSING_FIELD),
        (5, "", Reason.TOO_MANY_CELLS),
        (6, "chosen", Reason.EMPTY_ANSWER),
    ]


def test_reading_a_csv_leaves_the_csv_module_as_it_was(tmp_path: Path) -> None:
    before = csv.field_size_limit(4321)
    try:
        read_pairs(make_source(tmp_path, "csv"))
        assert csv.field_size_limit() == 4321
    finally:
        csv.field_size_limit(before)


def test_csv_labels_are_words(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "u.csv",
        ["prompt", "completion", "label"],
        ["a", "b", "True"],
        ["a", "b", "false"],
        ["a", "b", "0"],
    )
    examples, report = read_unpaired(path, odd="report")
    assert [example.label for example in examples] == [True, False]
    assert [(odd.row, odd.reason) for odd in report.odd] == [(4, Reason.BAD_LABEL)]


def test_parquet_messages_and_nulls(tmp_path: Path) -> None:
    user = {"role": "user", "content": "hi", "name": None}
    answers = [{"role": "assistant", "content": text, "name": None} for text in "ab"]
    rows = [
        {"prompt": [user], "chosen": answers[:1], "rejected": answers[1:]},
        {"prompt": [user], "chosen": answers[:1], "rejected": None},
    ]
    path = tmp_path / "chat.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    pairs, report = read_pairs(path, odd="report")
    assert (pairs[0].chosen, pairs[0].rejected) == ("a", "b")
    assert [(odd.row, odd.field) for odd in report.odd] == [(2, "rejected")]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "saved"])
def test_wrong_columns_are_listed_beside_the_accepted_ones(tmp_path, kind, monkeypatch) -> None:
    rows = [{"question": "a", "answer": "b"}]
    monkeypatch.setattr(sys.modules[__name__], "ROWS", rows)
    source = make_source(tmp_path, kind)
    with pytest.raises(InputError, match=r"'question', 'answer'; accepted are chosen and rejected"):
        read_pairs(source)
    with pytest.raises(InputError, match="accepted are prompt, completion and label"):
        read_unpaired(source)


def test_the_other_reader_is_named_where_it_fits(tmp_path: Path) -> None:
    unpaired = tmp_path / "u.jsonl"
    unpaired.write_bytes(jsonl([{"prompt": "a", "completion": "b", "label": True}]))
    with pytest.raises(InputError, match="read_unpaired"):
        read_pairs(unpaired)
    with pytest.raises(InputError, match="read_pairs"):
        read_unpaired(make_source(tmp_path, "jsonl"))


# --- either kind of rows, one at a time ------------------------------------------------------

LABELLED = {"prompt": "a", "completion": "b", "label": True}


@pytest.mark.parametrize("kind", KINDS)
def test_the_columns_say_what_the_rows_are(tmp_path, kind, monkeypatch) -> None:
    assert read_examples(make_source(tmp_path, kind))[0] == PAIRS
    monkeypatch.setattr(sys.modules[__name__], "ROWS", [LABELLED])
    (tmp_path / "labelled").mkdir()
    examples, _ = read_examples(make_source(tmp_path / "labelled", kind))
    assert examples == [UnpairedExample("a", "b", True)]


def test_one_pair_anywhere_makes_a_file_one_of_pairs(tmp_path: Path) -> None:
    """Whatever its first rows look like: kinds are told apart by all columns there are."""
    path = tmp_path / "both.jsonl"
    path.write_bytes(jsonl([LABELLED, LABELLED, ROWS[0]]))
    examples, report = read_examples(path, odd="report")
    assert examples == PAIRS[:1]
    assert [(odd.row, odd.field) for odd in report.odd] == [(1, "chosen"), (2, "chosen")]
    path.write_bytes(jsonl([{"prompt": "a", "answer": "b"}]))
    with pytest.raises(InputError, match=r"accepted are chosen and rejected \(pairs\), or prompt"):
        read_examples(path)


def test_what_keeps_the_rows_gets_them_one_by_one_and_fails_in_its_own_name(tmp_path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(jsonl(ROWS) + b"{")

    def keep(rows):
        assert next(rows) == PAIRS[0]
        raise OSError("the disk is full")

    with pytest.raises(OSError, match=r"^the disk is full"):
        read_examples(path, keep=keep)


def test_a_file_cut_short_is_no_shorter_file(tmp_path: Path) -> None:
    """Rows are handed on before the end is seen; what is wrong there still ends it all."""
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(gzip.compress(jsonl(ROWS * 500))[:-9])
    kept: list[PreferencePair] = []
    with pytest.raises(InputError, match="cut short"):
        read_examples(path, keep=kept.extend)
    assert kept[:2] == PAIRS
