"""From one raw row to an example, or to the reason why it is none.

Every check names what it found and stops at the first problem; nothing is repaired. The order
is: the row's shape, its fields' types, the place where the prompt ends, then the answers.
"""

from __future__ import annotations

import math
import re
from typing import Any

from dpo_lab.pair_types import (
    Message,
    PreferencePair,
    Prompt,
    Reason,
    UnpairedExample,
    is_unicode,
)

HH_MARKER = "\n\nAssistant:"
_SPEAKER = re.compile(r"\n\n(?:Human|Assistant):|\A\s*(?:Human|Assistant):")


class RowProblemError(Exception):
    """The first thing that is wrong with a row; caught where rows are read."""

    def __init__(self, reason: Reason, field: str = "", detail: str = "") -> None:
        super().__init__(reason, field, detail)
        self.reason, self.field, self.detail = reason, field, detail


def parse_pair(row: Any, max_chars: int | None = None) -> PreferencePair:
    """The pair in a row of any form that `dpo_lab.pairs.read_pairs` lists.

    Raises `RowProblemError`.
    """
    fields = _read_fields(row, ("prompt", "chosen", "rejected"))
    if _repeats_its_question(*fields.values()):
        fields["prompt"] = None
    prompt, chosen, rejected = _of_one_form(fields)
    _require({"chosen": chosen, "rejected": rejected})
    if prompt is None:
        prompt, chosen = _cut("chosen", chosen)
        other_prompt, rejected = _cut("rejected", rejected)
        if prompt != other_prompt:
            raise RowProblemError(Reason.PROMPTS_DIFFER)
    else:
        chosen = _answer_text("chosen", chosen)
        rejected = _answer_text("rejected", rejected)
    _check_prompt(prompt)
    _check_answer("chosen", chosen)
    _check_answer("rejected", rejected)
    if chosen == rejected:
        raise RowProblemError(Reason.IDENTICAL_ANSWERS)
    _check_length(prompt, max(chosen, rejected, key=len), max_chars)
    return PreferencePair(prompt, chosen, rejected, _read_margin(row))


def parse_unpaired(row: Any, max_chars: int | None = None) -> UnpairedExample:
    """The example in a row with `prompt`, `completion` and `label`.

    Raises `RowProblemError`.
    """
    prompt, completion = _of_one_form(_read_fields(row, ("prompt", "completion")))
    _require({"prompt": prompt, "completion": completion, "label": row.get("label")})
    completion = _answer_text("completion", completion)
    _check_prompt(prompt)
    _check_answer("completion", completion)
    _check_length(prompt, completion, max_chars)
    return UnpairedExample(prompt, completion, _read_label(row["label"]))


def _read_fields(row: Any, fields: tuple[str, ...]) -> dict[str, Prompt | None]:
    if not isinstance(row, dict):
        raise RowProblemError(Reason.NOT_AN_OBJECT)
    return {field: _read_value(field, row.get(field)) for field in fields}


def _repeats_its_question(prompt: Prompt | None, *sides: Prompt | None) -> bool:
    """Whether a text prompt is what the user first says in both sides' whole conversations."""
    if not isinstance(prompt, str) or not all(isinstance(side, tuple) for side in sides):
        return False
    asked = (next((m.content for m in side if m.role == "user"), None) for side in sides)
    return all(question == prompt for question in asked)


def _of_one_form(fields: dict[str, Prompt | None]) -> list[Prompt | None]:
    there = {field: value for field, value in fields.items() if value is not None}
    if len({type(value) for value in there.values()}) > 1:
        forms = (
            f"{field} is {'text' if isinstance(value, str) else 'messages'}"
            for field, value in there.items()
        )
        raise RowProblemError(Reason.MIXED_FORMS, detail=", ".join(forms))
    return list(fields.values())


def _read_value(field: str, value: Any) -> Prompt | None:
    if value is None:
        return None
    if isinstance(value, list):
        return tuple(_read_message(f"{field}[{i}]", item) for i, item in enumerate(value))
    return _read_text(field, value)


def _read_text(field: str, value: Any) -> str:
    if not isinstance(value, str):
        raise RowProblemError(Reason.NOT_A_STRING, field, f"it is {type(value).__name__}")
    if not is_unicode(value):
        raise RowProblemError(Reason.NOT_UNICODE, field)
    return value


def _read_message(field: str, item: Any) -> Message:
    if not isinstance(item, dict):
        raise RowProblemError(Reason.BAD_MESSAGE, field, f"it is {type(item).__name__}")
    # Columnar files give every message every key of the column; null means absent there.
    present = {key for key, value in item.items() if value is not None}
    if present != {"role", "content"}:
        keys = ", ".join(sorted(map(repr, present))) or "no keys"
        raise RowProblemError(Reason.BAD_MESSAGE, field, f"it has {keys}")
    role = _read_text(f"{field}.role", item["role"])
    return Message(role, _read_text(f"{field}.content", item["content"]))


def _require(values: dict[str, Any]) -> None:
    for field, value in values.items():
        if value is None:
            raise RowProblemError(Reason.MISSING_FIELD, field)


def _cut(field: str, value: Prompt) -> tuple[Prompt, str]:
    """Split a whole conversation into its prompt and its last answer."""
    if isinstance(value, str):
        head, marker, answer = value.rpartition(HH_MARKER)
        if not marker:
            raise RowProblemError(Reason.NO_PROMPT, field)
        return head + marker, answer
    if len(value) == 1:
        raise RowProblemError(Reason.NO_PROMPT, field)
    return value[:-1], _answer_text(field, value[-1:])


def _answer_text(field: str, value: Prompt) -> str:
    if isinstance(value, str):
        return value
    if len(value) != 1 or value[0].role != "assistant":
        raise RowProblemError(Reason.NOT_ONE_ANSWER, field)
    return value[0].content


def _check_prompt(prompt: Prompt) -> None:
    if isinstance(prompt, str):
        return
    if not prompt:
        raise RowProblemError(Reason.NO_PROMPT, "prompt")
    if prompt[-1].role == "assistant":
        raise RowProblemError(Reason.NOT_ONE_ANSWER, "prompt")


def _check_answer(field: str, answer: str) -> None:
    if not answer.strip():
        raise RowProblemError(Reason.EMPTY_ANSWER, field)
    if _SPEAKER.search(answer):
        raise RowProblemError(Reason.SPEAKER_MARKER, field)


def _check_length(prompt: Prompt, answer: str, max_chars: int | None) -> None:
    if isinstance(prompt, str):
        length = len(prompt) + len(answer)
    else:
        length = sum(len(message.content) for message in prompt) + len(answer)
    if max_chars is not None and length > max_chars:
        raise RowProblemError(Reason.OVER_LONG, detail=f"{length} > {max_chars}")


def _read_margin(row: dict[str, Any]) -> float | None:
    """The field `margin`, else `score_chosen` minus `score_rejected`, else None."""
    if row.get("margin") is not None:
        return _read_number("margin", row["margin"])
    sides = ("score_chosen", "score_rejected")
    if any(row.get(side) is None for side in sides):
        return None
    chosen, rejected = (_read_number(side, row[side]) for side in sides)
    return chosen - rejected


def _read_number(field: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise RowProblemError(Reason.BAD_SCORE, field, f"it is {value!r:.40}")
    return number


def _read_label(label: Any) -> bool:
    if isinstance(label, bool):
        return label
    # A CSV file has no booleans, only the words.
    words = {"true": True, "false": False}
    if isinstance(label, str) and label.lower() in words:
        return words[label.lower()]
    raise RowProblemError(Reason.BAD_LABEL, "label", f"it is {label!r:.40}")
