"""Writing, fingerprinting and splitting pairs; and reading the real ones."""

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
    data_hash,
    read_pairs,
    split_pairs,
    write_pairs,
)

MARKER = "\n\nAssistant:"
GOOD = {"prompt": "2+2=", "chosen": " 4", "rejected": " 5"}


def test_worked_example_of_the_docstring() -> None:
    assert doctest.testmod(dpo_lab.pairs).failed == 0


# --- writing, hashing, splitting -------------------------------------------------------------

# Text that validation accepts: not blank, and without a speaker marker.
answers = st.text(min_size=1, max_size=12).filter(
    lambda s: s.strip() and "Human:" not in s and "Assistant:" not in s
)
conversations = st.lists(
    st.builds(Message, st.sampled_from(["system", "user"]), st.text(max_size=8)), min_size=1
).map(tuple)


def pairs_with(prompts: st.SearchStrategy) -> st.SearchStrategy:
    scores = st.none() | st.floats(allow_nan=False, allow_infinity=False)
    pair = st.builds(PreferencePair, prompts, answers, answers, scores)
    return st.lists(pair.filter(lambda p: p.chosen != p.rejected), min_size=1, max_size=6)


valid_lists = pairs_with(st.text(max_size=12)) | pairs_with(conversations)


@settings(max_examples=60, deadline=None)
@given(pairs=valid_lists, ending=st.sampled_from(["", ".gz"]))
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
    with pytest.raises(InputError, match=r"pairs\[0\]: a score or margin is not a finite"):
        write_pairs([PreferencePair("a", "b", "c", float("nan"))], path, overwrite=True)
    with pytest.raises(InputError, match=r"pairs\[1\]: prompt is text in some pairs"):
        write_pairs(
            [*pairs, PreferencePair((Message("user", "hi"),), "a", "b")], path, overwrite=True
        )
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
        [PreferencePair("a", "b", "c", 1.0)],
        [PreferencePair("a", "b", "c", 2.0)],
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


def test_a_split_is_the_one_it_always_was() -> None:
    """A run that is resumed must find the pairs that it left."""
    prompts = ["a", "b", (Message("user", "a"),), "c", "b", "d", "e", "a", "f", "b", "g", "h"]
    pairs = [PreferencePair(p, f" x{i}", " y") for i, p in enumerate(prompts)]
    held_out = [[pairs.index(p) for p in split_pairs(pairs, 0.3, seed)[1]] for seed in range(4)]
    assert held_out == [[1, 4, 6, 9], [3, 5, 8, 10], [5, 6, 8, 10], [0, 6, 7, 8]]
    pairs = [PreferencePair(p, f" x{i}", " y") for i, p in enumerate("aaabbbaacc" * 2)]
    assert [pairs.index(p) for p in split_pairs(pairs, 0.1, 0)[1]] == [8, 9, 18, 19]


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
