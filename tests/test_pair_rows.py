"""Rows to examples: every accepted form, and every odd row with its line and reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dpo_lab.errors import InputError
from dpo_lab.pairs import (
    Message,
    PreferencePair,
    Reason,
    UnpairedExample,
    read_pairs,
    read_unpaired,
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


# --- the forms -------------------------------------------------------------------------------


def test_explicit_row_is_taken_as_it_is(tmp_path: Path) -> None:
    assert read_one(tmp_path, GOOD | {"score": 3}) == PreferencePair("2+2=", " 4", " 5")


@pytest.mark.parametrize(
    ("more", "margin"),
    [
        ({"margin": 0.5}, 0.5),
        ({"margin": "0.5"}, 0.5),  # as CSV has it
        ({"score_chosen": 8.0, "score_rejected": 6.5}, 1.5),
        ({"margin": 2, "score_chosen": 8.0, "score_rejected": 6.5}, 2.0),
        ({"margin": None, "score_chosen": 8.0}, None),
    ],
)
def test_a_margin_comes_from_its_field_or_from_two_scores(tmp_path, more, margin) -> None:
    assert read_one(tmp_path, GOOD | more) == PreferencePair("2+2=", " 4", " 5", margin)


@pytest.mark.parametrize("value", ["high", float("inf"), True, [1]])
def test_a_margin_that_is_no_number_is_odd(tmp_path: Path, value: object) -> None:
    path = tmp_path / "scored.jsonl"
    write_rows(path, GOOD | {"margin": value})
    _, report = read_pairs(path, odd="report")
    assert [(row.field, row.reason) for row in report.odd] == [("margin", Reason.BAD_SCORE)]


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


def test_a_text_prompt_may_repeat_the_users_first_words(tmp_path: Path) -> None:
    """As sets on the hub have it: the text of the question beside both whole conversations."""
    turns = [{"role": "system", "content": "be kind"}, USER]
    row = {"chosen": [*turns, assistant("yes")], "rejected": [*turns, assistant("no")]}
    expected = read_one(tmp_path, row)
    assert read_one(tmp_path, row | {"prompt": USER["content"]}) == expected
    path = write_rows(tmp_path / "other.jsonl", row | {"prompt": "other words"}, row)
    [odd] = read_pairs(path, odd="report")[1].odd
    assert (odd.row, odd.reason) == (1, Reason.MIXED_FORMS)
    assert odd.detail == "prompt is text, chosen is messages, rejected is messages"


def test_implicit_conversation_is_cut_before_the_last_assistant_turn_only(tmp_path: Path) -> None:
    shared = [USER, assistant("hello"), {"role": "user", "content": "again"}]
    row = {"chosen": [*shared, assistant("hello you")], "rejected": [*shared, assistant("hm")]}
    assert [m.content for m in read_one(tmp_path, row).prompt] == ["hi", "hello", "again"]


def test_text_forms_may_be_mixed_in_one_file_and_order_is_kept(tmp_path: Path) -> None:
    rows = [
        GOOD,
        {"chosen": hh("a", " x"), "rejected": hh("a", " y")},
        GOOD | {"chosen": " four"},
    ]
    pairs, report = read_pairs(write_rows(tmp_path / "mixed.jsonl", *rows))
    assert [pair.chosen for pair in pairs] == [" 4", " x", " four"]
    assert (report.kept, report.odd, report.rows) == (3, (), 3)


def test_unpaired_rows(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "completion": "b", "label": True},
        {"prompt": "a", "completion": "b", "label": "False"},
        {"prompt": "a", "completion": "b", "label": 1},
        {"prompt": "a", "completion": "b", "label": None},
        {"prompt": None, "completion": "b", "label": True},
        {"prompt": "a", "completion": " ", "label": True},
    ]
    examples, report = read_unpaired(write_rows(tmp_path / "u.jsonl", *rows), odd="report")
    assert examples == [UnpairedExample("a", "b", True), UnpairedExample("a", "b", False)]
    assert [(o.row, o.field, o.reason) for o in report.odd] == [
        (3, "label", Reason.BAD_LABEL),
        (4, "label", Reason.MISSING_FIELD),
        (5, "prompt", Reason.MISSING_FIELD),
        (6, "completion", Reason.EMPTY_ANSWER),
    ]
    talk = {"prompt": [USER], "completion": [assistant("b")], "label": False}
    [example], _ = read_unpaired(write_rows(tmp_path / "talk.jsonl", talk))
    assert example == UnpairedExample((Message("user", "hi"),), "b", False)


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


def test_text_prompts_and_conversations_in_one_source_are_refused(tmp_path: Path) -> None:
    """Only one of the two would go through the chat template."""
    talk = {"prompt": [USER], "chosen": [assistant("a")], "rejected": [assistant("b")]}
    file = write_rows(tmp_path / "mixed.jsonl", GOOD, {"prompt": "x"}, GOOD, talk)
    message = r"mixed\.jsonl: .* no common format; prompt is text in row 1 and .* in row 4"
    with pytest.raises(InputError, match=message):
        read_pairs(file, odd="report")
    read_pairs(write_rows(tmp_path / "talks.jsonl", talk, talk))
