"""Checkers of chapter 07: the loss from token log-probs, accumulation, the floor of the loss."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from dpo_lab.exercises import exercise, require, require_answered


@exercise("chapter_07.loss")
def check_loss(answer: Any) -> None:
    """A function (tokens, ref_tokens, mask, beta) -> mean DPO loss; B chosen rows, B rejected."""
    generator = torch.Generator().manual_seed(7)
    tokens, ref_tokens = -3 * torch.rand(2, 6, 5, generator=generator, dtype=torch.float64)
    starts, ends = torch.tensor([[1, 2, 1, 1, 2, 1], [3, 5, 4, 5, 5, 2]])
    place = torch.arange(5)
    mask = (place >= starts[:, None]) & (place < ends[:, None])
    got = answer(tokens.clone(), ref_tokens.clone(), mask.clone(), 0.5)
    require_answered(got)
    require(torch.as_tensor(got).numel() == 1, "return one number, the mean over the pairs")
    ratios = tokens - ref_tokens
    rows, policy = (ratios * mask).sum(1), (tokens * mask).sum(1)

    def loss(rows: torch.Tensor, beta: float = 0.5) -> torch.Tensor:
        chosen, rejected = rows.chunk(2)
        return -F.logsigmoid(beta * (chosen - rejected))

    neighbours = -F.logsigmoid(0.5 * (rows[::2] - rows[1::2]))
    for wrong, hint in (
        (loss(ratios.sum(1)).mean(), "there is no mask: prompt and padding are in the sums"),
        (loss(rows / mask.sum(1)).mean(), "you average over tokens; DPO takes sums"),
        (loss(policy).mean(), "the reference is missing"),
        (loss(-rows).mean(), "chosen and rejected are swapped"),
        (neighbours.mean(), "the first half of the rows is chosen, the second half rejected"),
        (loss(rows, 1.0).mean(), "beta is missing"),
        (0.5 * loss(rows, 1.0).mean(), "beta belongs inside the sigmoid"),
        (loss(rows).sum(), "this is the sum over the pairs; take the mean"),
        (-loss(rows).mean(), "the sign is turned round: the loss is -log sigmoid"),
    ):
        require(not _same(got, wrong), hint)
    off = abs(float(got) - float(loss(rows).mean()))
    require(off < 1e-9, f"it is off by {off:.3g}")


@exercise("chapter_07.accumulate")
def check_accumulate(answer: Any) -> None:
    """A function of micro-batches' unreduced losses -> the scalar to take the gradient of."""
    sizes = (4, 4, 1)
    losses = [torch.linspace(0.1, 1.0, size, dtype=torch.float64) + size for size in sizes]
    got = answer([part.clone() for part in losses])
    require_answered(got)
    require(torch.as_tensor(got).numel() == 1, "return one number for all micro-batches")
    means = torch.stack([part.mean() for part in losses])
    right = torch.cat(losses).mean()
    for wrong, hint in (
        (means.mean(), "the last micro-batch is smaller; its one pair now counts four times"),
        (means.sum(), "a sum of means grows with the number of micro-batches"),
        (torch.cat(losses).sum(), "divide by the number of pairs in the whole batch"),
        (torch.cat(losses).sum() / len(losses), "divide by the pairs, not by the micro-batches"),
        (means[-1], "this is the last micro-batch alone"),
    ):
        require(not _same(got, wrong), hint)
    require(_same(got, right), f"it is off by {abs(float(got) - float(right)):.3g}")


@exercise("chapter_07.floor")
def check_floor(answer: Any) -> None:
    """A function (gaps, flip_rate) -> the smallest mean loss that any margins can reach."""
    gaps = torch.tensor([0.0, 0.5, -1.0, 3.0], dtype=torch.float64)
    for flip_rate in (0.0, 0.2):
        got = answer(gaps.clone(), flip_rate)
        require_answered(got)
        require(torch.as_tensor(got).numel() == 1, "return one number, the mean over the pairs")
        p = torch.sigmoid(gaps)
        shown = (1 - flip_rate) * p + flip_rate * (1 - p)
        case = f"with flip_rate {flip_rate}: "
        for wrong, hint in (
            (-shown.log().mean(), "the label can fall the other way too; weigh both outcomes"),
            (_entropy(shown).sum(), "this is the sum over the pairs; take the mean"),
            (_entropy(shown).mean() / math.log(2), "this is in bits; the loss is in nats"),
            (-_entropy(shown).mean(), "the sign is turned round: a loss is not negative"),
            (_cross(shown, p), "the best margin follows the labels as they are, flips included"),
            (_cross(p, shown), "the labels themselves are flipped: weigh with their probability"),
            (_entropy(p).mean(), "a share of the labels is turned round, which costs more"),
        ):
            require(_same(wrong, _entropy(shown).mean()) or not _same(got, wrong), case + hint)
        off = abs(float(got) - float(_entropy(shown).mean()))
        require(off < 1e-9, f"{case}it is off by {off:.3g}")


def _same(got: Any, value: torch.Tensor) -> bool:
    return math.isclose(float(got), float(value), abs_tol=1e-9)


def _cross(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Mean loss where labels fall with probability p and the margins say q."""
    return -(p * q.log() + (1 - p) * (1 - q).log()).mean()


def _entropy(p: torch.Tensor) -> torch.Tensor:
    return -(p * p.log() + (1 - p) * (1 - p).log())
