"""Encoded pairs to padded tensors with explicit response spans.

Where a response begins and ends is known from lengths and is carried along; it is never found by
comparing ids with the padding id, so padding may be EOS. Text becomes ids in `encode_pairs`,
`encode_responses`, `encode_response` and `encode_prompt`.

One pair and a row of another, three rows of ids, where 0 is padding, 1 BOS and 2 EOS:

>>> rows = [
...     EncodedResponse([1, 11, 12, 21, 2], prompt_length=3),
...     EncodedResponse([1, 11, 12, 22, 23, 24, 2], prompt_length=3),
...     EncodedResponse([1, 13, 25, 26, 2], prompt_length=2),
... ]
>>> batch = collate(rows, pad_id=0)
>>> for ids, start, end in zip(batch.input_ids.tolist(), batch.starts, batch.ends):
...     print(ids, "response", ids[start:end])
[1, 11, 12, 21, 2, 0, 0] response [21, 2]
[1, 11, 12, 22, 23, 24, 2] response [22, 23, 24, 2]
[1, 13, 25, 26, 2, 0, 0] response [25, 26, 2]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dpo_lab.encoded import DroppedRow, DropReason, EncodedPair, EncodedResponse, EncodingReport
from dpo_lab.encoding import encode_pairs, encode_prompt, encode_response, encode_responses
from dpo_lab.errors import InputError
from dpo_lab.lazy_rows import LazyRows

__all__ = [
    "Batch",
    "DropReason",
    "DroppedRow",
    "EncodedPair",
    "EncodedResponse",
    "EncodingReport",
    "collate",
    "encode_pairs",
    "encode_prompt",
    "encode_response",
    "encode_responses",
    "padding_id",
    "pair_rows",
    "render_tokens",
]


class Batch(NamedTuple):
    """A padded batch. The response of row i is `input_ids[i, starts[i]:ends[i]]`, EOS included.

    `starts` and `ends` count from the left edge of the tensor, left padding included. Positions
    count real tokens from 0, so a row's positions do not depend on its padding; padding itself
    has positions that exist but mean nothing.
    """

    input_ids: Int64[Tensor, "rows tokens"]
    attention_mask: Int64[Tensor, "rows tokens"]
    position_ids: Int64[Tensor, "rows tokens"]
    starts: Int64[Tensor, "rows"]
    ends: Int64[Tensor, "rows"]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with every tensor on `device`."""
        return Batch(*(tensor.to(device) for tensor in self))


def collate(
    encoded: Sequence[EncodedPair] | Sequence[EncodedResponse],
    pad_id: int,
    padding_side: Literal["right", "left"] = "right",
) -> Batch:
    """Pad rows to one length; B pairs give 2B rows, the chosen ones first, then the rejected.

    Raises `InputError` for no rows, for a row without a prompt or a response token, and for
    another padding side.
    """
    if padding_side not in ("right", "left"):
        raise InputError(f"padding_side must be 'right' or 'left', not {padding_side!r}")
    rows = _rows(encoded)
    lengths = torch.tensor([len(row.input_ids) for row in rows])
    prompt_lengths = torch.tensor([row.prompt_length for row in rows])
    width = int(lengths.max())
    shift = width - lengths if padding_side == "left" else torch.zeros_like(lengths)
    input_ids = torch.full((len(rows), width), pad_id)
    for row, first, ids in zip(input_ids, shift.tolist(), rows, strict=True):
        row[first : first + len(ids.input_ids)] = torch.tensor(ids.input_ids)
    columns = torch.arange(width)
    real = (columns >= shift[:, None]) & (columns < (shift + lengths)[:, None])
    positions = (columns - shift[:, None]).clamp(min=0)
    return Batch(input_ids, real.long(), positions, shift + prompt_lengths, shift + lengths)


def pair_rows(pairs: Sequence[EncodedPair]) -> Sequence[EncodedResponse]:
    """All chosen answers, then all rejected ones: the order of a collated batch."""
    count = len(pairs)
    return LazyRows(2 * count, lambda i: pairs[i % count][i // count])


def _rows(encoded: Sequence[EncodedPair] | Sequence[EncodedResponse]) -> list[EncodedResponse]:
    if not encoded:
        raise InputError("encoded is empty: there is nothing to put into a batch")
    rows = list(pair_rows(encoded) if isinstance(encoded[0], EncodedPair) else encoded)
    for index, row in enumerate(rows):
        if not 0 < row.prompt_length < len(row.input_ids):
            raise InputError(
                f"row {index} has {len(row.input_ids)} ids and prompt_length {row.prompt_length}: "
                "prompt and response need at least one id each"
            )
    return rows


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id to pad with: the tokenizer's own, else EOS.

    EOS is safe because spans and masks come from lengths. Raises `InputError` if there is neither.
    """
    if tokenizer.pad_token_id is not None:
        return tokenizer.pad_token_id
    if tokenizer.eos_token_id is None:
        raise InputError("the tokenizer has neither a padding token nor an EOS token")
    return tokenizer.eos_token_id


def render_tokens(encoded: EncodedResponse, tokenizer: PreTrainedTokenizerBase) -> str:
    """A plain text table of one row: index, id, text, part (prompt or response), BOS and EOS.

    A space is shown as `␣`; line breaks and other characters that do not print are escaped. A
    token that holds only a piece of a character is shown by the tokenizer's own name for it.
    """
    ids = encoded.input_ids
    texts = [_visible(text) for text in _token_texts(ids, tokenizer)]
    width = max(len(text) for text in (*texts, "text"))
    lines = [f"{'index':>5}  {'id':>6}  {'text':<{width}}  {'part':<8}  mark"]
    for index, (token_id, text) in enumerate(zip(ids, texts, strict=True)):
        part = "prompt" if index < encoded.prompt_length else "response"
        mark = _mark(token_id, part, tokenizer)
        lines.append(f"{index:>5}  {token_id:>6}  {text:<{width}}  {part:<8}  {mark}".rstrip())
    return "\n".join(lines)


def _mark(token_id: int, part: str, tokenizer: PreTrainedTokenizerBase) -> str:
    names = {"BOS": tokenizer.bos_token_id, "EOS": tokenizer.eos_token_id}
    if names["BOS"] == names["EOS"]:  # One token for both: its part says which it is.
        names = {"BOS" if part == "prompt" else "EOS": tokenizer.eos_token_id}
    return " ".join(name for name, special_id in names.items() if token_id == special_id)


def _token_texts(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """What each token adds to the text of the one before it: decoded alone, some lose a space."""
    texts = []
    for index, token_id in enumerate(ids):
        before = ids[max(0, index - 1) : index]
        whole = tokenizer.decode([*before, token_id], clean_up_tokenization_spaces=False)
        head = tokenizer.decode(before, clean_up_tokenization_spaces=False)
        text = whole.removeprefix(head)
        is_piece = not whole.startswith(head) or "\N{REPLACEMENT CHARACTER}" in text
        texts.append(tokenizer.convert_ids_to_tokens(token_id) if is_piece or not text else text)
    return texts


def _visible(text: str) -> str:
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(escaped).replace(" ", "␣")
