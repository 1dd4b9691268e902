"""Checkers of chapter 05: the clock of the fit, certain labels, the first step, votes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dpo_lab import bradley_terry
from dpo_lab.exercises import exercise, require, require_answered
from dpo_lab.tabular import TabularLoss, descend, expected_preferences
from dpo_lab.worlds import t8

POWERS = {"sgd": 2, "adam": 1}


@exercise("chapter_05.rate")
def check_rate(answer: Any) -> None:
    """A function (learning_rate, beta, new_beta, optimiser) -> learning rate of the same fit."""
    for optimiser, power in POWERS.items():
        _check_rate_of(answer, optimiser, power)


def _check_rate_of(answer: Any, optimiser: str, power: int) -> None:
    got = answer(1.0, 0.5, 2.0, optimiser)
    require_answered(got)
    value, ratio = float(got), 0.5 / 2.0
    other = POWERS["adam" if optimiser == "sgd" else "sgd"]

    def said(guess: float) -> bool:
        return math.isclose(value, guess, rel_tol=1e-9)

    hint_other = (
        "for SGD it is not enough to undo the gradient's factor beta: the rewards are beta "
        "times the logits, which is a second one"
        if optimiser == "sgd"
        else "Adam divides the gradient by its size, so the gradient's factor beta is gone already"
    )
    require(not said(ratio**other), hint_other)
    require(
        not said(ratio**-1) and not said(ratio**-2),
        "turn the ratio round: a larger beta fits faster, so its learning rate must be smaller",
    )
    require(not said(1.0), f"with {optimiser} the fit would run at another speed")
    require(
        said(ratio**power),
        f"with {optimiser}, from beta 0.5 to 2 at learning rate 1, yours is {value:.4g}",
    )
    require(
        math.isclose(float(answer(0.3, 2.0, 0.5, optimiser)), 0.3 * ratio**-power, rel_tol=1e-9),
        "it is right for learning rate 1 only; multiply by the old learning rate",
    )


@exercise("chapter_05.steps")
def check_steps(answer: Any) -> None:
    """A function (margin, beta, learning_rate) -> (m + e^m - 1) / (2 eta beta^2) steps."""
    for margin, beta, rate in ((3.0, 0.5, 0.1), (2.0, 2.0, 0.05), (6.0, 0.1, 0.3)):
        got = answer(margin, beta, rate)
        require_answered(got)
        _check_steps_of(float(got), margin, beta, rate)


def _check_steps_of(value: float, margin: float, beta: float, rate: float) -> None:
    def clock(m: float) -> float:
        return m + math.exp(m) - 1

    def said(guess: float) -> bool:
        return math.isclose(value, guess, rel_tol=1e-9)

    right = clock(margin) / (2 * rate * beta**2)
    for wrong, hint in (
        (clock(margin) / (2 * rate * beta), "the clock is eta beta^2 t: beta stands there squared"),
        (2 * right, "the right side is 1 + 2 s; divide by 2"),
        (right + 1 / (2 * rate * beta**2), "the 1 on the right side is lost: at margin 0, t is 0"),
        (math.exp(margin) / (2 * rate * beta**2), "e^m / 2 holds for large margins; solve exactly"),
        (
            clock(margin / beta) / (2 * rate * beta**2),
            "m is the margin itself; you divide it by beta once more",
        ),
        (
            clock(margin * beta) / (2 * rate * beta**2),
            "`margin` is m = beta h already; do not multiply it by beta again",
        ),
        (clock(margin) / 2, "this is the clock s = eta beta^2 t; which t is it?"),
    ):
        require(not said(wrong), hint)
    require(said(right), f"at margin {margin}, beta {beta}: yours {value:.4g}, wanted {right:.4g}")


@exercise("chapter_05.first")
def check_first(answer: Any) -> None:
    """A function (ref_logps, preferences, beta, learning_rate) -> log-probabilities after a step.

    The right answer comes from a real step with autograd.
    """
    _, ref, rewards = t8()
    wins = bradley_terry.win_matrix(rewards)
    preferences = expected_preferences(_uneven_pairs(), wins)
    loss = TabularLoss("dpo", ref, preferences, 2.0)
    right = descend(loss, ref, steps=1, learning_rate=3.0).policy_logps[1]
    got = answer(ref.clone(), preferences.clone(), 2.0, 3.0)
    require_answered(got)
    require(isinstance(got, Tensor), f"return a tensor, not {type(got).__name__}")
    require(got.shape == ref.shape, f"return one number an answer, shape (8,), not {got.shape}")
    lead = preferences.sum(1) - preferences.sum(0)

    def stepped(move: Tensor) -> Tensor:
        return torch.log_softmax(ref + move, -1)

    def said(guess: Tensor) -> bool:
        return torch.allclose(got.double(), guess, rtol=0, atol=1e-9)

    for wrong, hint in (
        (ref + 3.0 * lead, "these are logits; take log_softmax of them"),
        (stepped(-3.0 * lead), "the sign is turned round: the chosen must rise"),
        (stepped(6.0 * lead), "sigmoid(0) is one half; where is that factor?"),
        (stepped(1.5 * lead), "the gradient has a factor beta"),
        (stepped(3.0 * preferences.sum(1)), "an answer is pushed down where it is rejected"),
        (stepped(3.0 * lead - ref), "start from the reference"),
        (stepped(3.0 * lead.sign()), "this is Adam's kind of step: only the signs"),
    ):
        require(not said(wrong), hint)
    off = float((got - right).abs().max())
    require(off < 1e-9, f"it is off by up to {off:.3g}")


def _uneven_pairs() -> Tensor:
    """Answers shown at different rates: with equal ones, "chosen" and "not rejected" are alike."""
    shown = torch.arange(1.0, 9.0, dtype=torch.float64)
    pairs = torch.outer(shown, shown).triu(1)
    return pairs / pairs.sum()


@exercise("chapter_05.votes")
def check_votes(answer: Any) -> None:
    """A function (p, risk) -> smallest n with p^n + (1 - p)^n < risk."""
    for p, risk in ((0.8, 0.05), (0.5, 0.26), (0.6, 0.1), (0.95, 0.3)):
        got = answer(p, risk)
        require_answered(got)
        _check_votes_of(float(got), p, risk)


def _check_votes_of(value: float, p: float, risk: float) -> None:
    def first(agree: Callable[[int], float]) -> int:
        return next(n for n in range(1, 10_000) if agree(n) < risk)

    right = first(lambda n: p**n + (1 - p) ** n)
    for wrong, hint in (
        (first(lambda n: p**n), "they may also all choose the worse answer"),
        (first(lambda n: (1 - p) ** n), "they may also all choose the better answer"),
        (right - 1, "one vote less is not below the risk yet"),
    ):
        require(value == right or value != wrong, hint)
    require(value == right, f"for p = {p} and risk {risk}: {right} votes, yours is {value:g}")
