"""The checkers of chapter 08 accept the right answer and name what is off in wrong ones."""

from __future__ import annotations

import pytest
from exercise_checks import accepts, refuses

from dpo_lab.boltzmann import kl, optimal_policy
from dpo_lab.bradley_terry import win_matrix


def test_falls_accepts(capsys):
    accepts("chapter_08.falls", lambda w, k: w @ (w - k) < 0, capsys)


FALLS = {
    "placeholder": (lambda w, k: ..., "placeholder"),
    "always": (lambda w, k: True, "push the chosen answer up"),
    "never": (lambda w, k: False, "takes more"),
    "longer": (lambda w, k: k @ k > w @ w and k[0] > 0, "only its part along g_w"),
    "same way": (lambda w, k: w @ k > 0 and k @ k < 9 * (w @ w), "compare with the square"),
    "no square root": (lambda w, k: w @ k > (w @ w) ** 1.5, "compare g_w . g_l"),
}


@pytest.mark.parametrize("mistake", FALLS)
def test_falls_refuses(mistake, capsys):
    answer, hint = FALLS[mistake]
    refuses("chapter_08.falls", answer, hint, capsys)


def ches(w, k):
    w, k = w.sum(0), k.sum(0)
    return w @ k - w @ w


def test_ches_accepts(capsys):
    accepts("chapter_08.ches", ches, capsys)


CHES = {
    "placeholder": (lambda w, k: ..., "placeholder"),
    "sign": (lambda w, k: -ches(w, k), "sign is turned round"),
    "swapped": (lambda w, k: ches(k, w), "square of the chosen sum"),
    "overlap": (lambda w, k: w.sum(0) @ k.sum(0), "only the overlap"),
    "means": (lambda w, k: w.mean(0) @ (k.mean(0) - w.mean(0)), "length-normalised"),
    "token by token": (lambda w, k: (w * w).sum(), "it is off by"),
}


@pytest.mark.parametrize("mistake", CHES)
def test_ches_refuses(mistake, capsys):
    answer, hint = CHES[mistake]
    refuses("chapter_08.ches", answer, hint, capsys)


def logratios(ref_logps, rewards, beta):
    return optimal_policy(ref_logps, rewards, beta) - ref_logps


def won(ref_logps, rewards):
    return 2 * ref_logps.exp() * (win_matrix(rewards) @ ref_logps.exp())


def test_benign_accepts(capsys):
    accepts("chapter_08.benign", lambda f, r, b: won(f, r) @ logratios(f, r, b), capsys)


BENIGN = {
    "placeholder": (lambda f, r, b: ..., "placeholder"),
    "reference": (lambda f, r, b: f.exp() @ logratios(f, r, b), "you average over pi_ref"),
    "rejected": (lambda f, r, b: won(f, -r) @ logratios(f, r, b), "these are the rejected"),
    "kl": (lambda f, r, b: kl(optimal_policy(f, r, b), f), "never negative"),
    "half": (lambda f, r, b: won(f, r) @ logratios(f, r, b) / 2, "a factor 2"),
    "fixed beta": (lambda f, r, b: won(f, r) @ logratios(f, r, 2.0), "at beta = 0.5"),
}


@pytest.mark.parametrize("mistake", BENIGN)
def test_benign_refuses(mistake, capsys):
    answer, hint = BENIGN[mistake]
    refuses("chapter_08.benign", answer, hint, capsys)
