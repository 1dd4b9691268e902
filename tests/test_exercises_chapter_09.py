"""The checkers of chapter 09 accept the right answer and name what is off in wrong ones."""

from __future__ import annotations

import pytest
import torch
from exercise_checks import accepts, refuses

from dpo_lab.evaluation import correlation


def centred(values, prompt):
    values = values.clone()
    for k in prompt.unique():
        values[prompt == k] -= values[prompt == k].mean()
    return values


def mean_of_each(t, i, p):
    each = [correlation(t[p == k], i[p == k])[0] for k in p.unique()]
    return sum(each) / len(each)


def test_agreement_accepts(capsys):
    def right(t, i, p):
        return correlation(centred(t, p), centred(i, p))[0]

    accepts("chapter_09.agreement", right, capsys)


AGREEMENT = {
    "placeholder": (lambda t, i, p: ..., "placeholder"),
    "pooled": (lambda t, i, p: correlation(t, i)[0], "own constant is still in it"),
    "one side": (lambda t, i, p: correlation(t, centred(i, p))[0], "true rewards as well"),
    "other side": (lambda t, i, p: correlation(centred(t, p), i)[0], "from the implicit rewards"),
    "each": (mean_of_each, "centre first"),
    "ranks": (lambda t, i, p: correlation(centred(t, p), centred(i, p))[1], "these are ranks"),
    "sign": (lambda t, i, p: correlation(-centred(t, p), centred(i, p))[0], "off by"),
}


@pytest.mark.parametrize("mistake", AGREEMENT)
def test_agreement_refuses(mistake, capsys):
    answer, hint = AGREEMENT[mistake]
    refuses("chapter_09.agreement", answer, hint, capsys)


def soft_value(f, q, b):
    return b * torch.log((f.exp() * torch.exp(q / b)).sum())


def test_advantage_accepts(capsys):
    accepts("chapter_09.advantage", lambda f, q, b: q - soft_value(f, q, b), capsys)


ADVANTAGE = {
    "placeholder": (lambda f, q, b: ..., "placeholder"),
    "mean": (lambda f, q, b: q - f.exp() @ q, "not the mean of Q"),
    "max": (lambda f, q, b: q - q.max(), "without a KL price"),
    "no reference": (lambda f, q, b: q - b * (q / b).logsumexp(0), "reference is missing"),
    "log-ratio": (lambda f, q, b: (q - soft_value(f, q, b)) / b, "beta times it"),
    "q": (lambda f, q, b: q, "this is Q"),
    "scalar": (lambda f, q, b: soft_value(f, q, b), "one number a token"),
    "fixed beta": (lambda f, q, b: q - soft_value(f, q, 0.5), "at beta = 2.0"),
}


@pytest.mark.parametrize("mistake", ADVANTAGE)
def test_advantage_refuses(mistake, capsys):
    answer, hint = ADVANTAGE[mistake]
    refuses("chapter_09.advantage", answer, hint, capsys)


def test_ranked_accepts(capsys):
    accepts("chapter_09.ranked", lambda m, b, w, k: w + m / b > k, capsys)


RANKED = {
    "placeholder": (lambda m, b, w, k: ..., "placeholder"),
    "margin": (lambda m, b, w, k: m > 0, "not enough"),
    "never": (lambda m, b, w, k: w > k and m > 0, "m / beta"),
    "both": (lambda m, b, w, k: m > 0 and w + m / b > k, "may even be negative"),
    "reference": (lambda m, b, w, k: w > k or w + m / b > k, "can spoil it"),
    "fixed beta": (lambda m, b, w, k: w + m / 0.1 > k, "beta counts"),
    "times": (lambda m, b, w, k: w + m * b > k, "m / beta"),
}


@pytest.mark.parametrize("mistake", RANKED)
def test_ranked_refuses(mistake, capsys):
    answer, hint = RANKED[mistake]
    refuses("chapter_09.ranked", answer, hint, capsys)
