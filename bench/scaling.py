"""What a step costs against answer length, pairs a batch, and words of the vocabulary.

    python bench/scaling.py [--output FILE.json]

Loss and gradients of one batch of a small model in float32, on the plain path and on the fast one.
The slope is that of log seconds over log size, fitted to the upper half of the sizes: 1 is
proportional, 2 is quadratic, below 1 something else still dominates.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from dpo_lab.bench.ours import FORMS
from dpo_lab.bench.shapes import FIRST_WORD, Shape, build
from dpo_lab.bench.tables import Table, publish
from dpo_lab.encoded import EncodedPair, EncodedResponse
from dpo_lab.fast import fast_path

SHAPE = Shape(128, 2, 4, 2, 384, vocab=4096, pairs=4, steps=1, warm=1)
LENGTH = 64
SWEEPS = {
    "answer length": (32, 64, 128, 256, 512),
    "pairs a batch": (1, 2, 4, 8, 16),
    "vocabulary": (1024, 4096, 16384, 32768, 65536),
}


def make_batch(pairs: int, length: int) -> list[EncodedPair]:
    """Prompts of `LENGTH` tokens and answers of `length`."""
    rng = random.Random(0)

    def words(size: int) -> list[int]:
        return [rng.randrange(FIRST_WORD, 1000) for _ in range(size)]

    made = []
    for _ in range(pairs):
        prompt = words(LENGTH)
        sides = (EncodedResponse(prompt + words(length), LENGTH) for _ in range(2))
        made.append(EncodedPair(*sides))
    return made


def seconds_of(step: Callable[[], None], times: int = 4) -> float:
    """The fastest of a few calls, after one that is not counted."""
    step()
    spent = []
    for _ in range(times):
        begin = time.perf_counter()
        step()
        spent.append(time.perf_counter() - begin)
    return min(spent)


def one_case(sweep: str, size: int) -> tuple[float, float]:
    """Seconds on the plain and on the fast path."""
    vocab = size if sweep == "vocabulary" else SHAPE.vocab
    pairs = size if sweep == "pairs a batch" else SHAPE.pairs
    batch = make_batch(pairs, size if sweep == "answer length" else LENGTH)
    model = build(replace(SHAPE, vocab=vocab))

    def step(form: str) -> None:
        collate, logps = FORMS[form]
        logps(model, collate(batch)).sum().backward()
        model.zero_grad()

    plain = seconds_of(lambda: step("logits"))
    with fast_path(model):
        return plain, seconds_of(lambda: step("shared"))


def slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Of log seconds over log size, in the upper half of the sizes."""
    upper = len(sizes) // 2
    return float(np.polyfit(np.log(sizes[upper:]), np.log(seconds[upper:]), 1)[0])


def main() -> None:
    """Sweep one size after the other."""
    rows = []
    for sweep, sizes in SWEEPS.items():
        columns = zip(*(one_case(sweep, size) for size in sizes), strict=True)
        for path, seconds in zip(("plain", "fast"), columns, strict=True):
            spent = ", ".join(f"{1000 * s:.0f}" for s in seconds)
            over = ", ".join(map(str, sizes))
            rows.append((f"{sweep}: {over}", path, spent, f"{slope(sizes, seconds):.2f}"))
    note = (
        f"One batch forward and backward; else {SHAPE.pairs} pairs, {LENGTH} tokens of prompt and "
        f"of each answer, {SHAPE.vocab} words; width {SHAPE.hidden}, {SHAPE.layers} layers."
    )
    publish(Table(("what grows", "path", "ms", "slope"), rows, note))


if __name__ == "__main__":
    main()
