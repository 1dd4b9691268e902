"""Rows that are made when asked for behave as a list of them would, and are not one."""

from __future__ import annotations

import doctest

import pytest
import torch

import dpo_lab.lazy_rows
from dpo_lab.lazy_rows import LazyRows, beside, in_batches, numbers_of, picked

LETTERS = "abcdef"


def test_worked_example_of_the_docstring() -> None:
    assert doctest.testmod(dpo_lab.lazy_rows) == (0, 2)


@pytest.mark.parametrize("count", [0, 1, 6])
def test_they_are_indexed_as_a_list_is(count: int) -> None:
    rows, same = LazyRows(count, LETTERS.__getitem__), list(LETTERS[:count])
    assert (len(rows), list(rows), list(reversed(rows))) == (count, same, same[::-1])
    for index in range(-count, count):
        assert rows[index] == same[index]
    for part in (slice(None), slice(2), slice(-2, None), slice(4, 1, -1), slice(9, 12)):
        assert rows[part] == same[part]
    for wrong in (count, -count - 1):
        with pytest.raises(IndexError):
            rows[wrong]


def test_a_row_that_cannot_be_made_does_not_end_the_rows() -> None:
    """An iterator that takes every IndexError for the end would leave rows out in silence."""
    with pytest.raises(IndexError):
        list(LazyRows(9, LETTERS.__getitem__))


def test_only_what_is_asked_for_is_made() -> None:
    asked = []
    rows = LazyRows(10**9, lambda i: asked.append(i) or i)
    part = picked(rows, (5, 10**8, 7))
    assert (part[1], part[-1], asked) == (10**8, 7, [10**8, 7])
    assert beside(tuple, beside(lambda *both: both, part, "xyz"))[0] == (5, "x")


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"different lengths: \[1, 2\]"):
        beside(tuple, "ab", "a")


def test_numbers_of_a_tensor_are_plain() -> None:
    values = torch.tensor([[0.1, 2.0], [3.0, 4.0]])
    assert list(numbers_of(values)) == values.tolist()
    assert type(numbers_of(values[0])[0]) is float


def test_batches_are_read_as_they_are_needed() -> None:
    rows = iter(range(7))
    batches = in_batches(rows, 3)
    assert next(batches) == [0, 1, 2]
    assert next(rows) == 3
    assert list(batches) == [[4, 5, 6]]
