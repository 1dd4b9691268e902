"""Rows to pairs: every accepted form, every odd reason, writing, splitting, hashing, real data."""

from __future__ import annotations

import doctest
import gzip
import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dpo_lab.pairs
from dpo_lab.errors import InputError
from dpo_lab.pairs import (
    Message,
    PreferencePair,
    Reason,
    UnpairedExample,
    data_hash,
    read_pairs,
    read_unpaired,
    split_pairs,
    write_pairs,
)

MARKER = "\n\nAssistant:"
GOOD = {"prompt": "2+2=", "chosen": " 4", "rejected": " 5"}
USER = {"role": "user", "content": "hi"}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def write_rows(path: Path, *rows: object) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


def read_one(tmp_path: Path, row: object) -> PreferencePair:
    [pair], _ = read_pairs(write_rows(tmp_path / "one.jsonl", row))
    return pair


def hh(dialogue: str, answer: str) -> str:
    return f"\n\nHuman: {dialogue}{MARKER}{answer}"


def test_worked_example_of_the_docstring() -> None:
    assert doctest.testmod(dpo_lab.pairs).failed == 0


# --- the forms -------------------------------------------------------------------------------


def test_explicit_row_is_taken_as_it_is(tmp_path: Path) -> None:
    assert read_one(tmp_path, GOOD | {"score": 3}) == PreferencePair("2+2=", " 4", " 5")


def test_hh_prompt_ends_at_the_last_marker_not_at_the_common_prefix(tmp_path: Path) -> None:
    first_turns = f"hello{MARKER} I am here\n\nHuman: and now?"
    row = {"chosen": hh(first_turns, " I think so"), "rejected": hh(first_turns, " I do not")}
    pair = read_one(tmp_path, row)
    assert pair.prompt == f"\n\nHuman: {first_turns}{MARKER}"
    assert (pair.chosen, pair.rejected) == (" I think so", " I do not")
    assert pair.prompt + pair.chosen == row["chosen"]


def test_null_prompt_counts_as_absent(tmp_path: Path) -> None:
    row = {"prompt": None, "chosen": hh("a", " x"), "rejected": hh("a", " y")}
    assert read_one(tmp_path, row).chosen == " x"


def test_conversational_rows_explicit_and_implicit_give_the_same_pair(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "be brief"}, USER]
    explicit = {"prompt": turns, "chosen": [assistant("yes")], "rejected": [assistant("no")]}
    implicit = {"chosen": [*turns, assistant("yes")], "rejected": [*turns, assistant("no")]}
    expected = PreferencePair((Message("system", "be brief"), Message("user", "hi")), "yes", "no")
    assert read_one(tmp_path, explicit) == read_one(tmp_path, implicit) == expected


def test_implicit_conversation_is_cut_before_the_last_assistant_turn_only(tmp_path: Path) -> None:
    shared = [USER, assistant("hello"), {"role": "user", "content": "again"}]
    row = {"chosen": [*shared, assistant("hello you")], "rejected": [*shared, assistant("hm")]}
    assert [m.content for m in read_one(tmp_path, row).prompt] == ["hi", "hello", "again"]


def test_forms_may_be_mixed_in_one_file_and_order_is_kept(tmp_path: Path) -> None:
    rows = [
        GOOD,
        {"chosen": hh("a", " x"), "rejected": hh("a", " y")},
        {"chosen": [USER, assistant("yes")], "rejected": [USER, assistant("no")]},
    ]
    pairs, report = read_pairs(write_rows(tmp_path / "mixed.jsonl", *rows))
    assert [pair.chosen for pair in pairs] == [" 4", " x", "yes"]
    assert (report.kept, report.odd, report.rows) == (3, (), 3)


def test_unpaired_rows(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "completion": "b", "label": True},
        {"prompt": [USER], "completion": [assistant("b")], "label": False},
        {"prompt": "a", "completion": "b", "label": "False"},
        {"prompt": "a", "completion": "b", "label": 1},
        {"prompt": "a", "completion": "b", "label": None},
        {"prompt": None, "completion": "b", "label": True},
        {"prompt": "a", "completion": " ", "label": True},
    ]
    examples, report = read_unpaired(write_rows(tmp_path / "u.jsonl", *rows), odd="report")
    assert examples == [
        UnpairedExample("a", "b", True),
        UnpairedExample((Message("user", "hi"),), "b", False),
        UnpairedExample("a", "b", False),
    ]
    assert [(o.row, o.field, o.reason) for o in report.odd] == [
        (4, "label", Reason.BAD_LABEL),
        (5, "label", Reason.MISSING_FIELD),
        (6, "prompt", Reason.MISSING_FIELD),
        (7, "completion", Reason.EMPTY_ANSWER),
    ]


