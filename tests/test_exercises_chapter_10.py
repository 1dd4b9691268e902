"""The checkers of chapter 10 accept the right answer and name what is off in wrong ones."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from exercise_checks import accepts, refuses


def logit(p):
    return math.log(p / (1 - p))


def test_exponential_accepts(capsys):
    accepts("chapter_10.exponential", lambda p: 0.5 * logit(p), capsys)


EXPONENTIAL = {
    "placeholder": (lambda p: ..., "placeholder"),
    "dpo": (logit, "that is DPO's margin"),
    "sign": (lambda p: -0.5 * logit(p), "sign is turned round"),
    "doubled": (lambda p: 2 * logit(p), "you multiply"),
    "ipo": (lambda p: p - 0.5, "IPO's margin"),
    "hinge": (lambda p: math.copysign(1, p - 0.5), "solve p w(m)"),
}


@pytest.mark.parametrize("mistake", EXPONENTIAL)
def test_exponential_refuses(mistake, capsys):
    answer, hint = EXPONENTIAL[mistake]
    refuses("chapter_10.exponential", answer, hint, capsys)


@pytest.mark.parametrize("value", [logit(0.756), 1.13])
def test_twice_accepts(value, capsys):
    accepts("chapter_10.twice", value, capsys)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (..., "placeholder"),
        (logit(0.9), "margin of the clean labels"),
        (logit(0.82), "smooths them once more"),
        (0.756, "log-odds"),
        (0.5, "not quite"),
        (logit(0.702), "not quite"),
    ],
)
def test_twice_refuses(value, hint, capsys):
    refuses("chapter_10.twice", value, hint, capsys)


def kto(chosen, rejected, mismatched, beta, *, z0=None, half=2, sign=1):
    if z0 is None:
        z0 = mismatched.mean().clamp(min=0).detach()
    good = torch.sigmoid(-sign * beta * (chosen - z0))
    return (good + torch.sigmoid(sign * beta * (rejected - z0))) / half


def logistic(chosen, rejected, mismatched, beta):
    z0 = mismatched.mean().clamp(min=0)
    return -F.logsigmoid(beta * (chosen - z0)) - F.logsigmoid(beta * (z0 - rejected))


def test_kto_accepts(capsys):
    accepts("chapter_10.kto", kto, capsys)


KTO = {
    "placeholder": (lambda c, r, o, b: ..., "placeholder"),
    "a float": (lambda c, r, o, b: 0.5, "return a tensor, not float"),
    "mean": (lambda c, r, o, b: kto(c, r, o, b).mean(), "the shape must be (3,)"),
    "sum": (lambda c, r, o, b: kto(c, r, o, b, half=1), "half of it"),
    "sign": (lambda c, r, o, b: kto(c, r, o, b, sign=-1), "sign is turned round"),
    "logistic": (logistic, "logistic loss of BCO"),
    "no z0": (lambda c, r, o, b: kto(c, r, o, b, z0=0.0), "z0 is missing"),
    "no clamp": (lambda c, r, o, b: kto(c, r, o, b, z0=o.mean().detach()), "clamp it at 0"),
    "not detached": (lambda c, r, o, b: kto(c, r, o, b, z0=o.mean().relu()), "detach it"),
    "no beta": (lambda c, r, o, b: kto(c, r, o, 1.0), "it is off by up to"),
}


@pytest.mark.parametrize("mistake", KTO)
def test_kto_refuses(mistake, capsys):
    answer, hint = KTO[mistake]
    refuses("chapter_10.kto", answer, hint, capsys)
