"""The checkers of chapter 05 accept the right answer and name what is off in wrong ones."""

from __future__ import annotations

import math

import pytest
import torch
from exercise_checks import accepts, refuses


def rate(power):
    return lambda lr, b, new, opt: lr * (b / new) ** power[opt]


def test_rate_accepts(capsys):
    accepts("chapter_05.rate", rate({"sgd": 2, "adam": 1}), capsys)


RATES = {
    "placeholder": (lambda lr, b, new, opt: ..., "placeholder"),
    "gradient only": (rate({"sgd": 1, "adam": 1}), "a second one"),
    "adam as sgd": (rate({"sgd": 2, "adam": 2}), "Adam divides the gradient"),
    "turned round": (rate({"sgd": -2, "adam": -1}), "turn the ratio round"),
    "adam turned round": (rate({"sgd": 2, "adam": -1}), "turn the ratio round"),
    "adam unchanged": (rate({"sgd": 2, "adam": 0}), "another speed"),
    "no old rate": (lambda lr, b, new, opt: (b / new) ** (2 if opt == "sgd" else 1), "old learn"),
    "cubed": (rate({"sgd": 3, "adam": 1}), "yours is 0.01562"),
}


@pytest.mark.parametrize("mistake", RATES)
def test_rate_refuses(mistake, capsys):
    answer, hint = RATES[mistake]
    refuses("chapter_05.rate", answer, hint, capsys)


def clock(z):
    return (z + math.exp(z) - 1) / 2


def test_steps_accepts(capsys):
    accepts("chapter_05.steps", lambda z, b, lr: clock(z) / (lr * b**2), capsys)


STEPS = {
    "placeholder": (lambda z, b, lr: ..., "placeholder"),
    "beta once": (lambda z, b, lr: clock(z) / (lr * b), "squared"),
    "no half": (lambda z, b, lr: 2 * clock(z) / (lr * b**2), "divide by 2"),
    "no one": (lambda z, b, lr: (z + math.exp(z)) / (2 * lr * b**2), "at margin 0, t is 0"),
    "large z": (lambda z, b, lr: math.exp(z) / (2 * lr * b**2), "large margins"),
    "h": (lambda z, b, lr: clock(z / b) / (lr * b**2), "once more"),
    "beta again": (lambda z, b, lr: clock(z * b) / (lr * b**2), "do not multiply"),
    "clock": (lambda z, b, lr: clock(z), "which t is it"),
    "other": (lambda z, b, lr: 7.0, "wanted"),
}


@pytest.mark.parametrize("mistake", STEPS)
def test_steps_refuses(mistake, capsys):
    answer, hint = STEPS[mistake]
    refuses("chapter_05.steps", answer, hint, capsys)


def lead(w):
    return w.sum(1) - w.sum(0)


def moved(ref, move):
    return torch.log_softmax(ref + move, -1)


def test_first_accepts(capsys):
    accepts("chapter_05.first", lambda r, w, b, lr: moved(r, lr * b / 2 * lead(w)), capsys)


FIRST = {
    "placeholder": (lambda r, w, b, lr: ..., "placeholder"),
    "a list": (lambda r, w, b, lr: [0.0] * 8, "return a tensor, not list"),
    "a table": (lambda r, w, b, lr: w, "one number an answer"),
    "logits": (lambda r, w, b, lr: r + lr * b / 2 * lead(w), "take log_softmax"),
    "columns": (lambda r, w, b, lr: moved(r, -lr * b / 2 * lead(w)), "chosen must rise"),
    "no half": (lambda r, w, b, lr: moved(r, lr * b * lead(w)), "one half"),
    "no beta": (lambda r, w, b, lr: moved(r, lr / 2 * lead(w)), "a factor beta"),
    "chosen only": (lambda r, w, b, lr: moved(r, lr * b / 2 * w.sum(1)), "where it is rejected"),
    "signs": (lambda r, w, b, lr: moved(r, lr * b / 2 * lead(w).sign()), "only the signs"),
    "reference": (lambda r, w, b, lr: r, "it is off by up to"),
}


@pytest.mark.parametrize("mistake", FIRST)
def test_first_refuses(mistake, capsys):
    answer, hint = FIRST[mistake]
    refuses("chapter_05.first", answer, hint, capsys)


def count(agree):
    return lambda p, risk: next(n for n in range(1, 1000) if agree(p, n) < risk)


def test_votes_accepts(capsys):
    accepts("chapter_05.votes", count(lambda p, n: p**n + (1 - p) ** n), capsys)


VOTES = {
    "placeholder": (lambda p, risk: ..., "placeholder"),
    "one side": (count(lambda p, n: p**n), "the worse answer"),
    "other side": (count(lambda p, n: (1 - p) ** n), "the better answer"),
    "rounded down": (
        lambda p, risk: count(lambda p, n: p**n + (1 - p) ** n)(p, risk) - 1,
        "not below the risk yet",
    ),
    "fraction": (lambda p, risk: math.log(risk) / math.log(max(p, 1 - p)), "yours is"),
}


@pytest.mark.parametrize("mistake", VOTES)
def test_votes_refuses(mistake, capsys):
    answer, hint = VOTES[mistake]
    refuses("chapter_05.votes", answer, hint, capsys)
