"""The checkers of chapter 04 accept the right answer and name what is off in wrong ones."""

from __future__ import annotations

import math

import pytest
import torch.nn.functional as F
from exercise_checks import accepts, refuses


def test_rates_accepts(capsys):
    accepts("chapter_04.rates", lambda p, w, k: (1 - p[w] + p[k], -1 - p[w] + p[k]), capsys)


RATES = {
    "placeholder": (lambda p, w, k: ..., "placeholder"),
    "one number": (lambda p, w, k: 1 - p[w] + p[k], "return two numbers"),
    "logits": (lambda p, w, k: (1, -1), "rates of the two logits"),
    "drift": (lambda p, w, k: (1 + p[w] - p[k], -1 + p[w] - p[k]), "drift has the wrong sign"),
    "swapped": (lambda p, w, k: (-1 - p[w] + p[k], 1 - p[w] + p[k]), "turn them round"),
    "own only": (lambda p, w, k: (1 - p[w], -1 + p[k]), "also moves the sum"),
    "doubled": (lambda p, w, k: (2, -2), "it is off by up to"),
}


@pytest.mark.parametrize("mistake", RATES)
def test_rates_refuses(mistake, capsys):
    answer, hint = RATES[mistake]
    refuses("chapter_04.rates", answer, hint, capsys)


@pytest.mark.parametrize("value", [-5 - math.log(3) / 0.1, -15.99])
def test_valley_accepts(value, capsys):
    accepts("chapter_04.valley", value, capsys)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (..., "placeholder"),
        (10.986, "the gap between"),
        (5.986, "must lie below"),
        (-6.0986, "1 / beta as far apart"),
        (-5.10986, "you multiply"),
        (-2.123, "not log p"),
        (-7.877, "not log p"),
        (-math.inf, "does not run away"),
        (-9, "solve 0.1 (u_w - u_l)"),
    ],
)
def test_valley_refuses(value, hint, capsys):
    refuses("chapter_04.valley", value, hint, capsys)


def loss(margin):
    return -F.logsigmoid(margin)


def test_sequence_accepts(capsys):
    accepts("chapter_04.sequence", lambda c, r, b: loss(b * (c.sum(1) - r.sum(1))), capsys)


SEQUENCE = {
    "placeholder": (lambda c, r, b: ..., "placeholder"),
    "a float": (lambda c, r, b: 0.5, "return a tensor, not float"),
    "by token": (lambda c, r, b: loss(b * (c - r)), "one loss a token"),
    "one number": (lambda c, r, b: loss(b * (c - r)).mean(), "one number for the batch"),
    "mean of tokens": (lambda c, r, b: loss(b * (c.mean(1) - r.mean(1))), "average over tokens"),
    "sum of losses": (lambda c, r, b: loss(b * (c - r)).sum(1), "after the sum over tokens"),
    "mean of losses": (lambda c, r, b: loss(b * (c - r)).mean(1), "after the sum over tokens"),
    "no beta": (lambda c, r, b: loss(c.sum(1) - r.sum(1)), "beta is missing"),
    "swapped": (lambda c, r, b: loss(b * (r.sum(1) - c.sum(1))), "swapped"),
    "sign": (lambda c, r, b: -loss(b * (c.sum(1) - r.sum(1))), "sign is turned round"),
    "equal lengths only": (lambda c, r, b: loss(b * (c - r).sum(1)), "RuntimeError"),
    "margin": (lambda c, r, b: b * (c.sum(1) - r.sum(1)), "it is off by up to"),
    "over tokens": (lambda c, r, b: loss(b * c.sum(0)), "the shape must be (3,)"),
}


@pytest.mark.parametrize("mistake", SEQUENCE)
def test_sequence_refuses(mistake, capsys):
    answer, hint = SEQUENCE[mistake]
    refuses("chapter_04.sequence", answer, hint, capsys)
