"""The checkers of chapter 15 accept the right answer and name what is off in wrong ones."""

from __future__ import annotations

import pytest
from exercise_checks import accepts, refuses


def longest(lengths):
    return max(prompt + max(sides) for prompt, *sides in lengths)


def logits(lengths, vocabulary):
    return 8 * len(lengths) * longest(lengths) * vocabulary


def rank(shapes, frozen, free):
    return (free - 4 * frozen) // (16 * sum(m + n for m, n in shapes))


def test_the_right_answers_are_accepted(capsys):
    accepts("chapter_15.logits", logits, capsys)
    accepts("chapter_15.rank", rank, capsys)


LOGITS = {
    "placeholder": (lambda n, v: ..., "placeholder"),
    "numbers": (lambda n, v: logits(n, v) // 4, "a float32 has 4 bytes"),
    "one row": (lambda n, v: logits(n, v) // 2, "two rows"),
    "unpadded": (lambda n, v: 4 * v * sum(2 * p + a + b for p, a, b in n), "are padded"),
    "two maxima": (
        lambda n, v: 8 * v * len(n) * (max(p for p, *_ in n) + max(max(s) for _, *s in n)),
        "need not be in one row",
    ),
    "prompt forgotten": (lambda n, v: 8 * v * len(n) * max(max(s) for _, *s in n), "it should be"),
}
RANK = {
    "placeholder": (lambda s, k, f: ..., "placeholder"),
    "not whole": (lambda s, k, f: (f - 4 * k) / 768 + 0.5, "round down"),
    "frozen forgotten": (lambda s, k, f: rank(s, 0, f), "their 4 bytes too"),
    "frozen trained": (lambda s, k, f: rank(s, 4 * k, f), "no gradient"),
    "weights only": (lambda s, k, f: (f - 4 * k) // 192, "two moments"),
    "full matrices": (
        lambda s, k, f: (f - 4 * k) // (16 * sum(m * n for m, n in s)),
        "not r m n",
    ),
    "rounded up": (lambda s, k, f: rank(s, k, f) + 1, "it should be"),
}


@pytest.mark.parametrize("mistake", LOGITS)
def test_logits_refuses(mistake, capsys):
    answer, hint = LOGITS[mistake]
    refuses("chapter_15.logits", answer, hint, capsys)


@pytest.mark.parametrize("mistake", RANK)
def test_rank_refuses(mistake, capsys):
    answer, hint = RANK[mistake]
    refuses("chapter_15.rank", answer, hint, capsys)
