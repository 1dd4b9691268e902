"""The checkers of chapter 02: the right answer passes, typical slips get the hint that fits."""

from __future__ import annotations

import math

import pytest
import torch
from exercise_checks import verdict

INF = math.inf


def kl(p, q):
    return float((p.exp() * (p - q)).sum())


# ---- the optimal policy from logits ----


def optimum(logits, rewards, beta):
    return torch.log_softmax(logits + rewards / beta, -1)


def normalised_by_hand(logits, rewards, beta):
    tilted = logits + rewards / beta
    return tilted - torch.logsumexp(tilted, -1, keepdim=True)


def by_exponentials(logits, rewards, beta):
    weights = torch.softmax(logits, -1) * torch.exp(rewards / beta)
    return (weights / weights.sum(-1, keepdim=True)).log()


@pytest.mark.parametrize("answer", [optimum, normalised_by_hand])
def test_optimum_right(capsys, answer):
    assert verdict(capsys, "chapter_02.optimum", answer) == "Right."


OPTIMUM_SLIPS = {
    "placeholder": (lambda g, r, b: ..., "the placeholder"),
    "no return": (lambda g, r, b: None, "returns None"),
    "probabilities": (lambda g, r, b: optimum(g, r, b).exp(), "these are the probabilities"),
    "no reference": (lambda g, r, b: torch.log_softmax(r / b, -1), "the reference is missing"),
    "times beta": (lambda g, r, b: torch.log_softmax(g + b * r, -1), "multiplied by beta"),
    "no beta": (lambda g, r, b: torch.log_softmax(g + r, -1), "beta is missing"),
    "tempered": (lambda g, r, b: torch.log_softmax((g + r) / b, -1), "divides the logits too"),
    "not normalised": (lambda g, r, b: g + r / b, "right up to a constant"),
    "reference only": (lambda g, r, b: torch.log_softmax(g, -1), "these are not the log-prob"),
    "first dimension": (lambda g, r, b: torch.log_softmax(g + r / b, 0), "over the last dimension"),
    "overflow": (by_exponentials, "exp(r / beta) overflows"),
    "log of softmax": (lambda g, r, b: torch.softmax(g + r / b, -1).log(), "stay in logarithms"),
    "one number": (lambda g, r, b: optimum(g, r, b).sum(), "of shape (8,), got ()"),
    "error": (lambda g, r, b: 1 / 0, "your code raised ZeroDivisionError"),
}


@pytest.mark.parametrize("slip", OPTIMUM_SLIPS)
def test_optimum_hints(capsys, slip):
    answer, hint = OPTIMUM_SLIPS[slip]
    assert hint in verdict(capsys, "chapter_02.optimum", answer)


# ---- beta for a budget ----


def bisect(spend, low=1e-4, high=1e4, steps=60):
    """A reader's bisection; `spend(beta)` says by how much the budget is overspent."""
    for _ in range(steps):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if spend(middle) > 0 else (low, middle)
    return math.sqrt(low * high)


def beta_for_budget(ref, rewards, budget):
    return bisect(lambda b: kl(optimum(ref, rewards, b), ref) - budget)


BUDGET_SLIPS = {
    "placeholder": (lambda p, r, e: ..., "the placeholder"),
    "negative": (lambda p, r, e: -1.0, "not above 0"),
    "wrong half": (
        lambda p, r, e: bisect(lambda b: e - kl(optimum(p, r, b), p)),
        "KL falls as beta grows",
    ),
    "constant": (lambda p, r, e: 0.7, "the same for every budget"),
    "forward": (
        lambda p, r, e: bisect(lambda b: kl(p, optimum(p, r, b)) - e),
        "KL(pi_ref || pi*)",
    ),
    "inverse": (lambda p, r, e: 1 / beta_for_budget(p, r, e), "this is 1 / beta"),
    "narrow": (
        lambda p, r, e: bisect(lambda b: kl(optimum(p, r, b), p) - e, low=0.5, high=2.0),
        "start from a wider bracket",
    ),
    "few steps": (
        lambda p, r, e: bisect(lambda b: kl(optimum(p, r, b), p) - e, steps=4),
        "halve it more often",
    ),
}


