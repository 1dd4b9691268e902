"""Encoded responses with explicit spans, and the report on how they came about."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple


class EncodedResponse(NamedTuple):
    """Token ids of a prompt and the response to it.

    `input_ids[:prompt_length]` is the prompt, BOS included; `input_ids[prompt_length:]` is the
    response, whose last id is EOS. Both parts have at least one id, so every response token has
    a token before it that predicts it.
    """

    input_ids: list[int]
    prompt_length: int


class EncodedPair(NamedTuple):
    """The two sides of a preference pair; both begin with the same prompt ids."""

    chosen: EncodedResponse
    rejected: EncodedResponse


class DropReason(str, Enum):
    """Why a row was not encoded; the value is the sentence that people read."""

    RESPONSE_TOO_LONG = "the response leaves no room for a prompt token within max_length"
    EMPTY_RESPONSE = "the response has no tokens"
    NO_PROMPT_TOKEN = "no token stands before the response, so its first token has no prediction"
    SPECIAL_ID_INSIDE = "a special token would stand inside the text"
    SPECIAL_TEXT_IN_MESSAGE = "a message holds a special token's text, which a template activates"
    TEMPLATE_REFUSED = "the chat template refuses the conversation"
    TEMPLATE_REWRITES_PROMPT = "the chat template's prompt is not the beginning of its whole text"
    TEMPLATE_REWRITES_ANSWER = "the chat template does not show the answer as it was written"
    BOUNDARY_NOT_KEPT = "prompt and response ids, joined, do not decode to the full text"
    NOT_UNICODE = "the text holds half a surrogate pair, which is no character"

    def __str__(self) -> str:
        return self.value


class DroppedRow(NamedTuple):
    """A row that was not encoded; `row` is its 0-based index in what was given."""

    row: int
    reason: DropReason
    detail: str = ""


@dataclass(frozen=True)
class EncodingReport:
    """What encoding did; the four counts are numbers of kept rows (a pair is one row).

    * `rows`: the 0-based index in the input of each row kept, in order.
    * `prompts_cut`: the prompt lost tokens on its left to respect max_length.
    * `boundary_merges`: the tokenizer gives the full text other ids than prompt and response one
      after the other. The row is kept with the latter: they are what a model can be asked to
      continue, since generation starts behind the prompt's own tokens.
    * `special_token_texts`: the text holds a special token's text, such as `</s>`. An EOS text
      that closes a response and a BOS text that opens a prompt are taken for what they say; any
      other is encoded letter by letter.
    * `unknown_tokens`: something in the text has no id but the unknown token's.
    """

    rows: tuple[int, ...]
    dropped: tuple[DroppedRow, ...]
    prompts_cut: int
    boundary_merges: int
    special_token_texts: int
    unknown_tokens: int

    @property
    def kept(self) -> int:
        """Number of rows encoded."""
        return len(self.rows)

    @property
    def counts(self) -> dict[str, int]:
        """Number of dropped rows by reason, the most frequent first."""
        return {str(key): n for key, n in Counter(d.reason for d in self.dropped).most_common()}

    def table(self, limit: int | None = 20) -> str:
        """A plain text table: the counts, then each dropped row (at most `limit`)."""
        lines = [
            f"{self.kept + len(self.dropped)} rows, {self.kept} encoded, "
            f"{len(self.dropped)} dropped",
            f"  {self.prompts_cut:>5} x the prompt was cut from the left",
            f"  {self.boundary_merges:>5} x the tokenizer would merge across the boundary",
            f"  {self.special_token_texts:>5} x the text of a special token stands in the data",
            f"  {self.unknown_tokens:>5} x an unknown token",
        ]
        lines += [f"  {n:>5} x dropped: {reason}" for reason, n in self.counts.items()]
        shown = self.dropped[:limit]
        for row in shown:
            detail = f": {row.detail}" if row.detail else ""
            lines.append(f"  row {row.row}: {row.reason}{detail}")
        if len(self.dropped) > len(shown):
            lines.append(f"  ... and {len(self.dropped) - len(shown)} more dropped rows")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain numbers, strings and lists, ready for JSON."""
        return {
            "kept": self.kept,
            "prompts_cut": self.prompts_cut,
            "boundary_merges": self.boundary_merges,
            "special_token_texts": self.special_token_texts,
            "unknown_tokens": self.unknown_tokens,
            "counts": self.counts,
            "dropped": [{**d._asdict(), "reason": str(d.reason)} for d in self.dropped],
        }
