"""Sequences whose rows are made when somebody asks for them.

A data set may be larger than memory. What is made of it, a part of it, its rows in another order,
its rows beside numbers, is then not a list but a rule: how row number i comes about.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

Row = TypeVar("Row")


class LazyRows(Sequence[Row]):
    """`count` rows, of which number i is `row(i)`, anew each time; a slice is a list of them.

    >>> squares = LazyRows(5, lambda i: i * i)
    >>> squares[-1], squares[1:3], list(squares)
    (16, [1, 4], [0, 1, 4, 9, 16])
    """

    def __init__(self, count: int, row: Callable[[int], Row]) -> None:
        self._numbers, self._row = range(count), row

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        number = self._numbers[index]  # a range knows negative indices, slices and their errors
        if isinstance(number, range):
            return [self._row(each) for each in number]
        return self._row(number)

    def __iter__(self) -> Iterator[Row]:
        return map(self._row, self._numbers)


def picked(rows: Sequence[Row], numbers: Iterable[int] | np.ndarray) -> LazyRows[Row]:
    """The rows of these numbers, in this order: 8 bytes a row are held."""
    kept = array("q", numbers)
    return LazyRows(len(kept), lambda i: rows[kept[i]])


def beside(make: Callable[..., Row], *columns: Sequence[Any]) -> LazyRows[Row]:
    """Row i is `make` of all columns' items i. Raises `ValueError` if their lengths differ."""
    lengths = {len(column) for column in columns}
    if len(lengths) != 1:
        raise ValueError(f"columns of different lengths: {sorted(lengths)}")
    return LazyRows(lengths.pop(), lambda i: make(*(column[i] for column in columns)))


def numbers_of(values: Tensor) -> LazyRows[Any]:
    """A tensor's entries as plain numbers, or its rows as lists of them."""
    values = values.detach().cpu()
    return LazyRows(len(values), lambda i: values[i].tolist())


def in_batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """All rows in lists of `size`; the last one may be shorter."""
    rows = iter(rows)
    while batch := list(itertools.islice(rows, size)):
        yield batch