# --- odd rows --------------------------------------------------------------------------------

ODD_ROWS = [
    ([1], Reason.NOT_AN_OBJECT, ""),
    ({"prompt": "a", "chosen": "b"}, Reason.MISSING_FIELD, "rejected"),
    (GOOD | {"chosen": None}, Reason.MISSING_FIELD, "chosen"),
    (GOOD | {"rejected": True}, Reason.NOT_A_STRING, "rejected"),
    (GOOD | {"prompt": 3}, Reason.NOT_A_STRING, "prompt"),
    (GOOD | {"chosen": "\ud83d"}, Reason.NOT_UNICODE, "chosen"),
    (GOOD | {"prompt": [USER]}, Reason.MIXED_FORMS, ""),
    (GOOD | {"chosen": [assistant("b")]}, Reason.MIXED_FORMS, ""),
    ({"chosen": "I like it", "rejected": "I hate it"}, Reason.NO_PROMPT, "chosen"),
    ({"chosen": hh("a", " x"), "rejected": "y"}, Reason.NO_PROMPT, "rejected"),
    ({"chosen": hh("a", " x"), "rejected": hh("b", " y")}, Reason.PROMPTS_DIFFER, ""),
    (GOOD | {"rejected": " \n\t"}, Reason.EMPTY_ANSWER, "rejected"),
    ({"chosen": hh("a", ""), "rejected": hh("a", " y")}, Reason.EMPTY_ANSWER, "chosen"),
    (GOOD | {"chosen": " 4\n\nHuman: and 3+3?"}, Reason.SPEAKER_MARKER, "chosen"),
    (GOOD | {"rejected": " 4\n\nAssistant: 5"}, Reason.SPEAKER_MARKER, "rejected"),
    (GOOD | {"chosen": " Human: what?"}, Reason.SPEAKER_MARKER, "chosen"),
    (GOOD | {"chosen": "Assistant: 4"}, Reason.SPEAKER_MARKER, "chosen"),
    (GOOD | {"chosen": " 5"}, Reason.IDENTICAL_ANSWERS, ""),
    (GOOD | {"rejected": "5" * 90}, Reason.OVER_LONG, ""),
    ({"prompt": [], "chosen": [assistant("a")], "rejected": [assistant("b")]}, Reason.NO_PROMPT, 0),
    ({"chosen": [assistant("a")], "rejected": [assistant("b")]}, Reason.NO_PROMPT, "chosen"),
    ({"chosen": [USER], "rejected": [USER, assistant("b")]}, Reason.NO_PROMPT, "chosen"),
    ({"chosen": [], "rejected": [USER, assistant("b")]}, Reason.NOT_ONE_ANSWER, "chosen"),
    ({"chosen": [USER, USER], "rejected": [USER, USER]}, Reason.NOT_ONE_ANSWER, "chosen"),
    (
        {"chosen": [USER, assistant("a"), assistant("b")], "rejected": [USER, assistant("c")]},
        Reason.PROMPTS_DIFFER,
        "",
    ),
    (
        {"prompt": [USER], "chosen": [USER, assistant("a")], "rejected": [assistant("b")]},
        Reason.NOT_ONE_ANSWER,
        "chosen",
    ),
    (
        {"prompt": [assistant("a")], "chosen": [assistant("b")], "rejected": [assistant("c")]},
        Reason.NOT_ONE_ANSWER,
        "prompt",
    ),
    (
        {"prompt": ["hi"], "chosen": [assistant("b")], "rejected": [assistant("c")]},
        Reason.BAD_MESSAGE,
        "prompt[0]",
    ),
    (
        {"chosen": [USER, {"from": "gpt", "value": "b"}], "rejected": [USER, assistant("c")]},
        Reason.BAD_MESSAGE,
        "chosen[1]",
    ),
    (
        {
            "prompt": [USER],
            "chosen": [assistant("b") | {"tool_calls": []}],
            "rejected": [assistant("c")],
        },
        Reason.BAD_MESSAGE,
        "chosen[0]",
    ),
    (
        {"prompt": [USER], "chosen": [assistant(["b"])], "rejected": [assistant("c")]},
        Reason.NOT_A_STRING,
        "chosen[0].content",
    ),
]


@pytest.mark.parametrize(("row", "reason", "field"), ODD_ROWS)
def test_each_odd_row_is_named_with_its_line_and_reason(tmp_path, row, reason, field) -> None:
    path = write_rows(tmp_path / "odd.jsonl", GOOD, row, GOOD)
    pairs, report = read_pairs(path, odd="report", max_chars=80)
    assert pairs == [PreferencePair(**GOOD)] * 2
    [odd] = report.odd
    assert (odd.file, odd.row, odd.reason) == (str(path), 2, reason)
    assert odd.field == (field or ("prompt" if field == 0 else ""))
    with pytest.raises(InputError, match=str(reason).replace("(", r"\(").replace(")", r"\)")):
        read_pairs(path, max_chars=80)


