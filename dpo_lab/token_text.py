"""The exact text that a tokenizer is given, and what is special about that tokenizer.

A plain text row is data from end to end: only a BOS text that opens the prompt and an EOS text
that closes the answer mean the tokens themselves. A conversation goes through the tokenizer's
chat template, whose special tokens are meant; text of the data that looks like one is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from dpo_lab.encoded import DropReason
from dpo_lab.errors import InputError
from dpo_lab.pair_types import Message, Prompt, is_unicode


class DropError(Exception):
    """A row that cannot be encoded; caught where rows are collected."""

    def __init__(self, reason: DropReason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class TokenizerFacts:
    """What encoding has to know about a tokenizer.

    `opening` is what the tokenizer itself puts before a text: `(bos,)`, or nothing. Special ids
    leave out the unknown token, which plain text may well encode to.
    """

    opening: tuple[int, ...]
    bos_id: int | None
    bos_text: str | None
    eos_id: int
    eos_text: str
    unknown_id: int | None
    special_ids: frozenset[int]
    special_text: re.Pattern[str]


class RowText(NamedTuple):
    """The texts of one row: a prompt and the answers to it, without BOS and EOS of our own.

    `opening` are ids to put first. `has_special_text` tells that the data held a special
    token's text.
    """

    opening: tuple[int, ...]
    prompt: str
    answers: tuple[str, ...]
    is_chat: bool
    has_special_text: bool


def tokenizer_facts(tokenizer: PreTrainedTokenizerBase) -> TokenizerFacts:
    """Find out how a tokenizer opens a text and which of its tokens are special.

    Raises `InputError` for a tokenizer without EOS: the end of a response would have no
    probability.
    """
    if tokenizer.eos_token_id is None:
        raise InputError(f"{_name(tokenizer)} has no EOS token, so no response could end")
    # The decoder knows the tokens that are special without having a name such as `eos_token`.
    special = {tokenizer.convert_tokens_to_ids(text): text for text in tokenizer.all_special_tokens}
    added = tokenizer.added_tokens_decoder
    special |= {token_id: token.content for token_id, token in added.items() if token.special}
    unknown_id = tokenizer.unk_token_id
    # GPT-2 has one token for unknown, BOS and EOS; that one is never plain text.
    if unknown_id in (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        unknown_id = None
    longest_first = sorted(special.values(), key=len, reverse=True)
    return TokenizerFacts(
        opening=_opening(tokenizer),
        bos_id=tokenizer.bos_token_id,
        bos_text=tokenizer.bos_token,
        eos_id=tokenizer.eos_token_id,
        eos_text=tokenizer.eos_token,
        unknown_id=unknown_id,
        special_ids=frozenset(special) - {unknown_id},
        special_text=re.compile("|".join(map(re.escape, longest_first))),
    )


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return f"the tokenizer {tokenizer.name_or_path or type(tokenizer).__name__}"


def _opening(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The ids that the tokenizer puts before a text, found by asking it."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    if not bare:
        raise InputError(f"{_name(tokenizer)} encodes 'a' to nothing, so it would lose text")
    full = tokenizer("a", add_special_tokens=True)["input_ids"]
    start = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    return tuple(full[:start])


def plain_text(facts: TokenizerFacts, prompt: str, answers: tuple[str, ...]) -> RowText:
    """The texts of a plain row. Raises `DropError`."""
    for text in (prompt, *answers):
        if not is_unicode(text):
            raise DropError(DropReason.NOT_UNICODE)
    has_special_text = any(facts.special_text.search(text) for text in (prompt, *answers))
    opening = facts.opening
    if facts.bos_text and prompt.startswith(facts.bos_text):
        prompt = prompt.removeprefix(facts.bos_text)
        opening = opening or (facts.bos_id,)
    answers = tuple(_without_closing(answer, facts.eos_text) for answer in answers)
    return RowText(opening, prompt, answers, is_chat=False, has_special_text=has_special_text)


def _without_closing(answer: str, eos_text: str) -> str:
    while answer.endswith(eos_text):
        answer = answer.removesuffix(eos_text)
    return answer


def chat_text(
    tokenizer: PreTrainedTokenizerBase,
    facts: TokenizerFacts,
    prompt: tuple[Message, ...],
    answers: tuple[str, ...],
) -> RowText:
    """The texts of a conversation as the chat template renders it. Raises `DropError`.

    The answer is what the template adds to its own generation prompt. Where that ends with EOS
    and white space, as ChatML's `<|im_end|>` and newline do, both are taken off: EOS is appended
    later, and a model that has stopped never writes the newline. Where the template closes a turn
    with a token that is not EOS, that token belongs to the answer and EOS follows it; a model
    that should stop there needs `tokenizer.eos_token` set to that token.
    """
    if not tokenizer.chat_template:
        raise InputError(f"{_name(tokenizer)} has no chat template, so it cannot encode messages")
    for text in (*(message.content for message in prompt), *answers):
        if not is_unicode(text):
            raise DropError(DropReason.NOT_UNICODE)
        if found := facts.special_text.search(text):
            raise DropError(DropReason.SPECIAL_TEXT_IN_MESSAGE, found[0])
    beginning = _render(tokenizer, prompt, add_generation_prompt=True)
    endings = []
    for answer in answers:
        whole = _render(tokenizer, (*prompt, Message("assistant", answer)))
        if not whole.startswith(beginning):
            raise DropError(DropReason.TEMPLATE_REWRITES_PROMPT)
        ending = whole.removeprefix(beginning)
        if answer.strip() not in ending:
            raise DropError(DropReason.TEMPLATE_REWRITES_ANSWER)
        closed = ending.rstrip()
        if closed.endswith(facts.eos_text):
            ending = _without_closing(closed, facts.eos_text)
        endings.append(ending)
    return RowText((), beginning, tuple(endings), is_chat=True, has_special_text=False)


def _render(
    tokenizer: PreTrainedTokenizerBase,
    messages: tuple[Message, ...],
    add_generation_prompt: bool = False,
) -> str:
    conversation = [message._asdict() for message in messages]
    try:
        return tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except TemplateError as error:
        raise DropError(DropReason.TEMPLATE_REFUSED, str(error)) from error


def row_text(
    tokenizer: PreTrainedTokenizerBase,
    facts: TokenizerFacts,
    prompt: Prompt,
    answers: tuple[str, ...],
) -> RowText:
    """The texts of one row of either kind. Raises `DropError`."""
    if isinstance(prompt, str):
        return plain_text(facts, prompt, answers)
    return chat_text(tokenizer, facts, prompt, answers)
