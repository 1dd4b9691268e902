"""What the tests of the exercise checkers share: asking one for its verdict."""

from __future__ import annotations

import pytest

from dpo_lab.exercises import check


def verdict(capsys: pytest.CaptureFixture[str], name: str, answer: object) -> str:
    """What the checker prints; it must not say "Right." and return False, or the reverse."""
    right = check(name, answer)
    printed = capsys.readouterr().out.strip()
    assert right == (printed == "Right.")
    return printed


def accepts(name: str, answer: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert verdict(capsys, name, answer) == "Right."


def refuses(name: str, answer: object, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = verdict(capsys, name, answer)
    assert said.startswith("Not yet: ")
    assert hint in said