def test_messages_with_null_keys_of_a_columnar_file_are_fine(tmp_path: Path) -> None:
    row = {
        "prompt": [USER | {"tool_calls": None}],
        "chosen": [assistant("a")],
        "rejected": [assistant("b")],
    }
    assert read_one(tmp_path, row).prompt == (Message("user", "hi"),)


def test_max_chars_is_a_bound_that_may_be_reached(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", {"prompt": "ab", "chosen": "cde", "rejected": "f"})
    assert read_pairs(path, max_chars=5)[1].kept == 1
    assert read_pairs(path, max_chars=4, odd="report")[1].counts == {str(Reason.OVER_LONG): 1}


def test_strict_shows_twenty_odd_rows_and_counts_the_rest(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "bad.jsonl", *[GOOD | {"chosen": ""}] * 23, GOOD)
    with pytest.raises(InputError) as caught:
        read_pairs(path)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{path}: 24 rows, 1 kept, 23 odd"
    assert sum("the answer is empty" in line for line in lines) == 1 + 20
    assert lines[-1].strip() == "... and 3 more odd rows"


def test_report_as_numbers_survives_json(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "bad.jsonl", GOOD | {"chosen": ""}, GOOD, [], [])
    _, report = read_pairs(path, odd="report")
    numbers = json.loads(json.dumps(report.to_dict()))
    assert numbers["counts"] == {str(Reason.NOT_AN_OBJECT): 2, str(Reason.EMPTY_ANSWER): 1}
    assert (numbers["rows"], numbers["kept"], len(numbers["odd"])) == (4, 1, 3)
    assert numbers["odd"][0]["row"] == 1
    assert report.rows == 4


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", GOOD)
    with pytest.raises(InputError, match="max_chars"):
        read_pairs(path, max_chars=0)


# --- writing, hashing, splitting -------------------------------------------------------------

# Text that validation accepts: not blank, and without a speaker marker.
answers = st.text(min_size=1, max_size=12).filter(
    lambda s: s.strip() and "Human:" not in s and "Assistant:" not in s
)
conversations = st.lists(
    st.builds(Message, st.sampled_from(["system", "user"]), st.text(max_size=8)), min_size=1
).map(tuple)
valid_pairs = st.builds(
    PreferencePair, st.text(max_size=12) | conversations, answers, answers
).filter(lambda pair: pair.chosen != pair.rejected)


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(valid_pairs, min_size=1, max_size=6), ending=st.sampled_from(["", ".gz"]))
def test_written_pairs_are_read_back_and_the_bytes_are_the_same(tmp_path_factory, pairs, ending):
    folder = tmp_path_factory.mktemp("pairs")
    first, second = (folder / f"{name}.jsonl{ending}" for name in "ab")
    write_pairs(pairs, first)
    write_pairs(pairs, second)
    assert read_pairs(first)[0] == pairs
    assert first.read_bytes() == second.read_bytes()


def test_writing_never_overwrites_unasked_and_leaves_no_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    pairs = [PreferencePair(**GOOD)]
    write_pairs(pairs, path)
    with pytest.raises(InputError, match="overwrite"):
        write_pairs([], path)
    with pytest.raises(InputError, match=r"pairs\[1\]"):
        write_pairs([*pairs, PreferencePair("\ud83d", "a", "b")], path, overwrite=True)
    assert read_pairs(path)[0] == pairs
    write_pairs([PreferencePair("x", "y", "z")], path, overwrite=True)
    assert read_pairs(path)[0] == [PreferencePair("x", "y", "z")]
    for bad in (tmp_path / "pairs.txt", tmp_path / "nowhere" / "pairs.jsonl"):
        with pytest.raises(InputError, match=bad.parent.name):
            write_pairs(pairs, bad)
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "pairs.jsonl"
    write_pairs([PreferencePair(**GOOD)], path)
    before = path.read_bytes()

    def full_disk(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:3])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_pairs([PreferencePair("x", "y", "z")], path, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_hash_sees_content_order_and_field_boundaries() -> None:
    different = [
        [],
        [PreferencePair("a", "b", "c")],
        [PreferencePair("ab", "", "c")],
        [PreferencePair("", "ab", "c")],
        [PreferencePair('a","b', "", "c")],
        [PreferencePair((Message("a", "b"),), "b", "c")],
        [PreferencePair('[["a", "b"]]', "b", "c")],
        [PreferencePair("a", "b", "c"), PreferencePair("d", "e", "f")],
        [PreferencePair("d", "e", "f"), PreferencePair("a", "b", "c")],
        [PreferencePair("a", "b", "c\nd"), PreferencePair("", "e", "f")],
    ]
    assert len({data_hash(pairs) for pairs in different}) == len(different)
    # Fixed so that a cache or a run record made by an older version still means the same.
    first = b'["a", "b", "c"]\n'
    assert data_hash(different[1]) == hashlib.sha256(first).hexdigest()


few_prompts = st.lists(
    st.sampled_from("abcdef").map(lambda p: PreferencePair(p, " x", " y")), min_size=2, max_size=40
).filter(lambda pairs: len({p.prompt for p in pairs}) > 1)


@given(pairs=few_prompts, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 9))
def test_split_keeps_prompts_whole_order_and_every_pair(pairs, fraction, seed) -> None:
    numbered = [PreferencePair(p.prompt, f" x{i}", p.rejected) for i, p in enumerate(pairs)]
    train, held_out = split_pairs(numbered, fraction, seed)
    assert split_pairs(numbered, fraction, seed) == (train, held_out)
    assert not {p.prompt for p in train} & {p.prompt for p in held_out}
    assert Counter(train) + Counter(held_out) == Counter(numbered)
    for side in (train, held_out):
        assert side
        assert side == sorted(side, key=numbered.index)
    smallest = min(Counter(p.prompt for p in pairs).values())
    assert len(held_out) <= max(1, round(fraction * len(pairs)), smallest)


