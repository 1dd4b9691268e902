"""Traits that check what is assigned to them, and the checks that several explorers share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import traitlets

from dpo_lab.checks import check_beta
from dpo_lab.errors import InputError


class Checked(traitlets.TraitType):
    """A trait whose every value passes one check, which raises `InputError` naming the trait."""

    def __init__(self, check: Callable[[str, Any], Any]) -> None:
        super().__init__()
        self._check = check

    def validate(self, obj: traitlets.HasTraits, value: Any) -> Any:
        return self._check(self.name, value)


def numbers(name: str, values: Any) -> list[float]:
    """The values as finite floats, whatever sequence, array or tensor they came in."""
    try:
        found = [float(value) for value in values]
    except (TypeError, ValueError):
        raise InputError(f"{name} must be made of numbers, got {values!r:.80}") from None
    for index, number in enumerate(found):
        if not math.isfinite(number):
            raise InputError(f"{name}[{index}] must be finite, got {number}")
    return found


def positive(name: str, value: Any) -> float:
    """The value as a finite float above 0."""
    number = numbers(name, [value])[0]
    check_beta(number, name)
    return number


def positive_or_none(name: str, value: Any) -> float | None:
    """The same, or None where the explorer chooses."""
    return None if value is None else positive(name, value)


def probability(name: str, value: Any) -> float:
    """The value as a float in [0, 1]."""
    (number,) = numbers(name, [value])
    if not 0 <= number <= 1:
        raise InputError(f"{name} must lie in [0, 1], got {number}")
    return number


def two_numbers(name: str, value: Any) -> list[float]:
    """A point in a plane."""
    point = numbers(name, value)
    if len(point) != 2:
        raise InputError(f"{name} must be two numbers, got {len(point)}")
    return point


def one_of(known: Iterable[Any]) -> Callable[[str, Any], Any]:
    """A check that takes these texts or numbers alone."""
    allowed = tuple(known)

    def check(name: str, value: Any) -> Any:
        if value not in allowed:
            listed = ", ".join(map(str, allowed))
            raise InputError(f"{name} must be one of {listed}, got {value!r:.80}")
        return value

    return check


def whole(low: int, high: int) -> Callable[[str, Any], int]:
    """A check that takes whole numbers from low to high."""

    def check(name: str, value: Any) -> int:
        (number,) = numbers(name, [value])
        if number != int(number) or not low <= number <= high:
            raise InputError(f"{name} must be a whole number from {low} to {high}, got {value}")
        return int(number)

    return check
