"""Checkers of chapter 10: a loss met for the first time, two corrections at once, KTO by hand."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpo_lab.exercises import exercise, require, require_answered

BETA = 0.5
CHOSEN = torch.tensor([0.4, -2.0, 3.0], dtype=torch.float64)
REJECTED = torch.tensor([-0.3, 1.5, -1.0], dtype=torch.float64)


@exercise("chapter_10.exponential")
def check_exponential(answer: Any) -> None:
    """A function p -> margin at which p exp(-m) + (1 - p) exp(m) is least: logit(p) / 2."""
    for p in (0.8, 0.3):
        got = answer(p)
        require_answered(got)
        value, right = float(got), math.log(p / (1 - p)) / 2
        for wrong, hint in (
            (2 * right, "that is DPO's margin; here the ratio of forces grows as e^(2m)"),
            (-right, "the sign is turned round: a likely winner has a margin above 0"),
            (4 * right, "divide the log-odds by 2; you multiply"),
            (p - 0.5, "that is IPO's margin at beta = 1; this force is not linear"),
        ):
            require(not math.isclose(value, wrong, abs_tol=1e-6), hint)
        require(
            math.isclose(value, right, abs_tol=1e-6),
            f"at p = {p} it is off by {abs(value - right):.3g}; solve p w(m) = (1 - p) w(-m) "
            "with w(m) = e^(-m)",
        )


@exercise("chapter_10.twice")
def check_twice(answer: Any) -> None:
    """cDPO with e = 0.1 where labels of p = 0.9 are flipped at rate 0.1: the margin 1.131"""
    require_answered(answer)
    value, clean, rate = float(answer), 0.9, 0.1

    def smoothed(p: float) -> float:
        return (1 - rate) * p + rate * (1 - p)

    def said(p: float) -> bool:
        return math.isclose(value, math.log(p / (1 - p)), abs_tol=5e-3)

    once, twice = smoothed(clean), smoothed(smoothed(clean))
    require(not said(clean), "that is the margin of the clean labels: DPO's, or that of robust DPO")
    require(not said(once), "that is DPO on the flipped labels; cDPO smooths them once more")
    require(
        not math.isclose(value, twice, abs_tol=5e-3),
        "that is the smoothed win probability; the margin is its log-odds",
    )
    require(said(twice), "not quite: flip 0.9 at rate 0.1, smooth the result with e = 0.1, logit")


@exercise("chapter_10.kto")
def check_kto(answer: Any) -> None:
    """A function (chosen, rejected, mismatched, beta) of log-ratios -> KTO's loss of each pair."""
    for mismatched in (1.2, -0.7):
        _check_kto_of(answer, torch.tensor([mismatched, mismatched / 2], dtype=torch.float64))


def _check_kto_of(answer: Any, mismatched: Tensor) -> None:
    chosen, rejected = CHOSEN.clone().requires_grad_(), REJECTED.clone().requires_grad_()
    others = mismatched.clone().requires_grad_()
    got = answer(chosen, rejected, others, BETA)
    require_answered(got)
    require(isinstance(got, Tensor), f"return a tensor, not {type(got).__name__}")
    require(got.shape == (3,), f"the shape must be (3,), one loss a pair; yours is {got.shape}")

    def pairs(z0: float, ahead: float = 1.0) -> Tensor:
        good = torch.sigmoid(-ahead * BETA * (CHOSEN - z0))
        return (good + torch.sigmoid(ahead * BETA * (REJECTED - z0))) / 2

    mean = float(mismatched.mean())
    z0, values = max(0.0, mean), got.detach()
    for wrong, hint in (
        (2 * pairs(z0), "this is the sum over the two answers; a pair's loss is half of it"),
        (pairs(z0, -1.0), "the sign is turned round: a good answer's loss falls as u rises"),
        (
            -F.logsigmoid(BETA * (CHOSEN - z0)) - F.logsigmoid(BETA * (z0 - REJECTED)),
            "this is the logistic loss of BCO; KTO takes the sigmoid, not its logarithm",
        ),
    ):
        require(not torch.allclose(values, wrong), hint)
    if mean > 0:
        require(not torch.allclose(values, pairs(0.0)), "z0 is missing: this is kto_simplified")
    else:
        require(not torch.allclose(values, pairs(mean)), "z0 estimates a KL: clamp it at 0")
    off = float((values - pairs(z0)).abs().max())
    require(off < 1e-9, f"it is off by up to {off:.3g}")
    (slope,) = torch.autograd.grad(got.sum(), others, allow_unused=True)
    require(
        slope is None or not bool(slope.any()),
        "z0 carries a gradient; detach it, since the loss must not be lowered by moving the KL",
    )
