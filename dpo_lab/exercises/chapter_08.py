"""Checkers of chapter 08: the condition of a fall, a score of features, the benign mean."""

from __future__ import annotations

import math
from typing import Any

import torch

from dpo_lab.boltzmann import optimal_policy
from dpo_lab.bradley_terry import win_matrix
from dpo_lab.exercises import exercise, require, require_answered
from dpo_lab.worlds import t8


@exercise("chapter_08.falls")
def check_falls(answer: Any) -> None:
    """A function (g_w, g_l) -> whether a small step on the pair lowers the chosen answer."""
    cases = (  # (g_w, g_l, falls, what an answer that is wrong here has missed)
        ((1.0, 0.0), (-2.0, 0.0), False, "gradients that point apart push the chosen answer up"),
        ((1.0, 0.0), (2.0, 0.0), True, "a longer rejected gradient, the same way, takes more"),
        (
            (1.0, 0.0),
            (0.5, 3.0),
            False,
            "a long rejected gradient is not enough; only its part along g_w counts",
        ),
        (
            (2.0, 0.0),
            (1.0, 0.5),
            False,
            "gradients that point the same way are not enough; compare with the square of g_w",
        ),
        ((1.0, 1.0), (1.0, 1.5), True, "compare g_w . g_l with g_w . g_w"),
    )
    for g_w, g_l, falls, hint in cases:
        got = answer(torch.tensor(g_w).double(), torch.tensor(g_l).double())
        require_answered(got)
        require(bool(got) == falls, f"wrong for g_w = {g_w}, g_l = {g_l}: {hint}")


@exercise("chapter_08.ches")
def check_ches(answer: Any) -> None:
    """A function (h_w, h_l) of token features (tokens, width) -> the CHES score, one number."""
    generator = torch.Generator().manual_seed(8)
    h_w = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    h_l = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    got = answer(h_w.clone(), h_l.clone())
    require_answered(got)
    value = float(got)

    def said(other: torch.Tensor) -> bool:
        return math.isclose(value, float(other), abs_tol=1e-9)

    sum_w, sum_l = h_w.sum(0), h_l.sum(0)
    right = sum_w @ sum_l - sum_w @ sum_w
    require(not said(-right), "the sign is turned round: a high score marks a pair at risk")
    require(not said(sum_w @ sum_l - sum_l @ sum_l), "subtract the square of the chosen sum")
    require(not said(sum_w @ sum_l), "this is only the overlap; subtract the chosen sum's square")
    mean_w, mean_l = h_w.mean(0), h_l.mean(0)
    require(
        not said(mean_w @ mean_l - mean_w @ mean_w),
        "this is the length-normalised score; here the features are summed over tokens",
    )
    require(said(right), f"it is off by {abs(value - float(right)):.3g}")


@exercise("chapter_08.benign")
def check_benign(answer: Any) -> None:
    """A function (ref_logps, rewards, beta) -> mean log-ratio of chosen answers at the optimum."""
    _, ref_logps, rewards = t8()
    ref, wins = ref_logps.exp(), win_matrix(rewards)
    for beta in (2.0, 0.5):
        got = answer(ref_logps.clone(), rewards.clone(), beta)
        require_answered(got)
        value = float(got)
        u = optimal_policy(ref_logps, rewards, beta) - ref_logps
        chosen = 2 * ref * (wins @ ref)

        def said(weights: torch.Tensor, value: float = value, u: torch.Tensor = u) -> bool:
            return math.isclose(value, float(weights @ u), abs_tol=1e-9)

        require(not said(ref), "you average over pi_ref; a chosen answer has won a comparison")
        require(
            not said(2 * ref - chosen), "these are the rejected answers; turn the win table round"
        )
        require(
            not said(u.exp() * ref),
            "this is the KL on the policy's own answers, which is never negative",
        )
        require(
            not said(chosen / 2),
            "there are two draws, and either can be the chosen one: a factor 2 is missing",
        )
        require(said(chosen), f"at beta = {beta} it is off by {abs(value - float(chosen @ u)):.3g}")