def test_split_of_distinct_prompts_has_the_size_asked_for_and_depends_on_the_seed() -> None:
    pairs = [PreferencePair(str(i), " x", " y") for i in range(100)]
    sizes = {len(split_pairs(pairs, 0.2, seed)[1]) for seed in range(5)}
    assert sizes == {20}
    assert split_pairs(pairs, 0.2, 0) != split_pairs(pairs, 0.2, 1)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_split_refuses_a_fraction_outside_its_range(fraction: float) -> None:
    with pytest.raises(InputError, match="eval_fraction"):
        split_pairs([PreferencePair("a", "b", "c"), PreferencePair("d", "b", "c")], fraction, 0)


def test_split_refuses_a_single_prompt() -> None:
    with pytest.raises(InputError, match="two prompts"):
        split_pairs([PreferencePair("a", "b", "c")] * 3, 0.5, 0)


# --- real pairs ------------------------------------------------------------------------------

REAL_SIZES = {
    "hh_harmless_slice_test.jsonl.gz": 89,
    "hh_harmless_slice_train.jsonl.gz": 370,
    "panda_pairs_test.jsonl.gz": 168,
    "panda_pairs_train.jsonl.gz": 634,
    "polite_pairs_test.jsonl.gz": 194,
    "polite_pairs_train.jsonl.gz": 900,
}


@pytest.mark.parametrize(("name", "size"), REAL_SIZES.items())
def test_real_files_are_read_whole_and_text_is_unchanged(shared_data, name, size) -> None:
    path = shared_data / name
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    pairs, report = read_pairs(path)
    assert (len(pairs), report.kept, report.odd) == (size, size, ())
    for pair, line in zip(pairs, lines, strict=True):
        row = json.loads(line)
        assert pair.prompt + pair.chosen == row["chosen"]
        assert pair.prompt + pair.rejected == row["rejected"]
        assert pair.prompt.endswith(MARKER)
        assert MARKER not in pair.chosen + pair.rejected


def test_votes_have_wrong_columns(shared_data) -> None:
    with pytest.raises(InputError, match="found 'idx', 'model_a', 'model_b', 'votes'"):
        read_pairs(shared_data / "panda_votes.jsonl.gz")


def test_every_odd_real_row_is_a_valid_pair_or_named(shared_data) -> None:
    path = shared_data / "hh_odd_cases.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    expected = {}
    for number, row in enumerate(rows, start=1):
        sides = [row[side].split(MARKER) for side in ("chosen", "rejected")]
        (*chosen_prompt, chosen), (*rejected_prompt, rejected) = sides
        if chosen_prompt != rejected_prompt:
            expected[number] = Reason.PROMPTS_DIFFER
        elif chosen.lstrip().startswith("Human:") or rejected.lstrip().startswith("Human:"):
            expected[number] = Reason.SPEAKER_MARKER
        elif chosen == rejected:
            expected[number] = Reason.IDENTICAL_ANSWERS
    pairs, report = read_pairs(path, odd="report")
    assert {odd.row: odd.reason for odd in report.odd} == expected
    assert len(pairs) == len(rows) - len(expected)
    # As counted by hand from the file: it is part of what the reader is promised.
    assert sorted(expected) == [1, 2, 14, 15, 16]
    assert len(rows) == 18
    with pytest.raises(InputError, match="18 rows, 13 kept, 5 odd"):
        read_pairs(path)
