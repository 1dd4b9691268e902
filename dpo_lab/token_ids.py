"""The ids of prompts and of the responses behind them, before anything is checked.

The prompt is encoded alone, as it is when a model is asked to continue it. The response takes
the ids that follow the prompt's in the encoding of the full text. Where the tokenizer merges
across the boundary there are no such ids; then the response is encoded alone and the row is
counted in `EncodingReport.boundary_merges`.
"""

from __future__ import annotations

from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from dpo_lab.token_text import RowText

_ANCHOR = "\n"


class RowIds(NamedTuple):
    """Ids of one row before anything is checked; an answer is None where no ids fit behind the
    prompt's."""

    prompt: list[int]
    answers: list[list[int] | None]
    merged: bool

    def has(self, token_id: int | None) -> bool:
        """Whether a token stands anywhere in the row; none does if it is None."""
        parts = (self.prompt, *self.answers)
        return token_id is not None and any(token_id in part for part in parts)


def row_ids(
    tokenizer: PreTrainedTokenizerBase, texts: dict[int, RowText], is_chat: bool
) -> dict[int, RowIds]:
    """Ids of all rows of one kind, prompt and answers apart."""
    chosen = {row: text for row, text in texts.items() if text.is_chat == is_chat}
    prompts = tokenize(tokenizer, [text.prompt for text in chosen.values()], is_chat)
    sides = [
        (prompt_ids, text.prompt, answer)
        for prompt_ids, text in zip(prompts, chosen.values(), strict=True)
        for answer in text.answers
    ]
    answers, merged = _answer_ids(tokenizer, sides, is_chat)
    result, start = {}, 0
    for (row, text), prompt_ids in zip(chosen.items(), prompts, strict=True):
        end = start + len(text.answers)
        result[row] = RowIds(prompt_ids, answers[start:end], any(merged[start:end]))
        start = end
    return result


def _answer_ids(
    tokenizer: PreTrainedTokenizerBase, sides: list[tuple[list[int], str, str]], is_chat: bool
) -> tuple[list[list[int] | None], list[bool]]:
    """Ids of each answer behind its prompt's ids, and whether the tokenizer would merge there.

    The anchor serves tokenizers that write a space before every text: behind a line break they
    do not, so what follows the line break's ids is the bare continuation.
    """
    full = tokenize(tokenizer, [prompt + answer for _, prompt, answer in sides], is_chat)
    merged = [ids[: len(side[0])] != side[0] for side, ids in zip(sides, full, strict=True)]
    result: list[list[int] | None] = [
        ids[len(side[0]) :] for side, ids in zip(sides, full, strict=True)
    ]
    torn = [i for i, is_merged in enumerate(merged) if is_merged]
    alone = tokenize(tokenizer, [sides[i][2] for i in torn], is_chat)
    anchored = tokenize(tokenizer, [_ANCHOR + sides[i][2] for i in torn], is_chat)
    [anchor] = tokenize(tokenizer, [_ANCHOR], is_chat)
    for i, plain, behind in zip(torn, alone, anchored, strict=True):
        candidates = [plain]
        if behind[: len(anchor)] == anchor:
            candidates.append(behind[len(anchor) :])
        wanted = _decode(tokenizer, full[i])
        fits = (ids for ids in candidates if _decode(tokenizer, sides[i][0] + ids) == wanted)
        result[i] = next(fits, None)
    return result, merged


def tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], is_chat: bool
) -> list[list[int]]:
    """Ids of many texts in one call; special tokens are recognised in template text only."""
    if not texts:
        return []
    return tokenizer(
        texts,
        add_special_tokens=False,
        split_special_tokens=not is_chat,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )["input_ids"]


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
