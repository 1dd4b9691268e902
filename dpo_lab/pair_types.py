"""What a preference pair is, and how a row that is none is named."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

_SURROGATE = re.compile("[\ud800-\udfff]")


class Message(NamedTuple):
    """One turn of a conversation: who speaks (`"user"`, `"assistant"`, ...) and the words."""

    role: str
    content: str


Prompt = str | tuple[Message, ...]


class PreferencePair(NamedTuple):
    """Two answers to one prompt, of which `chosen` was preferred.

    `prompt` is text, or a tuple of `Message` for a conversation that a chat template
    has yet to render. The answers are always text: of a conversational row they are the content
    of the one assistant message that closes it. For a text prompt, `prompt + chosen` is the
    full text, character for character: an answer keeps the space it begins with.
    `margin`, where the data have it, says by how much `chosen` was scored better.
    """

    prompt: Prompt
    chosen: str
    rejected: str
    margin: float | None = None


def is_unicode(text: str) -> bool:
    """False if `text` holds half a surrogate pair, which JSON can spell and UTF-8 cannot."""
    return not _SURROGATE.search(text)


class UnpairedExample(NamedTuple):
    """One answer to one prompt with a verdict: `label` is true for a good completion."""

    prompt: Prompt
    completion: str
    label: bool


class Reason(str, Enum):
    """Why a row is not a usable example; the value is the sentence that people read."""

    INVALID_JSON = "the line is not valid JSON"
    NOT_AN_OBJECT = "the row is not an object with named fields"
    TOO_MANY_CELLS = "the row has more cells than the header has columns"
    MISSING_FIELD = "the field is missing or null"
    NOT_A_STRING = "the field is not a string"
    NOT_UNICODE = "the text holds half a surrogate pair, which is no character"
    MIXED_FORMS = "text and message lists stand in the same row"
    BAD_MESSAGE = "a message is not exactly a role and a content, both strings"
    NOT_ONE_ANSWER = "the messages do not close with exactly one assistant answer"
    NO_PROMPT = "there is no prompt, and nothing that says where it would end"
    PROMPTS_DIFFER = "the prompts of chosen and rejected differ"
    EMPTY_ANSWER = "the answer is empty"
    SPEAKER_MARKER = "the answer contains a speaker marker (Human: or Assistant:)"
    IDENTICAL_ANSWERS = "chosen and rejected are identical"
    BAD_LABEL = "the label is neither true nor false"
    BAD_SCORE = "a score or margin is not a finite number"
    OVER_LONG = "prompt and answer together are longer than max_chars"

    def __str__(self) -> str:
        return self.value


class OddRow(NamedTuple):
    """A row that was not used.

    `file` is the path or data-set name as the caller gave it. `row` counts from 1: it is the
    line of a `.jsonl` file, the line of a `.csv` file on which the record starts (the header
    is line 1), and the position of the row everywhere else. `field` may be empty. `detail`
    adds what the reason cannot know, such as the JSON parser's own words.
    """

    file: str
    row: int
    field: str
    reason: Reason
    detail: str = ""


@dataclass(frozen=True)
class PairReport:
    """What became of the rows of one source: `kept + len(odd)` is the number of rows read.

    An odd row is listed once, with the first problem found in it.
    """

    source: str
    kept: int
    odd: tuple[OddRow, ...]

    @property
    def rows(self) -> int:
        """Number of rows read."""
        return self.kept + len(self.odd)

    @property
    def counts(self) -> dict[str, int]:
        """Number of odd rows by reason, the most frequent first."""
        return {str(reason): n for reason, n in Counter(r.reason for r in self.odd).most_common()}

    def table(self, limit: int | None = 20) -> str:
        """A plain text table: the counts by reason, then each odd row (at most `limit`)."""
        lines = [f"{self.source}: {self.rows} rows, {self.kept} kept, {len(self.odd)} odd"]
        lines += [f"  {n:>5} x {reason}" for reason, n in self.counts.items()]
        shown = self.odd[:limit]
        if shown:
            width = max(len("field"), *(len(row.field) for row in shown))
            lines.append(f"  {'row':>5}  {'field':<{width}}  reason")
        for row in shown:
            detail = f": {row.detail}" if row.detail else ""
            lines.append(f"  {row.row:>5}  {row.field:<{width}}  {row.reason}{detail}")
        if len(self.odd) > len(shown):
            lines.append(f"  ... and {len(self.odd) - len(shown)} more odd rows")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain numbers, strings and lists, ready for JSON."""
        odd = [{**row._asdict(), "reason": str(row.reason)} for row in self.odd]
        return {
            "source": self.source,
            "rows": self.rows,
            "kept": self.kept,
            "counts": self.counts,
            "odd": odd,
        }
