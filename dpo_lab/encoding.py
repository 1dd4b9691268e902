"""Pairs of text to token ids with explicit spans.

`token_ids` says which ids a prompt and its response have. Here they are checked, fitted to a
length, closed by EOS and accounted for.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from dpo_lab.encoded import DroppedRow, DropReason, EncodedPair, EncodedResponse, EncodingReport
from dpo_lab.errors import InputError
from dpo_lab.lazy_rows import in_batches
from dpo_lab.pair_types import PreferencePair, Prompt
from dpo_lab.token_ids import RowIds, row_ids, tokenize
from dpo_lab.token_text import DropError, RowText, TokenizerFacts, row_text, tokenizer_facts

AT_ONCE = 250  # rows whose texts and ids are in memory at once
Keep = Callable[[Iterator[Any]], Sequence[Any]]


def encode_pairs(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    max_length: int | None,
    keep: Keep = list,
) -> tuple[Sequence[EncodedPair], EncodingReport]:
    """Encode pairs in order; both sides of a pair keep the same prompt ids.

    Prompts too long for `max_length` tokens lose tokens on the left, behind BOS, down to what
    the longer response leaves; a pair with a response that leaves nothing is dropped. No response
    is ever cut. Raises `InputError` for a tokenizer without EOS, or without a chat template where
    a prompt is a conversation, and for a `max_length` below 3 (prompt, response, EOS).

    keep: takes the encoded pairs one by one and gives back what holds them. `list` holds them in
    memory, `disk_rows.write_rows` with a file on the disk.
    """
    rows = ((pair.prompt, (pair.chosen, pair.rejected)) for pair in pairs)
    made = _Encoding(tokenizer, rows, max_length)
    return keep(EncodedPair(*sides) for sides in made), made.report()


def encode_responses(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[tuple[Prompt, str]],
    max_length: int | None,
    keep: Keep = list,
) -> tuple[Sequence[EncodedResponse], EncodingReport]:
    """Encode (prompt, response) examples in order; rules and errors as in `encode_pairs`."""
    rows = ((prompt, (response,)) for prompt, response in examples)
    made = _Encoding(tokenizer, rows, max_length)
    return keep(side for [side] in made), made.report()


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
        [ids] = tokenize(tokenizer, [text.prompt], text.is_chat)
        return _checked_prompt(facts, text, ids)
    except DropError as problem:
        raise _as_input_error(problem.reason, problem.detail) from problem


def _as_input_error(reason: DropReason, detail: str) -> InputError:
    return InputError(f"{reason}: {detail}" if detail else str(reason))


class _Encoding:
    """Encoded rows, some at a time; once they are gone through, the report on all of them.

    Raises `InputError` where it is made for what is wrong with the tokenizer or `max_length`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        rows: Iterable[tuple[Prompt, tuple[str, ...]]],
        max_length: int | None,
    ) -> None:
        if max_length is not None and max_length < 3:
            raise InputError(f"max_length must be at least 3, not {max_length}")
        self.tokenizer, self.max_length = tokenizer, max_length
        self.facts = tokenizer_facts(tokenizer)
        self._rows = enumerate(rows)
        self._kept: list[int] = []
        self._dropped: list[DroppedRow] = []
        self._counts: Counter[str] = Counter()

    def __iter__(self) -> Iterator[list[EncodedResponse]]:
        for batch in in_batches(self._rows, AT_ONCE):
            yield from self._encode(dict(batch))

    def report(self) -> EncodingReport:
        counted = ("prompts_cut", "boundary_merges", "special_token_texts", "unknown_tokens")
        counts = {name: self._counts[name] for name in counted}
        return EncodingReport(tuple(self._kept), tuple(sorted(self._dropped)), **counts)

    def _encode(
        self, rows: dict[int, tuple[Prompt, tuple[str, ...]]]
    ) -> list[list[EncodedResponse]]:
        facts, texts = self.facts, {}
        for row, (prompt, answers) in rows.items():
            with self._dropping(row):
                texts[row] = row_text(self.tokenizer, facts, prompt, answers)
        ids = {is_chat: row_ids(self.tokenizer, texts, is_chat) for is_chat in (False, True)}
        encoded: list[list[EncodedResponse]] = []
        for row, text in texts.items():
            own = ids[text.is_chat][row]
            with self._dropping(row):
                encoded.append(_close(facts, text, own, self.max_length))
                self._count(row, text, own, encoded[-1][0].prompt_length)
        return encoded

    @contextlib.contextmanager
    def _dropping(self, row: int) -> Iterator[None]:
        try:
            yield
        except DropError as problem:
            self._dropped.append(DroppedRow(row, problem.reason, problem.detail))

    def _count(self, row: int, text: RowText, ids: RowIds, prompt_length: int) -> None:
        self._kept.append(row)
        self._counts["prompts_cut"] += prompt_length < len(text.opening) + len(ids.prompt)
        self._counts["boundary_merges"] += ids.merged
        self._counts["special_token_texts"] += text.has_special_text
        self._counts["unknown_tokens"] += ids.has(self.facts.unknown_id)


def _close(
    facts: TokenizerFacts, text: RowText, ids: RowIds, max_length: int | None
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
