"""Text to ids: boundaries, BOS and EOS, special text in data, templates, length, bad input."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_tokenizers import (
    byte_level,
    deaf,
    word_pieces_with_leading_space,
    words,
)

from dpo_lab.batching import (
    DropReason,
    encode_pairs,
    encode_prompt,
    encode_response,
    encode_responses,
)
from dpo_lab.errors import InputError
from dpo_lab.pairs import Message, PreferencePair, read_pairs

HI = (Message("user", "hi there"),)


def byte_level_variants() -> dict:
    one = "<|endoftext|>"
    return {
        "adds BOS": byte_level(),
        "has BOS, does not add it": byte_level(adds_bos=False),
        "no BOS": byte_level(bos=None),
        "pad is EOS": byte_level(pad="</s>"),
        "no pad": byte_level(pad=None),
        "one token for BOS, EOS and unknown": byte_level(
            bos=one, adds_bos=False, eos=one, pad=None, unk=one
        ),
    }


VARIANTS = byte_level_variants()
by_variant = pytest.mark.parametrize("tokenizer", VARIANTS.values(), ids=VARIANTS.keys())
# Text with its accidents: any characters, spaces at the ends, special tokens' text inside.
texts = st.lists(
    st.text(max_size=6)
    | st.sampled_from([" ", "\n", "\n\n", "$46", "hello", " there", "<s>", "</s>", "<pad>", "猫"]),
    max_size=5,
).map("".join)


def spans(tokenizer, prompt: str, response: str) -> tuple[list[int], list[int]]:
    encoded = encode_response(tokenizer, prompt, response)
    ids, cut = encoded.input_ids, encoded.prompt_length
    return ids[:cut], ids[cut:]


# --- plain text ------------------------------------------------------------------------------


@by_variant
@settings(max_examples=80, deadline=None)
@given(prompt=texts, response=texts)
def test_spans_of_any_text_decode_back_between_one_bos_and_one_eos(tokenizer, prompt, response):
    opening = [tokenizer.bos_token_id] if _adds_bos(tokenizer) else []
    # Behind and before these letters a special token's text opens or closes nothing.
    prompt, response = "x" + prompt, response + "y"
    before, after = spans(tokenizer, prompt, response)
    assert before == encode_prompt(tokenizer, prompt)
    assert before[: len(opening)] == opening
    assert tokenizer.decode(before[len(opening) :]) == prompt
    assert after[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(after[:-1]) == response
    special = set(tokenizer.all_special_ids)
    assert not special & set(before[len(opening) :] + after[:-1])


def _adds_bos(tokenizer) -> bool:
    return tokenizer("").input_ids == [tokenizer.bos_token_id]


@by_variant
def test_plain_ids_are_the_tokenizers_own_where_nothing_merges(tokenizer) -> None:
    encoded = encode_response(tokenizer, "The weather is", " warm today")
    whole = tokenizer("The weather is warm today").input_ids
    assert encoded.input_ids == [*whole, tokenizer.eos_token_id]
    assert encoded.input_ids[: encoded.prompt_length] == tokenizer("The weather is").input_ids


def test_a_merge_across_the_boundary_is_detected_and_the_prompt_keeps_its_ids() -> None:
    tokenizer = byte_level()
    prompt, response = "costs ", "$46"
    whole = tokenizer.convert_ids_to_tokens(tokenizer(prompt + response).input_ids)
    assert "Ġ$" in whole  # This is the merge: the space belongs to the prompt.
    pairs = [
        PreferencePair(prompt, response, "nothing"),
        PreferencePair("costs", " $46", " nothing"),
        PreferencePair(prompt, " nothing", response),  # Two spaces: only the second side merges.
    ]
    encoded, report = encode_pairs(tokenizer, pairs, None)
    assert report.boundary_merges == 2
    assert report.kept == 3
    chosen = encoded[0].chosen
    tokens = tokenizer.convert_ids_to_tokens(chosen.input_ids)
    assert tokens[chosen.prompt_length - 1 :] == ["Ġ", "$", "46", "</s>"]
    assert chosen.input_ids[: chosen.prompt_length] == encode_prompt(tokenizer, prompt)


@settings(max_examples=60, deadline=None)
@given(prompt=texts, response=texts)
def test_a_tokenizer_that_writes_a_leading_space_writes_none_into_the_middle(prompt, response):
    tokenizer = word_pieces_with_leading_space()
    prompt, response = "x" + prompt, response + "y"
    encoded = encode_response(tokenizer, prompt, response)
    assert tokenizer.decode(encoded.input_ids[1:-1]) == prompt + response
    assert tokenizer.decode(encoded.input_ids[1 : encoded.prompt_length]) == prompt


def test_that_tokenizer_alone_would_write_the_space() -> None:
    tokenizer = word_pieces_with_leading_space()
    naive = tokenizer("hello ", add_special_tokens=False).input_ids
    naive += tokenizer("there", add_special_tokens=False).input_ids
    assert tokenizer.decode(naive) == "hello  there"
    _, report = encode_responses(tokenizer, [("hello ", "there"), ("hello", " there")], None)
    assert (report.boundary_merges, report.kept) == (1, 2)


def test_a_boundary_that_the_tokenizer_cannot_keep_is_dropped_and_named() -> None:
    rows = [("the soup", "was good"), ("the soup", " was good")]
    encoded, report = encode_responses(words(), rows, None)
    # "soupwas" is one unknown word; two words in its place would be another text.
    assert [(d.row, d.reason) for d in report.dropped] == [(0, DropReason.BOUNDARY_NOT_KEPT)]
    assert report.rows == (1,)
    assert words().decode(encoded[0].input_ids) == "the soup was good <eos>"


def test_unknown_tokens_are_counted() -> None:
    rows = [("the soup", " was good"), ("the soup", " was superb"), ("a soup", " was bad")]
    assert encode_responses(words(), rows, None)[1].unknown_tokens == 2
    # GPT-2 names one token for unknown and EOS; bytes never need it.
    one = VARIANTS["one token for BOS, EOS and unknown"]
    assert encode_responses(one, [("a", "\u0e00猫")], None)[1].unknown_tokens == 0


def test_real_pairs_decode_back_in_order(shared_data) -> None:
    tokenizer = byte_level()
    for name in ("panda_pairs_test", "hh_harmless_slice_test"):
        pairs, _ = read_pairs(shared_data / f"{name}.jsonl.gz")
        encoded, report = encode_pairs(tokenizer, pairs, None)
        assert (report.kept, report.boundary_merges) == (len(pairs), 0)
        for pair, sides in zip(pairs, encoded, strict=True):
            for side, text in zip(sides, (pair.chosen, pair.rejected), strict=True):
                assert tokenizer.decode(side.input_ids[1 : side.prompt_length]) == pair.prompt
                assert tokenizer.decode(side.input_ids[side.prompt_length : -1]) == text


# --- BOS and EOS -----------------------------------------------------------------------------


def test_bos_that_opens_the_text_is_not_doubled() -> None:
    for adds_bos in (True, False):
        tokenizer = byte_level(adds_bos=adds_bos)
        before, _ = spans(tokenizer, "<s>hello", " there")
        assert tokenizer.convert_ids_to_tokens(before) == ["<s>", "hello"]


def test_bos_is_not_invented() -> None:
    for tokenizer in (byte_level(adds_bos=False), byte_level(bos=None)):
        before, _ = spans(tokenizer, "hello", " there")
        assert tokenizer.convert_ids_to_tokens(before) == ["hello"]


@pytest.mark.parametrize("ending", ["", "</s>", "</s></s>"])
def test_eos_that_closes_the_answer_is_not_doubled(ending: str) -> None:
    tokenizer = byte_level()
    _, after = spans(tokenizer, "hello", " there" + ending)
    assert tokenizer.convert_ids_to_tokens(after) == ["Ġthere", "</s>"]


@by_variant
def test_special_text_in_the_data_stays_text_and_is_counted(tokenizer) -> None:
    eos = tokenizer.eos_token
    rows = [("a", f"x {eos} y"), (f"a {eos}", "x"), ("a", f"x{eos}"), ("a", "x")]
    encoded, report = encode_responses(tokenizer, rows, None)
    assert report.special_token_texts == 3
    for row in encoded:
        assert row.input_ids.count(tokenizer.eos_token_id) == 1
        assert row.input_ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(encoded[0].input_ids[encoded[0].prompt_length : -1]) == f"x {eos} y"


def test_plain_text_that_still_becomes_a_special_token_is_dropped() -> None:
    rows = [("the soup", " was <eos> good"), ("<eos> soup", " was good"), ("the", " soup <eos>")]
    _, report = encode_responses(words(), rows, None)
    assert [(d.row, d.reason) for d in report.dropped] == [
        (0, DropReason.SPECIAL_ID_INSIDE),
        (1, DropReason.SPECIAL_ID_INSIDE),
    ]
    with pytest.raises(InputError, match="special token would stand inside the text: id 1"):
        encode_prompt(words(), "<eos> soup")


def test_an_unknown_token_that_is_eos_is_no_plain_text() -> None:
    _, report = encode_responses(words(unk="<eos>"), [("the soup", " was superb")], None)
    assert [d.reason for d in report.dropped] == [DropReason.SPECIAL_ID_INSIDE]


def test_encoding_leaves_the_tokenizer_as_it_was() -> None:
    tokenizer = byte_level()
    before = tokenizer("a</s>").input_ids
    encode_response(tokenizer, "a</s>", "b")
    assert tokenizer("a</s>").input_ids == before
    assert not tokenizer.split_special_tokens


# --- length ----------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=6),
    max_length=st.integers(3, 24),
    tokenizer=st.sampled_from([byte_level(), byte_level(bos=None)]),
)
def test_length_is_respected_and_no_response_is_ever_cut(rows, max_length, tokenizer) -> None:
    pairs = [PreferencePair("x" + p, c + "y", r + "z") for p, c, r in rows]
    uncut, all_kept = encode_pairs(tokenizer, pairs, None)
    encoded, report = encode_pairs(tokenizer, pairs, max_length)
    assert all_kept.rows == tuple(range(len(pairs)))
    dropped = {d.row for d in report.dropped}
    assert sorted({*report.rows, *dropped}) == list(range(len(pairs)))
    assert list(report.rows) == sorted(report.rows)
    opening = 1 if tokenizer.bos_token else 0
    cut = 0
    for row, pair in zip(report.rows, encoded, strict=True):
        room = max_length - max(len(s.input_ids) - s.prompt_length for s in uncut[row])
        for side, whole in zip(pair, uncut[row], strict=True):
            assert len(side.input_ids) <= max_length
            response = side.input_ids[side.prompt_length :]
            assert response == whole.input_ids[whole.prompt_length :]
            prompt = side.input_ids[: side.prompt_length]
            expected = whole.input_ids[: whole.prompt_length]
            if len(expected) > room:
                expected = expected[:opening] + expected[len(expected) - room + opening :]
            assert prompt == expected
            assert len(prompt) > opening
        cut += pair.chosen.prompt_length < uncut[row].chosen.prompt_length
    assert report.prompts_cut == cut
    for row in dropped:
        longest = max(len(s.input_ids) - s.prompt_length for s in uncut[row])
        assert longest + opening + 1 > max_length


def test_both_sides_keep_the_same_prompt_when_the_longer_answer_cuts_it() -> None:
    tokenizer = byte_level()
    pair = PreferencePair("hello" * 6, "n", "hello" * 4)
    [encoded], report = encode_pairs(tokenizer, [pair], 8)
    prompts = [side.input_ids[: side.prompt_length] for side in encoded]
    assert prompts[0] == prompts[1]
    assert tokenizer.convert_ids_to_tokens(prompts[0]) == ["<s>", "hello", "hello"]
    assert (len(encoded.rejected.input_ids), report.prompts_cut) == (8, 1)


def test_a_response_without_room_is_dropped_with_its_row_and_length() -> None:
    pairs = [PreferencePair("hello", " there", "hello" * 9), PreferencePair("hello", " a", " b")]
    encoded, report = encode_pairs(byte_level(), pairs, 11)
    assert len(encoded) == 1
    assert report.to_dict()["dropped"] == [
        {"row": 0, "reason": str(DropReason.RESPONSE_TOO_LONG), "detail": "it needs 10 of 11"}
    ]
    assert encode_pairs(byte_level(), pairs, 12)[1].kept == 2


# --- bad input and the report ----------------------------------------------------------------


def test_a_tokenizer_without_eos_is_named() -> None:
    with pytest.raises(InputError, match="tiny-bytes has no EOS"):
        encode_pairs(byte_level(eos=None), [], None)


def test_a_tokenizer_that_would_lose_text_is_refused() -> None:
    with pytest.raises(InputError, match="would lose text"):
        encode_pairs(deaf(), [PreferencePair("x", "y", "yy")], None)


@pytest.mark.parametrize("max_length", [2, 0, -5])
def test_a_length_that_holds_no_example_is_refused(max_length: int) -> None:
    with pytest.raises(InputError, match="max_length"):
        encode_pairs(byte_level(), [], max_length)


def test_rows_that_cannot_be_encoded_are_named() -> None:
    rows = [("", "x"), ("a", "</s>"), ("a", "\ud83d"), ("a", "x")]
    encoded, report = encode_responses(byte_level(bos=None), rows, None)
    assert len(encoded) == 1
    assert [(d.row, d.reason) for d in report.dropped] == [
        (0, DropReason.NO_PROMPT_TOKEN),
        (1, DropReason.EMPTY_RESPONSE),
        (2, DropReason.NOT_UNICODE),
    ]
    with pytest.raises(InputError, match="no token stands before the response"):
        encode_prompt(byte_level(bos=None), "")
    with pytest.raises(InputError, match="no tokens"):
        encode_response(byte_level(), "a", "</s>")


def test_an_empty_prompt_is_fine_behind_bos() -> None:
    before, _ = spans(byte_level(), "", "x")
    assert before == [byte_level().bos_token_id]


def test_the_report_counts_and_shows_what_happened() -> None:
    rows = [("", "x")] * 22 + [("costs ", "$46"), ("hello</s>" * 9, "x")]
    _, report = encode_responses(byte_level(bos=None), rows, 12)
    lines = report.table().splitlines()
    assert lines[0] == "24 rows, 2 encoded, 22 dropped"
    assert lines[1].split(" x ") == ["      1", "the prompt was cut from the left"]
    assert lines[-1].strip() == "... and 2 more dropped rows"
    numbers = json.loads(json.dumps(report.to_dict()))
    assert numbers["kept"] == 2
    assert numbers["counts"] == {str(DropReason.NO_PROMPT_TOKEN): 22}
    assert (numbers["boundary_merges"], numbers["special_token_texts"]) == (1, 1)


def test_encoding_long_text_prints_no_warning_of_its_own(caplog) -> None:
    # `max_length` is ours to respect; a notebook's output should not carry a false alarm.
    tokenizer = byte_level(bos=None, pad=None)
    tokenizer.model_max_length = 4
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        encode_response(tokenizer, "hello" * 9, " there")
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.messages == []


def test_nothing_to_encode_is_no_error() -> None:
    encoded, report = encode_pairs(byte_level(), [], None)
    assert (encoded, report.kept, report.dropped) == ([], 0, ())
