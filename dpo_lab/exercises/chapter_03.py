"""Checkers of chapter 03: the loss, reward gaps of a policy, blind spots, the constant log Z."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpo_lab.boltzmann import log_partition, optimal_policy
from dpo_lab.exercises import exercise, require, require_answered
from dpo_lab.losses import PairLogps, dpo
from dpo_lab.worlds import t8

BETA = 0.3


def _four_logps(size: int = 5) -> PairLogps:
    generator = torch.Generator().manual_seed(3)
    draws = torch.rand(4, size, generator=generator, dtype=torch.float64)
    return PairLogps(*(-0.5 - 9 * draws))


def _is_table(got: Any, shape: tuple[int, ...], meaning: str) -> None:
    require_answered(got)
    require(isinstance(got, Tensor), f"return a tensor, not {type(got).__name__}")
    require(
        got.shape == shape, f"the shape must be {shape}, {meaning}; yours is {tuple(got.shape)}"
    )


@exercise("chapter_03.loss")
def check_loss(answer: Any) -> None:
    """A function of four log-prob vectors and beta -> one DPO loss a pair."""
    logps = _four_logps()
    right = dpo(logps, BETA)
    got = answer(*logps[:4], BETA)
    require_answered(got)
    mean = isinstance(got, Tensor) and got.ndim == 0
    require(
        not mean, "this is one number for the batch; return one loss a pair, without mean or sum"
    )
    _is_table(got, (5,), "one loss a pair")
    u_chosen, u_rejected = logps.chosen_logratios, logps.rejected_logratios
    for margin, hint in (
        (u_chosen - u_rejected, "beta is missing"),
        ((u_chosen - u_rejected) / BETA, "multiply by beta; you divide by it"),
        (BETA * (u_rejected - u_chosen), "chosen and rejected are swapped: this rewards the loser"),
        (
            BETA * (logps.policy_chosen - logps.policy_rejected),
            "the reference is missing: compare log-ratios, not log-probabilities",
        ),
        (
            BETA * (u_chosen + u_rejected),
            "log pi_ref(rejected) has the wrong sign, or the log-ratios are added",
        ),
    ):
        require(not torch.allclose(got, -F.logsigmoid(margin)), hint)
    require(not torch.allclose(got, -right), "the sign is turned round: a loss is minus a log")
    require(
        not torch.allclose(got, (-right).exp()),
        "these are the probabilities sigmoid(m); the loss is minus their logarithm",
    )
    off = float((got - right).abs().max())
    require(off < 1e-9, f"it is off by up to {off:.3g}")
    _survives_large_margins(answer)


def _survives_large_margins(answer: Any) -> None:
    far = torch.tensor([-1e4])
    loss = answer(far, torch.zeros(1), torch.zeros(1), torch.zeros(1), 1.0)
    require(
        bool(torch.isfinite(loss).all()),
        "right for small margins, infinite at m = -10000: sigmoid(m) is rounded to 0 before the "
        "log; use F.logsigmoid or F.softplus",
    )


@exercise("chapter_03.gaps")
def check_gaps(answer: Any) -> None:
    """A function (policy_logps, ref_logps, beta) -> table of r_i - r_j."""
    _, ref_logps, rewards = t8()
    policy_logps = optimal_policy(ref_logps, rewards, BETA)
    right = rewards[:, None] - rewards[None, :]
    got = answer(policy_logps.clone(), ref_logps.clone(), BETA)
    require_answered(got)
    if isinstance(got, Tensor) and got.shape == (8,):
        require(False, "these are 8 implicit rewards; subtract each from each to get a table")
    _is_table(got, (8, 8), "row i minus column j")
    of_policy = policy_logps[:, None] - policy_logps[None, :]
    for wrong, hint in (
        (right / BETA, "these are differences of log-ratios; a reward is beta times as large"),
        (right / BETA**2, "multiply by beta; you divide by it"),
        (-right, "the sign is turned round: entry (i, j) is r_i - r_j, row minus column"),
        (BETA * of_policy, "the reference is missing: it has preferences of its own"),
    ):
        require(not torch.allclose(got, wrong), hint)
    off = float((got - right).abs().max())
    require(off < 1e-9, f"it differs from the true gaps by up to {off:.3g}")


@exercise("chapter_03.blind")
def check_blind(answer: Any) -> None:
    """pi(H) / pi(E) after training from the reference on pairs among A-D only: 2 / 9."""
    require_answered(answer)
    value = float(answer)
    tilt = math.exp((3.0 - 2.0) / 0.5)

    def said(other: float) -> bool:
        return math.isclose(value, other, rel_tol=0.01)

    require(
        not said(2 / 9 * tilt),
        "this is the ratio under pi*; to move there the loss would have to see E or H",
    )
    require(not said(tilt), "this is exp of the reward gap over beta; no pair shows either reward")
    require(
        not said(1.0), "they do not become equal: nothing acts on them, so what stays as it was?"
    )
    require(not said(9 / 2), "this is pi(E) / pi(H); turn it round")
    require(not said(0.02), "this is pi_ref(H); the question is for the ratio to pi(E)")
    require(said(2 / 9), "not quite: which of the eight logits get a gradient at all?")


@exercise("chapter_03.log_z")
def check_log_z(answer: Any) -> None:
    """A function (policy_logps, ref_logps, beta, known, reward) -> log Z."""
    _, ref_logps, rewards = t8()
    for known in (4, 2):
        _check_log_z_from(answer, ref_logps, rewards, known)


def _check_log_z_from(answer: Any, ref_logps: Tensor, rewards: Tensor, known: int) -> None:
    policy_logps = optimal_policy(ref_logps, rewards, BETA)
    reward = float(rewards[known])
    got = answer(policy_logps.clone(), ref_logps.clone(), BETA, known, reward)
    require_answered(got)
    require(
        not isinstance(got, Tensor) or got.numel() == 1,
        "log Z is one number a prompt; use the answer whose reward is known",
    )
    value, right = float(got), float(log_partition(ref_logps, rewards, BETA))
    u = float(policy_logps[known] - ref_logps[known])
    for wrong, hint in (
        (BETA * right, "this is beta log Z, the optimal value; divide by beta"),
        (-right, "the sign is turned round: r = beta u + beta log Z"),
        (reward - u, "beta is missing: the reward is divided by it"),
        (reward / BETA, "subtract the log-ratio of the answer whose reward is known"),
        (math.exp(right), "this is Z; the question is for its logarithm"),
        (
            reward / BETA - float(policy_logps[known]),
            "the reference is missing: the log-ratio is log pi - log pi_ref",
        ),
    ):
        require(not math.isclose(value, wrong, abs_tol=1e-9), hint)
    require(
        abs(value - right) < 1e-9,
        f"from answer {known} with reward {reward:g} it should be {right:.4f}, not {value:.4f}",
    )