def test_budget_right(capsys):
    assert verdict(capsys, "chapter_02.budget", beta_for_budget) == "Right."


@pytest.mark.parametrize("slip", BUDGET_SLIPS)
def test_budget_hints(capsys, slip):
    answer, hint = BUDGET_SLIPS[slip]
    assert hint in verdict(capsys, "chapter_02.budget", answer)


# ---- the limit of small beta, predicted ----


@pytest.mark.parametrize("answer", [[0, 2 / 3, 1 / 3, 0, 0], torch.tensor([0, 0.667, 0.333, 0, 0])])
def test_limit_right(capsys, answer):
    assert verdict(capsys, "chapter_02.limit", answer) == "Right."


LIMIT_SLIPS = {
    "placeholder": (..., "the placeholder"),
    "outside the support": ([0, 0, 0, 0, 1], "the reference never gives it"),
    "halves": ([0, 0.5, 0.5, 0, 0], "they do not share equally"),
    "most likely": ([0, 1, 0, 0, 0], "keeps a share"),
    "other end": ([0.4, 0.3, 0.15, 0.15, 0], "the other end"),
    "sum": ([0, 0.3, 0.15, 0, 0], "they sum to 0.450"),
    "negative": ([0, 1.5, -0.5, 0, 0], "negative"),
    "four": ([0, 2 / 3, 1 / 3, 0], "of shape (5,), got (4,)"),
    "elsewhere": ([1, 0, 0, 0, 0], "keep only the best of the rest"),
}


@pytest.mark.parametrize("slip", LIMIT_SLIPS)
def test_limit_hints(capsys, slip):
    answer, hint = LIMIT_SLIPS[slip]
    assert hint in verdict(capsys, "chapter_02.limit", answer)


# ---- what a policy loses, two ways ----


def value(policy, ref, rewards, beta):
    return float((policy.exp() * rewards).sum()) - beta * kl(policy, ref)


def by_objective(p, ref, r, b):
    return value(optimum(ref, r, b), ref, r, b) - value(p, ref, r, b)


def by_kl(p, ref, r, b):
    return b * kl(p, optimum(ref, r, b))


def test_regret_right(capsys):
    answer = verdict(capsys, "chapter_02.regret", lambda *a: (by_objective(*a), by_kl(*a)))
    assert answer == "Right."


REGRET_SLIPS = {
    "placeholder": (lambda *a: ..., "the placeholder"),
    "half done": (lambda *a: (by_objective(*a), ...), "the placeholder"),
    "three": (lambda *a: (1.0, 2.0, 3.0), "return two numbers"),
    "sign": (lambda *a: (-by_objective(*a), by_kl(*a)), "wrong sign"),
    "log Z": (
        lambda p, ref, r, b: (
            float(torch.logsumexp(ref + r / b, -1)) - value(p, ref, r, b),
            by_kl(p, ref, r, b),
        ),
        "the value is beta log Z",
    ),
    "rewards only": (
        lambda p, ref, r, b: (
            float(((optimum(ref, r, b).exp() - p.exp()) * r).sum()),
            by_kl(p, ref, r, b),
        ),
        "the first number is not",
    ),
    "no beta": (
        lambda p, ref, r, b: (by_objective(p, ref, r, b), by_kl(p, ref, r, b) / b),
        "lacks",
    ),
    "other direction": (
        lambda p, ref, r, b: (by_objective(p, ref, r, b), b * kl(optimum(ref, r, b), p)),
        "the policy comes first",
    ),
    "from the reference": (
        lambda p, ref, r, b: (by_objective(p, ref, r, b), b * kl(p, ref)),
        "measure from pi*",
    ),
    "nonsense": (lambda *a: (by_objective(*a), 7.0), "the second number is not"),
}


@pytest.mark.parametrize("slip", REGRET_SLIPS)
def test_regret_hints(capsys, slip):
    answer, hint = REGRET_SLIPS[slip]
    assert hint in verdict(capsys, "chapter_02.regret", answer)
