"""Padding, positions and spans; and the table of one row's tokens."""

from __future__ import annotations

import doctest

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_tokenizers import CHATML, byte_level, word_pieces_with_leading_space
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import dpo_lab.batching
from dpo_lab.batching import (
    EncodedPair,
    EncodedResponse,
    collate,
    encode_response,
    padding_id,
    render_tokens,
)
from dpo_lab.errors import InputError
from dpo_lab.pairs import Message

# Ids may equal the padding id 0 anywhere: that is what padding with EOS means.
responses = st.lists(st.integers(0, 4), min_size=2, max_size=9).flatmap(
    lambda ids: st.builds(EncodedResponse, st.just(ids), st.integers(1, len(ids) - 1))
)
sides = st.sampled_from(["right", "left"])


def test_worked_example_of_the_docstring() -> None:
    assert doctest.testmod(dpo_lab.batching).failed == 0


@given(rows=st.lists(responses, min_size=1, max_size=5), side=sides)
def test_spans_masks_and_positions_come_from_lengths(rows, side) -> None:
    batch = collate(rows, pad_id=0, padding_side=side)
    assert batch.starts.dtype == batch.ends.dtype == torch.int64
    assert batch.starts.shape == batch.ends.shape == (len(rows),)
    for i, row in enumerate(rows):
        real = batch.attention_mask[i].bool()
        assert batch.input_ids[i, real].tolist() == row.input_ids
        assert batch.position_ids[i, real].tolist() == list(range(len(row.input_ids)))
        assert not batch.input_ids[i, ~real].any()
        span = batch.input_ids[i, batch.starts[i] : batch.ends[i]]
        assert span.tolist() == row.input_ids[row.prompt_length :]
        first_padding = 0 if side == "left" else -1
        assert real.all() or not real[first_padding]
    assert batch.input_ids.shape[1] == max(len(row.input_ids) for row in rows)
    assert batch.position_ids.min() >= 0
    assert batch.position_ids.max() < batch.input_ids.shape[1]


@given(pairs=st.lists(st.builds(EncodedPair, responses, responses), min_size=1, max_size=4))
def test_pairs_give_all_chosen_rows_and_then_all_rejected_rows(pairs) -> None:
    flat = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    for ours, expected in zip(collate(pairs, 0), collate(flat, 0), strict=True):
        assert torch.equal(ours, expected)


def test_hand_worked_left_padding() -> None:
    batch = collate([EncodedResponse([5, 6, 7], 2), EncodedResponse([8, 9], 1)], 1, "left")
    assert batch.input_ids.tolist() == [[5, 6, 7], [1, 8, 9]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [0, 1, 1]]
    assert batch.position_ids.tolist() == [[0, 1, 2], [0, 0, 1]]
    assert (batch.starts.tolist(), batch.ends.tolist()) == ([2, 2], [3, 3])
    moved = batch.to("meta")
    assert all(tensor.device.type == "meta" for tensor in moved)


@pytest.mark.parametrize("family", ["learned positions", "rotary positions"])
def test_a_models_logits_do_not_depend_on_the_padding_side_or_on_batch_mates(family) -> None:
    torch.manual_seed(0)
    if family == "learned positions":
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=11, n_positions=32, n_embd=16, n_layer=2, n_head=2)
        )
    else:
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=11,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
            )
        )
    model.eval()
    rows = [EncodedResponse([1, 2, 3, 4, 10], 2), EncodedResponse([1, 9, 10], 1)]
    rows.append(EncodedResponse([1, *range(2, 10), 10], 4))

    def response_logits(rows: list[EncodedResponse], side: str) -> list[torch.Tensor]:
        batch = collate(rows, pad_id=10, padding_side=side)
        with torch.no_grad():
            logits = model(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                position_ids=batch.position_ids,
            ).logits
        spans = zip(logits, batch.starts, batch.ends, strict=True)
        return [row[start - 1 : end - 1] for row, start, end in spans]

    alone = [response_logits([row], "right")[0] for row in rows]
    for side in ("right", "left"):
        for single, together in zip(alone, response_logits(rows, side), strict=True):
            torch.testing.assert_close(single, together, rtol=1e-5, atol=1e-6)


def test_bad_input_is_named() -> None:
    good = EncodedResponse([1, 2], 1)
    with pytest.raises(InputError, match="empty"):
        collate([], 0)
    for prompt_length in (0, 2, -1):
        with pytest.raises(InputError, match=f"row 1 .* prompt_length {prompt_length}"):
            collate([good, EncodedResponse([1, 2], prompt_length)], 0)


def test_padding_id_is_the_tokenizers_own_or_eos() -> None:
    own = byte_level()
    assert padding_id(own) == own.pad_token_id != own.eos_token_id
    without = byte_level(pad=None)
    assert padding_id(without) == without.eos_token_id
    with pytest.raises(InputError, match="neither"):
        padding_id(byte_level(pad=None, eos=None))


# --- the token table -------------------------------------------------------------------------


def test_table_of_a_row_with_everything_awkward_in_it() -> None:
    tokenizer = byte_level()
    encoded = encode_response(tokenizer, "hello ", "there\n\x1b[2J 猫")
    lines = render_tokens(encoded, tokenizer).splitlines()
    assert all(line.isprintable() for line in lines)
    # The cat takes two tokens, neither of which is a character.
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(lines)
    header, *rows = lines
    assert header.split() == ["index", "id", "text", "part", "mark"]
    cells = [row.split() for row in rows]
    assert [int(row[0]) for row in cells] == list(range(len(encoded.input_ids)))
    assert [int(row[1]) for row in cells] == encoded.input_ids
    parts = [row[3] for row in cells]
    assert parts == ["prompt"] * 3 + ["response"] * (len(parts) - 3)
    shown = [row[2] for row in cells]
    assert shown[:3] == ["<s>", "hello", "␣"]
    assert {"\\n", "\\x1b"} <= set(shown)
    assert [row[4:] for row in cells if row[4:]] == [["BOS"], ["EOS"]]


def test_table_shows_the_space_of_tokenizers_that_drop_it_from_single_tokens() -> None:
    tokenizer = word_pieces_with_leading_space()
    encoded = encode_response(tokenizer, "hello", " there")
    assert tokenizer.decode(encoded.input_ids[-2:-1]) == "there"
    row = render_tokens(encoded, tokenizer).splitlines()[-2]
    assert row.split()[2] == "␣there"


def test_table_marks_every_eos_of_a_conversation_and_one_token_by_its_part() -> None:
    chat = byte_level(bos=None, eos="<|im_end|>", others=("<|im_start|>",), chat_template=CHATML)
    encoded = encode_response(chat, (Message("user", "hi"),), "hello")
    marked = [
        line.split()[3:] for line in render_tokens(encoded, chat).splitlines() if "EOS" in line
    ]
    assert marked == [["prompt", "EOS"], ["response", "EOS"]]
    one = byte_level(bos="</s>")
    lines = render_tokens(encode_response(one, "hello", " there"), one).splitlines()
    assert (lines[1].split()[-1], lines[-1].split()[-1]) == ("BOS", "EOS")
