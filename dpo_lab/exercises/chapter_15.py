"""Checkers of chapter 15: memory of logits and of adapters."""

from __future__ import annotations

from typing import Any

from dpo_lab.exercises import exercise, require, require_answered


@exercise("chapter_15.logits")
def check_logits(answer: Any) -> None:
    """A function (lengths, vocabulary) -> bytes of float32 logits of a padded batch of pairs."""
    cases = (  # one pair; equal pairs; a long prompt and a long answer in different pairs
        ([(3, 2, 2)], 10),
        ([(5, 4, 1), (5, 4, 1)], 100),
        ([(20, 2, 9), (4, 7, 15), (6, 1, 1)], 50),
    )
    for lengths, vocabulary in cases:
        got = answer(list(lengths), vocabulary)
        require_answered(got)
        rows = 2 * len(lengths)
        size = 4 * vocabulary
        right = size * rows * max(prompt + max(sides) for prompt, *sides in lengths)
        unpadded = size * sum(2 * prompt + sum(sides) for prompt, *sides in lengths)
        apart = max(prompt for prompt, *_ in lengths) + max(max(sides) for _, *sides in lengths)
        require(got != right // 4, "these are numbers, not bytes; a float32 has 4 bytes")
        require(got != right // 2, "each pair has two rows, one an answer")
        require(unpadded == right or got != unpadded, "rows are padded to the longest of the batch")
        require(
            size * rows * apart == right or got != size * rows * apart,
            "the longest prompt and the longest answer need not be in one row",
        )
        require(got == right, f"for {lengths} and {vocabulary} words it should be {right}")


@exercise("chapter_15.rank")
def check_rank(answer: Any) -> None:
    """A function (shapes, frozen, free) -> the largest rank whose training state fits."""
    shapes, frozen = [(8, 8), (8, 24)], 2560  # 48 adapter weights a rank, 768 bytes
    for left, right in ((768 * 3, 3), (768 * 3 - 1, 2), (768 * 5 + 700, 5)):
        free = 4 * frozen + left
        got = answer(list(shapes), frozen, free)
        require_answered(got)
        require(got == int(got), "a rank is a whole number; round down")
        require(got != free // 768 or got == right, "the frozen weights take their 4 bytes too")
        require(
            got != (free - 16 * frozen) // 768, "frozen weights have no gradient and no moments"
        )
        require(
            got != (free - 4 * frozen) // (4 * 48),
            "an adapter's weight also has a gradient and two moments: 16 bytes",
        )
        products = 16 * sum(m * n for m, n in shapes)
        require(
            got != (free - 4 * frozen) // products,
            "an adapter of rank r has r (m + n) weights, not r m n",
        )
        require(got == right, f"for {free} free bytes it should be {right}, got {got}")
