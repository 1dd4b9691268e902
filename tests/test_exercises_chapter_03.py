"""The checkers of chapter 03 accept the right answer and name what is off in wrong ones."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from exercise_checks import accepts, refuses


def margin(pc, pr, rc, rr, beta):
    return beta * ((pc - rc) - (pr - rr))


def log_of_sigmoid(*logps):
    return torch.log(torch.sigmoid(margin(*logps)))


def test_loss_accepts(capsys):
    accepts("chapter_03.loss", lambda *a: -F.logsigmoid(margin(*a)), capsys)
    accepts("chapter_03.loss", lambda *a: F.softplus(-margin(*a)), capsys)


LOSSES = {
    "placeholder": (lambda *a: ..., "placeholder"),
    "no return": (lambda *a: None, "return"),
    "a float": (lambda *a: 0.5, "return a tensor, not float"),
    "mean": (lambda *a: -F.logsigmoid(margin(*a)).mean(), "one loss a pair, without mean"),
    "no beta": (lambda *a: -F.logsigmoid(margin(*a[:4], 1.0)), "beta is missing"),
    "over beta": (lambda *a: -F.logsigmoid(margin(*a[:4], 1 / a[4])), "you divide by it"),
    "swapped": (lambda pc, pr, rc, rr, b: F.softplus(margin(pc, pr, rc, rr, b)), "swapped"),
    "no reference": (lambda pc, pr, rc, rr, b: F.softplus(b * (pr - pc)), "reference is missing"),
    "added": (
        lambda pc, pr, rc, rr, b: F.softplus(-b * ((pc - rc) + (pr - rr))),
        "log-ratios are added",
    ),
    "sign": (lambda *a: F.logsigmoid(margin(*a)), "sign is turned round"),
    "probability": (lambda *a: torch.sigmoid(margin(*a)), "minus their logarithm"),
    "margin": (lambda *a: -margin(*a), "it is off by up to"),
    "overflow": (lambda *a: -log_of_sigmoid(*a), "infinite at m = -10000"),
    "crash": (lambda *a: 1 / 0, "your code raised ZeroDivisionError"),
}


@pytest.mark.parametrize("mistake", LOSSES)
def test_loss_refuses(mistake, capsys):
    answer, hint = LOSSES[mistake]
    refuses("chapter_03.loss", answer, hint, capsys)


def gaps(values):
    return values[:, None] - values[None, :]


def test_gaps_accepts(capsys):
    accepts("chapter_03.gaps", lambda policy, ref, beta: beta * gaps(policy - ref), capsys)


GAPS = {
    "placeholder": (lambda p, r, b: ..., "placeholder"),
    "rewards": (lambda p, r, b: b * (p - r), "8 implicit rewards"),
    "no beta": (lambda p, r, b: gaps(p - r), "differences of log-ratios"),
    "over beta": (lambda p, r, b: gaps(p - r) / b, "you divide by it"),
    "transposed": (lambda p, r, b: b * gaps(p - r).T, "row minus column"),
    "no reference": (lambda p, r, b: b * gaps(p), "reference is missing"),
    "one number": (lambda p, r, b: (p - r).sum(), "the shape must be (8, 8)"),
    "probabilities": (lambda p, r, b: b * gaps(p.exp() - r.exp()), "differs from the true gaps"),
}


@pytest.mark.parametrize("mistake", GAPS)
def test_gaps_refuses(mistake, capsys):
    answer, hint = GAPS[mistake]
    refuses("chapter_03.gaps", answer, hint, capsys)


@pytest.mark.parametrize("value", [2 / 9, 0.222])
def test_blind_accepts(value, capsys):
    accepts("chapter_03.blind", value, capsys)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (..., "placeholder"),
        (1.64, "the ratio under pi*"),
        (7.39, "exp of the reward gap"),
        (1, "nothing acts on them"),
        (4.5, "turn it round"),
        (0.02, "this is pi_ref(H)"),
        (0.5, "which of the eight logits get a gradient"),
    ],
)
def test_blind_refuses(value, hint, capsys):
    refuses("chapter_03.blind", value, hint, capsys)


def test_log_z_accepts(capsys):
    accepts("chapter_03.log_z", lambda p, ref, beta, y, r: r / beta - (p[y] - ref[y]), capsys)
    accepts(
        "chapter_03.log_z", lambda p, ref, beta, y, r: float(r / beta - (p[y] - ref[y])), capsys
    )


LOG_Z = {
    "placeholder": (lambda p, ref, b, y, r: ..., "placeholder"),
    "value": (lambda p, ref, b, y, r: r - b * (p[y] - ref[y]), "beta log Z, the optimal value"),
    "sign": (lambda p, ref, b, y, r: (p[y] - ref[y]) - r / b, "sign is turned round"),
    "no beta": (lambda p, ref, b, y, r: r - (p[y] - ref[y]), "beta is missing"),
    "no log-ratio": (lambda p, ref, b, y, r: r / b, "subtract the log-ratio"),
    "no reference": (lambda p, ref, b, y, r: r / b - p[y], "reference is missing"),
    "not the log": (lambda p, ref, b, y, r: math.exp(r / b - (p[y] - ref[y])), "this is Z;"),
    "all answers": (lambda p, ref, b, y, r: r / b - (p - ref), "one number a prompt"),
    "another answer": (lambda p, ref, b, y, r: r / b - (p[0] - ref[0]), "from answer 4"),
    "one answer only": (lambda p, ref, b, y, r: r / b - (p[4] - ref[4]), "from answer 2"),
}


@pytest.mark.parametrize("mistake", LOG_Z)
def test_log_z_refuses(mistake, capsys):
    answer, hint = LOG_Z[mistake]
    refuses("chapter_03.log_z", answer, hint, capsys)
