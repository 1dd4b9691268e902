"""Checkers of chapter 04: one step of a free policy, a valley, a loss of sequences."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpo_lab.exercises import exercise, require, require_answered
from dpo_lab.worlds import t8

BETA = 0.4


@exercise("chapter_04.rates")
def check_rates(answer: Any) -> None:
    """A function (probs, won, lost) -> rates of log pi(won), log pi(lost) along the step."""
    probs = t8().ref_logps.exp()
    for won, lost in ((0, 7), (7, 0), (2, 4)):
        _check_rates_of(answer, probs, won, lost)


def _check_rates_of(answer: Any, probs: Tensor, won: int, lost: int) -> None:
    got = answer(probs.clone(), won, lost)
    require_answered(got)
    require(
        isinstance(got, tuple | list) and len(got) == 2,
        "return two numbers: the rate of the chosen answer, then that of the rejected one",
    )
    values = [float(rate) for rate in got]
    p_won, p_lost = float(probs[won]), float(probs[lost])
    drift = p_lost - p_won

    def said(*rates: float) -> bool:
        return all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(values, rates, strict=True))

    require(
        not said(1.0, -1.0),
        "these are the rates of the two logits; the softmax divides by a sum that moves too",
    )
    require(
        not said(1 - drift, -1 - drift),
        "the drift has the wrong sign: where the chosen answer is likelier, the sum grows and "
        "both are divided by more",
    )
    require(
        not said(-1 + drift, 1 + drift),
        "these are the rejected answer's rate and then the chosen one's; turn them round",
    )
    require(
        not said(1 - p_won, -1 + p_lost),
        "the other logit of the pair also moves the sum: each rate has two terms in pi",
    )
    right = (1 + drift, -1 + drift)
    off = max(abs(a - b) for a, b in zip(values, right, strict=True))
    require(off < 1e-9, f"with pi = {p_won:.2f} and {p_lost:.2f} it is off by up to {off:.3g}")


@exercise("chapter_04.valley")
def check_valley(answer: Any) -> None:
    """The best u_l at u_w = -5, where 3 of 4 labels agree and beta = 0.1: -5 - 10 log 3."""
    require_answered(answer)
    value, gap = float(answer), math.log(3)

    def said(other: float) -> bool:
        return math.isclose(value, other, abs_tol=0.01)

    require(not said(gap / 0.1), "this is the gap between the log-ratios; where is u_l itself?")
    require(not said(-5 + gap / 0.1), "the rejected answer must lie below the chosen one")
    require(not said(-5 - gap), "this gap is the margin; the log-ratios are 1 / beta as far apart")
    require(not said(-5 - 0.1 * gap), "divide the margin by beta; you multiply")
    require(
        not said(-5 - math.log(0.75) / 0.1) and not said(-5 + math.log(0.75) / 0.1),
        "the margin is the log-odds log(p / (1 - p)), not log p",
    )
    require(
        value > -100,
        "it does not run away: one label in four pulls the other way",
    )
    require(said(-5 - gap / 0.1), "not quite: solve 0.1 (u_w - u_l) = log(p / (1 - p)) for u_l")


@exercise("chapter_04.sequence")
def check_sequence(answer: Any) -> None:
    """A function (chosen, rejected, beta) of tables of token log-ratios -> one loss a pair."""
    generator = torch.Generator().manual_seed(4)
    chosen = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    rejected = torch.randn(3, 6, generator=generator, dtype=torch.float64)
    _check_sequence_of(answer, chosen, chosen.flip(0) - 1)
    _check_sequence_of(answer, chosen, rejected)


def _check_sequence_of(answer: Any, chosen: Tensor, rejected: Tensor) -> None:
    got = answer(chosen.clone(), rejected.clone(), BETA)
    require_answered(got)
    require(isinstance(got, Tensor), f"return a tensor, not {type(got).__name__}")
    require(got.shape != chosen.shape, "this is one loss a token; sum the tokens first")
    require(got.ndim > 0, "this is one number for the batch; return one loss a pair")
    require(got.shape == (3,), f"the shape must be (3,), one loss a pair; yours is {got.shape}")
    right = -F.logsigmoid(BETA * (chosen.sum(1) - rejected.sum(1)))
    for wrong, hint in (
        (
            -F.logsigmoid(BETA * (chosen.mean(1) - rejected.mean(1))),
            "you average over tokens; log pi of a sequence is a sum",
        ),
        (-F.logsigmoid(chosen.sum(1) - rejected.sum(1)), "beta is missing"),
        (
            -F.logsigmoid(BETA * (rejected.sum(1) - chosen.sum(1))),
            "chosen and rejected are swapped",
        ),
        (-right, "the sign is turned round: a loss is minus a log"),
    ):
        require(not torch.allclose(got, wrong), hint)
    if chosen.shape == rejected.shape:
        by_token = -F.logsigmoid(BETA * (chosen - rejected))
        for wrong in (by_token.mean(1), by_token.sum(1)):
            require(
                not torch.allclose(got, wrong),
                "the sigmoid comes after the sum over tokens, not before it",
            )
    off = float((got - right).abs().max())
    require(off < 1e-9, f"it is off by up to {off:.3g}")
