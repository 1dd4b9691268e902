"""Checkers of chapter 09: agreement up to a constant, one token's reward, ranking by likelihood."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dpo_lab.evaluation import correlation
from dpo_lab.exercises import exercise, require, require_answered


@exercise("chapter_09.agreement")
def check_agreement(answer: Any) -> None:
    """A function (true, implicit, prompt) -> their correlation with each prompt's mean removed."""
    generator = torch.Generator().manual_seed(9)
    prompt = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 0, 2, 1, 0])
    true = torch.randn(12, generator=generator, dtype=torch.float64)
    true = true + torch.tensor([0.0, 1.5, -1.0]).double()[prompt]
    noise = 0.5 * torch.randn(12, generator=generator, dtype=torch.float64)
    implicit = 0.4 * true + noise + torch.tensor([3.0, 0.0, -2.0]).double()[prompt]
    got = answer(true.clone(), implicit.clone(), prompt.clone())
    require_answered(got)
    value = float(got)

    def said(first: Tensor, second: Tensor, which: int = 0) -> bool:
        return math.isclose(value, correlation(first, second)[which], abs_tol=1e-9)

    centred = [_centred(column, prompt) for column in (true, implicit)]
    require(
        not said(true, implicit),
        "this is the correlation over all answers; each prompt's own constant is still in it",
    )
    require(not said(true, centred[1]), "remove the prompt's mean from the true rewards as well")
    require(not said(centred[0], implicit), "remove the prompt's mean from the implicit rewards")
    each = [correlation(true[prompt == k], implicit[prompt == k])[0] for k in range(3)]
    require(
        not math.isclose(value, sum(each) / 3, abs_tol=1e-9),
        "this averages one correlation a prompt; centre first, then take one over all answers",
    )
    require(not said(*centred, 1), "these are ranks; Pearson's correlation is asked for")
    require(said(*centred), f"it is off by {abs(value - correlation(*centred)[0]):.3g}")


def _centred(values: Tensor, prompt: Tensor) -> Tensor:
    means = torch.stack([values[prompt == k].mean() for k in range(int(prompt.max()) + 1)])
    return values - means[prompt]


@exercise("chapter_09.advantage")
def check_advantage(answer: Any) -> None:
    """A function (ref_logps, q, beta) of one state's tokens -> their implicit rewards."""
    ref_logps = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    q = torch.tensor([0.2, -0.4, 1.0], dtype=torch.float64)
    for beta in (0.5, 2.0):
        got = answer(ref_logps.clone(), q.clone(), beta)
        require_answered(got)
        value = torch.as_tensor(got, dtype=torch.float64)
        require(value.shape == q.shape, f"return one number a token, shape {tuple(q.shape)}")

        def said(other: Tensor, value: Tensor = value) -> bool:
            return torch.allclose(value, other, rtol=0, atol=1e-9)

        soft = beta * torch.logsumexp(ref_logps + q / beta, -1)
        require(
            not said(q - ref_logps.exp() @ q),
            "the value of a state is not the mean of Q under the reference: the best policy "
            "chooses, and pays for it",
        )
        require(not said(q - q.max()), "the maximum of Q would be the value without a KL price")
        require(
            not said(q - beta * torch.logsumexp(q / beta, -1)),
            "the reference is missing in the sum over tokens",
        )
        require(not said((q - soft) / beta), "this is the log-ratio; the reward is beta times it")
        require(not said(q), "this is Q; the value of the state before the token is missing")
        require(
            said(q - soft), f"at beta = {beta} it is off by {(value - q + soft).abs().max():.3g}"
        )


@exercise("chapter_09.ranked")
def check_ranked(answer: Any) -> None:
    """A function (margin, beta, ref_chosen, ref_rejected) -> whether pi ranks the pair right."""
    cases = (  # margin, beta, ref_chosen, ref_rejected, right, what a wrong answer has missed
        (0.5, 0.1, -20.0, -10.0, False, "a margin above 0 is not enough; the reference counts too"),
        (0.5, 0.1, -14.0, -10.0, True, "a margin of m moves the log-probabilities by m / beta"),
        (-0.1, 0.1, -10.0, -20.0, True, "the margin may even be negative"),
        (-0.1, 0.1, -10.0, -10.5, False, "where the reference is right, a run can spoil it"),
        (2.0, 1.0, -13.0, -10.0, False, "beta counts: a margin costs 1 / beta nats"),
        (2.0, 0.5, -13.0, -10.0, True, "divide the margin by beta"),
    )
    for margin, beta, chosen, rejected, right, hint in cases:
        got = answer(margin, beta, chosen, rejected)
        require_answered(got)
        given = f"margin {margin}, beta {beta}, reference {chosen} and {rejected}"
        require(bool(got) == right, f"wrong for {given}: {hint}")
