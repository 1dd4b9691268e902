"""Each checker of chapter 01 takes the right answer and names what is off in usual wrong ones."""

from __future__ import annotations

import math

import pytest
import torch
from exercise_checks import verdict

from dpo_lab.bradley_terry import fit, win_matrix
from dpo_lab.errors import InputError
from dpo_lab.exercises.chapter_01 import SPLIT_WINS


@pytest.mark.parametrize("answer", [81 / 82, 0.9878, torch.tensor(0.98780)])
def test_chain_right(capsys, answer):
    assert verdict(capsys, "chapter_01.chain", answer) == "Right."


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (..., "placeholder"),
        (0.81, "multiplies odds"),
        (81, "81 are the odds"),
        (2 * math.log(9), "put it through the sigmoid"),
        (98.8, "per cent"),
        (-0.2, "no probability"),
        (0.9, "more than 0.9"),
        (0.5, "more than 0.9"),
        (0.99, "chances of losing"),
        (0.95, "add the two gaps"),
        ("high", "could not convert"),
    ],
)
def test_chain_wrong(capsys, answer, hint):
    assert hint in verdict(capsys, "chapter_01.chain", answer)


def expected_wins(rewards, wins):
    return ((wins + wins.T) * win_matrix(rewards)).sum(1)


def test_gradient_right(capsys):
    answer = lambda rewards, wins: wins.sum(1) - expected_wins(rewards, wins)  # noqa: E731
    assert verdict(capsys, "chapter_01.gradient", answer) == "Right."


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda r, w: ..., "placeholder"),
        (lambda r, w: None, "return"),
        (lambda r, w: 0.0, "return a tensor, not float"),
        (lambda r, w: w.sum(), "shape (4,)"),
        (lambda r, w: expected_wins(r, w) - w.sum(1), "sign"),
        (lambda r, w: (w * (1 - win_matrix(r))).sum(1), "count all games"),
        (lambda r, w: w.sum(1) - ((w + w.T) * win_matrix(r).T).sum(1), "P(j beats i)"),
        (lambda r, w: (w.sum(1) - expected_wins(r, w)) / len(r), "this is a mean"),
        (lambda r, w: w.sum(1), "differs from autograd"),
        (lambda r, w: w @ torch.zeros(3, dtype=w.dtype), "raised RuntimeError"),
    ],
)
def test_gradient_wrong(capsys, answer, hint):
    assert hint in verdict(capsys, "chapter_01.gradient", answer)


def test_the_table_to_repair_has_no_finite_maximum():
    with pytest.raises(InputError, match=r"items \[0, 1\] never lost"):
        fit(SPLIT_WINS)


@pytest.mark.parametrize("answer", [(2, 0), (3, 1), [2, 1], (3, 0)])
def test_repair_right(capsys, answer):
    assert verdict(capsys, "chapter_01.repair", answer) == "Right."


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (..., "placeholder"),
        ((0, 2), "have beaten C and D before"),
        ((1, 0), "which group never lost"),
        ((3, 2), "which group never lost"),
        ((2, 2), "cannot meet itself"),
        ((4, 0), "0, 1, 2 and 3"),
        (("C", "A"), "two numbers"),
        (2, "two numbers"),
    ],
)
def test_repair_wrong(capsys, answer, hint):
    assert hint in verdict(capsys, "chapter_01.repair", answer)


def in_order(rewards):
    strengths = rewards.exp()
    return torch.stack([strengths[k] / strengths[k:].sum() for k in range(len(rewards))]).prod()


def test_ranking_right(capsys):
    assert verdict(capsys, "chapter_01.ranking", in_order) == "Right."


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda r: ..., "placeholder"),
        (lambda r: in_order(r).log(), "log-probability"),
        (lambda r: r.softmax(0).prod(), "no longer competes"),
        (lambda r: r.softmax(0)[0], "go on with the others"),
        (lambda r: torch.sigmoid(r[:-1] - r[1:]).prod(), "not only the next one"),
        (
            lambda r: torch.stack([win_matrix(r)[k, k + 1 :].prod() for k in range(len(r))]).prod(),
            "not independent",
        ),
        (lambda r: torch.tensor(0.5), "the answer is 0.7500, yours is 0.5000"),
    ],
)
def test_ranking_wrong(capsys, answer, hint):
    assert hint in verdict(capsys, "chapter_01.ranking", answer)
