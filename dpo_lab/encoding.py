"""Pairs of text to token ids with explicit spans.

The prompt is encoded alone, as it is when a model is asked to continue it. The response takes
the ids that follow the prompt's in the encoding of the full text. Where the tokenizer merges
across the boundary there are no such ids; then the response is encoded alone and the row is
counted in `EncodingReport.boundary_merges`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from dpo_lab.encoded import DroppedRow, DropReason, EncodedPair, EncodedResponse, EncodingReport
from dpo_lab.errors import InputError
from dpo_lab.pair_types import PreferencePair, Prompt
from dpo_lab.token_text import DropError, RowText, TokenizerFacts, row_text, tokenizer_facts

_ANCHOR = "\n"


class _RowIds(NamedTuple):
    """Ids of one row before anything is checked; an answer is None where no ids fit behind the
    prompt's."""

    prompt: list[int]
    answers: list[list[int] | None]
    merged: bool


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    max_length: int | None,
) -> tuple[list[EncodedPair], EncodingReport]:
    """Encode pairs in order; both sides of a pair keep the same prompt ids.

    Prompts too long for `max_length` tokens lose tokens on the left, behind BOS, down to what
    the longer response leaves; a pair with a response that leaves nothing is dropped. No response
    is ever cut. Raises `InputError` for a tokenizer without EOS, or without a chat template where
    a prompt is a conversation, and for a `max_length` below 3 (prompt, response, EOS).
    """
    rows = [(pair.prompt, (pair.chosen, pair.rejected)) for pair in pairs]
    encoded, report = _encode(tokenizer, rows, max_length)
    return [EncodedPair(*sides) for sides in encoded], report


def encode_responses(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[tuple[Prompt, str]],
    max_length: int | None,
) -> tuple[list[EncodedResponse], EncodingReport]:
    """Encode (prompt, response) examples in order; rules and errors as in `encode_pairs`."""
    rows = [(prompt, (response,)) for prompt, response in examples]
    encoded, report = _encode(tokenizer, rows, max_length)
    return [sides[0] for sides in encoded], report


def encode_response(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    response: str,
    *,
    max_length: int | None = None,
) -> EncodedResponse:
    """Encode one example; raises `InputError` where `encode_responses` would drop it."""
    encoded, report = encode_responses(tokenizer, [(prompt, response)], max_length)
    if report.dropped:
        raise _as_input_error(report.dropped[0].reason, report.dropped[0].detail)
    return encoded[0]


def encode_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> list[int]:
    """The ids to generate from: those before the response in `encode_response`, uncut.

    Raises `InputError` where `encode_responses` would drop the row for its prompt.
    """
    facts = tokenizer_facts(tokenizer)
    try:
        text = row_text(tokenizer, facts, prompt, ())
        [ids] = _tokenize(tokenizer, [text.prompt], text.is_chat)
        return _checked_prompt(facts, text, ids)
    except DropError as problem:
        raise _as_input_error(problem.reason, problem.detail) from problem


def _as_input_error(reason: DropReason, detail: str) -> InputError:
    return InputError(f"{reason}: {detail}" if detail else str(reason))


def _encode(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[tuple[Prompt, tuple[str, ...]]],
    max_length: int | None,
) -> tuple[list[list[EncodedResponse]], EncodingReport]:
    if max_length is not None and max_length < 3:
        raise InputError(f"max_length must be at least 3, not {max_length}")
    facts = tokenizer_facts(tokenizer)
    texts: dict[int, RowText] = {}
    dropped: list[DroppedRow] = []
    for row, (prompt, answers) in enumerate(rows):
        try:
            texts[row] = row_text(tokenizer, facts, prompt, answers)
        except DropError as problem:
            dropped.append(DroppedRow(row, problem.reason, problem.detail))
    ids = {**_row_ids(tokenizer, texts, False), **_row_ids(tokenizer, texts, True)}
    encoded: dict[int, list[EncodedResponse]] = {}
    for row, text in texts.items():
        try:
            encoded[row] = _close(facts, text, ids[row], max_length)
        except DropError as problem:
            dropped.append(DroppedRow(row, problem.reason, problem.detail))
    report = EncodingReport(
        rows=tuple(encoded),
        dropped=tuple(sorted(dropped)),
        prompts_cut=sum(
            sides[0].prompt_length < len(texts[row].opening) + len(ids[row].prompt)
            for row, sides in encoded.items()
        ),
        boundary_merges=sum(ids[row].merged for row in encoded),
        special_token_texts=sum(texts[row].has_special_text for row in encoded),
        unknown_tokens=sum(_has(facts.unknown_id, ids[row]) for row in encoded),
    )
    return list(encoded.values()), report


