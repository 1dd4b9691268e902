"""A run's rows, the questions that a sign asks of them, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Row = Mapping[str, float | int]


@dataclass(frozen=True)
class Finding:
    """One thing that a run shows.

    sign: a short name. level: "problem" needs action, "look" needs a look. says: what is seen,
    with its numbers. means: what it means and what to do. chapter: file name of the chapter.
    """

    sign: str
    level: Literal["problem", "look"]
    says: str
    means: str
    chapter: str

    def __str__(self) -> str:
        return f"[{self.level}] {self.says}\n    {self.means} ({self.chapter})"


@dataclass(frozen=True)
class Curves:
    """The rows of a run and its record, with the questions that the signs ask."""

    rows: Sequence[Row]
    record: Mapping[str, Any]

    def series(self, name: str) -> list[float]:
        """All logged values of a metric, in order."""
        return [row[name] for row in self.rows if name in row]

    def end(self, name: str) -> float | None:
        """Mean of the last tenth of a training metric, one value at least; None if not logged."""
        values = self.series(name)
        last = values[-max(1, len(values) // 10) :]
        return sum(last) / len(last) if last else None

    def held_out_end(self, name: str) -> float | None:
        """A metric at the last evaluation; the training value where none was held out."""
        values = self.series(f"eval_{name}")
        return values[-1] if values else self.end(name)


Sign = Callable[[Curves], "Finding | None"]
