"""Checkers for the book's exercises: they run the reader's answer and say what is off.

Each chapter has a module `chapter_NN` whose checkers register themselves by name. A checker
gets the reader's answer and raises `NotYet` with one sentence that helps; returning means right.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from dpo_lab.errors import InputError

Checker = Callable[[Any], None]
_CHECKERS: dict[str, Checker] = {}


class NotYet(Exception):  # noqa: N818  (it is a hint, not an error)
    """The answer is not right yet; the message says what is off."""


def exercise(name: str) -> Callable[[Checker], Checker]:
    """Register a checker under `name`, which has the form chapter_NN.word."""

    def register(checker: Checker) -> Checker:
        _CHECKERS[name] = checker
        return checker

    return register


def check(name: str, answer: Any) -> bool:
    """Run the checker `name` on `answer`, print the verdict, and return whether it is right.

    An exception inside the reader's function is reported as part of the verdict. Raises
    `InputError` for an exercise that does not exist.
    """
    chapter = name.partition(".")[0]
    try:
        importlib.import_module(f"{__name__}.{chapter}")
        checker = _CHECKERS[name]
    except (ModuleNotFoundError, KeyError):
        raise InputError(f"there is no exercise {name!r}") from None
    try:
        checker(answer)
    except NotYet as hint:
        print(f"Not yet: {hint}")
        return False
    except Exception as error:  # whatever the reader's code raises is part of the verdict
        print(f"Not yet: your code raised {type(error).__name__}: {error}")
        return False
    print("Right.")
    return True


def require(condition: bool, hint: str) -> None:
    """Raise `NotYet(hint)` unless `condition` holds."""
    if not condition:
        raise NotYet(hint)


def require_answered(value: Any) -> None:
    """Raise `NotYet` while the reader's code still returns the placeholder `...` or None."""
    require(value is not ..., "the placeholder ... is still there; replace it with your answer")
    require(value is not None, "your function returns None; did you forget `return`?")