def _row_ids(
    tokenizer: PreTrainedTokenizerBase, texts: dict[int, RowText], is_chat: bool
) -> dict[int, _RowIds]:
    """Ids of all rows of one kind, prompt and answers apart."""
    chosen = {row: text for row, text in texts.items() if text.is_chat == is_chat}
    prompts = _tokenize(tokenizer, [text.prompt for text in chosen.values()], is_chat)
    sides = [
        (prompt_ids, text.prompt, answer)
        for prompt_ids, text in zip(prompts, chosen.values(), strict=True)
        for answer in text.answers
    ]
    answers, merged = _answer_ids(tokenizer, sides, is_chat)
    result, start = {}, 0
    for (row, text), prompt_ids in zip(chosen.items(), prompts, strict=True):
        end = start + len(text.answers)
        result[row] = _RowIds(prompt_ids, answers[start:end], any(merged[start:end]))
        start = end
    return result


def _answer_ids(
    tokenizer: PreTrainedTokenizerBase, sides: list[tuple[list[int], str, str]], is_chat: bool
) -> tuple[list[list[int] | None], list[bool]]:
    """Ids of each answer behind its prompt's ids, and whether the tokenizer would merge there.

    The anchor serves tokenizers that write a space before every text: behind a line break they
    do not, so what follows the line break's ids is the bare continuation.
    """
    full = _tokenize(tokenizer, [prompt + answer for _, prompt, answer in sides], is_chat)
    merged = [ids[: len(side[0])] != side[0] for side, ids in zip(sides, full, strict=True)]
    result: list[list[int] | None] = [
        ids[len(side[0]) :] for side, ids in zip(sides, full, strict=True)
    ]
    torn = [i for i, is_merged in enumerate(merged) if is_merged]
    alone = _tokenize(tokenizer, [sides[i][2] for i in torn], is_chat)
    anchored = _tokenize(tokenizer, [_ANCHOR + sides[i][2] for i in torn], is_chat)
    [anchor] = _tokenize(tokenizer, [_ANCHOR], is_chat)
    for i, plain, behind in zip(torn, alone, anchored, strict=True):
        candidates = [plain]
        if behind[: len(anchor)] == anchor:
            candidates.append(behind[len(anchor) :])
        wanted = _decode(tokenizer, full[i])
        fits = (ids for ids in candidates if _decode(tokenizer, sides[i][0] + ids) == wanted)
        result[i] = next(fits, None)
    return result, merged


def _tokenize(
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


def _close(
    facts: TokenizerFacts, text: RowText, ids: _RowIds, max_length: int | None
) -> list[EncodedResponse]:
    """Check one row, fit its prompt and append EOS. Raises `DropError`."""
    prompt = _checked_prompt(facts, text, ids.prompt)
    answers = [_checked_answer(facts, text, answer) for answer in ids.answers]
    if max_length is not None:
        needed = max(len(answer) for answer in answers) + 1
        prompt = _fit_prompt(facts, text, prompt, needed, max_length)
    return [EncodedResponse([*prompt, *answer, facts.eos_id], len(prompt)) for answer in answers]


def _checked_prompt(facts: TokenizerFacts, text: RowText, ids: list[int]) -> list[int]:
    found = facts.special_ids.intersection(ids)
    if found and not text.is_chat:
        raise DropError(DropReason.SPECIAL_ID_INSIDE, f"id {min(found)}")
    if not text.opening and not ids:
        raise DropError(DropReason.NO_PROMPT_TOKEN)
    return [*text.opening, *ids]


def _checked_answer(facts: TokenizerFacts, text: RowText, answer: list[int] | None) -> list[int]:
    if answer is None:
        raise DropError(DropReason.BOUNDARY_NOT_KEPT)
    if not answer:
        raise DropError(DropReason.EMPTY_RESPONSE)
    # A template's own special tokens are meant, but even there EOS may only close the answer.
    found = facts.special_ids.intersection(answer)
    if facts.eos_id in found or (found and not text.is_chat):
        raise DropError(DropReason.SPECIAL_ID_INSIDE, f"id {min(found)}")
    return answer


def _fit_prompt(
    facts: TokenizerFacts, text: RowText, prompt: list[int], needed: int, max_length: int
) -> list[int]:
    """Cut a prompt from the left, behind its opening, to what a response of `needed` ids leaves."""
    room = max_length - needed
    if len(prompt) <= room:
        return prompt
    head = len(text.opening)
    if text.is_chat and prompt[0] == facts.bos_id:
        head = 1
    if room <= head:
        detail = f"it needs {needed} of {max_length}"
        raise DropError(DropReason.RESPONSE_TOO_LONG, detail)
    return prompt[:head] + prompt[head - room :]


def _has(token_id: int | None, ids: _RowIds) -> bool:
    if token_id is None:
        return False
    return any(token_id in part for part in (ids.prompt, *ids.answers))
