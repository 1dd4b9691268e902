"""The checkers of chapter 07 accept the right answer and name what is off in wrong ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from exercise_checks import accepts, refuses


def loss(tokens, ref_tokens, mask, beta):
    chosen, rejected = ((tokens - ref_tokens) * mask).sum(1).chunk(2)
    return -F.logsigmoid(beta * (chosen - rejected)).mean()


def test_loss_accepts(capsys):
    accepts("chapter_07.loss", loss, capsys)


def neighbours(tokens, ref_tokens, mask, beta):
    rows = ((tokens - ref_tokens) * mask).sum(1)
    return -F.logsigmoid(beta * (rows[::2] - rows[1::2])).mean()


LOSS = {
    "placeholder": (lambda t, r, m, b: ..., "placeholder"),
    "no mask": (lambda t, r, m, b: loss(t, r, m | True, b), "there is no mask"),
    "mean": (lambda t, r, m, b: loss(t, r, m / m.sum(1, keepdim=True), b), "average over tokens"),
    "no reference": (lambda t, r, m, b: loss(t, 0 * r, m, b), "the reference is missing"),
    "swapped": (lambda t, r, m, b: loss(r, t, m, b), "swapped"),
    "neighbours": (neighbours, "first half"),
    "no beta": (lambda t, r, m, b: loss(t, r, m, 1), "beta is missing"),
    "beta outside": (lambda t, r, m, b: b * loss(t, r, m, 1), "inside the sigmoid"),
    "sum": (lambda t, r, m, b: 3 * loss(t, r, m, b), "take the mean"),
    "sign": (lambda t, r, m, b: -loss(t, r, m, b), "turned round"),
    "unreduced": (lambda t, r, m, b: t.sum(1), "one number"),
    "other": (lambda t, r, m, b: loss(t, r, m, 2 * b + 1), "it is off by"),
}


@pytest.mark.parametrize("mistake", LOSS)
def test_loss_refuses(mistake, capsys):
    answer, hint = LOSS[mistake]
    refuses("chapter_07.loss", answer, hint, capsys)


def test_accumulate_accepts(capsys):
    accepts("chapter_07.accumulate", lambda parts: torch.cat(parts).mean(), capsys)
    total = lambda parts: sum(x.sum() for x in parts) / sum(len(x) for x in parts)  # noqa: E731
    accepts("chapter_07.accumulate", total, capsys)


ACCUMULATE = {
    "placeholder": (lambda parts: ..., "placeholder"),
    "mean of means": (lambda parts: sum(x.mean() for x in parts) / 3, "counts four times"),
    "sum of means": (lambda parts: sum(x.mean() for x in parts), "grows with the number"),
    "sum": (lambda parts: torch.cat(parts).sum(), "number of pairs"),
    "by batches": (lambda parts: torch.cat(parts).sum() / 3, "not by the micro-batches"),
    "last": (lambda parts: parts[-1].mean(), "alone"),
    "other": (lambda parts: torch.cat(parts).max(), "it is off by"),
}


@pytest.mark.parametrize("mistake", ACCUMULATE)
def test_accumulate_refuses(mistake, capsys):
    answer, hint = ACCUMULATE[mistake]
    refuses("chapter_07.accumulate", answer, hint, capsys)


def shown(gaps, flip_rate):
    p = torch.sigmoid(gaps)
    return (1 - flip_rate) * p + flip_rate * (1 - p)


def cross(p, q):
    return -(p * q.log() + (1 - p) * (1 - q).log()).mean()


def floor(gaps, flip_rate):
    return cross(shown(gaps, flip_rate), shown(gaps, flip_rate))


def test_floor_accepts(capsys):
    accepts("chapter_07.floor", floor, capsys)


FLOOR = {
    "placeholder": (lambda g, e: ..., "placeholder"),
    "one side": (lambda g, e: -shown(g, e).log().mean(), "weigh both outcomes"),
    "sum": (lambda g, e: 4 * floor(g, e), "take the mean"),
    "bits": (lambda g, e: floor(g, e) / torch.log(torch.tensor(2.0).double()), "in bits"),
    "sign": (lambda g, e: -floor(g, e), "not negative"),
    "true margins": (lambda g, e: cross(shown(g, e), shown(g, 0)), "flips included"),
    "clean labels": (lambda g, e: cross(shown(g, 0), shown(g, e)), "weigh with their probability"),
    "no flips": (lambda g, e: floor(g, 0.0), "costs more"),
    "zero": (lambda g, e: 0.0, "it is off by"),
}


@pytest.mark.parametrize("mistake", FLOOR)
def test_floor_refuses(mistake, capsys):
    answer, hint = FLOOR[mistake]
    refuses("chapter_07.floor", answer, hint, capsys)
