"""The checkers of chapter 06 accept the right repair and name what is off in wrong ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from exercise_checks import accepts, refuses

EOS = 2


def tokens_of(logits, ids):
    """Column t is about token t + 1."""
    return logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)


def span(ids, starts, ends, shift=1):
    """The mask over the columns of `tokens_of`; another shift puts it at the wrong tokens."""
    place = torch.arange(ids.shape[1] - 1) + shift
    return (place >= starts[:, None]) & (place < ends[:, None])


def right_logps(logits, ids, starts, ends):
    return (tokens_of(logits, ids) * span(ids, starts, ends)).sum(-1)


def by_loops(logits, ids, starts, ends):
    probs = logits.softmax(-1)
    rows = zip(starts.tolist(), ends.tolist(), strict=True)
    return torch.stack(
        [
            sum(probs[i, t - 1, ids[i, t]].log() for t in range(start, end))
            for i, (start, end) in enumerate(rows)
        ]
    )


@pytest.mark.parametrize("answer", [right_logps, by_loops])
def test_sequence_accepts(answer, capsys):
    accepts("chapter_06.sequence", answer, capsys)


def test_sequence_accepts_float32(capsys):
    accepts("chapter_06.sequence", lambda x, *rest: right_logps(x.float(), *rest), capsys)


def unshifted(logits, ids, starts, ends):
    same_place = logits.log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)
    place = torch.arange(ids.shape[1])
    return (same_place * ((place >= starts[:, None]) & (place < ends[:, None]))).sum(-1)


def raw_logits(logits, ids, starts, ends):
    taken = logits[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1)
    return (taken * span(ids, starts, ends)).sum(-1)


def inside_out(logits, ids, starts, ends):
    return (tokens_of(logits, ids) * ~span(ids, starts, ends)).sum(-1)


def over_width(logits, ids, starts, ends):
    masked = F.pad(tokens_of(logits, ids) * span(ids, starts, ends), (1, 0))
    return masked.mean(-1)


def shifted_mask(logits, ids, starts, ends):
    return (tokens_of(logits, ids) * span(ids, starts, ends, shift=0)).sum(-1)


SEQUENCE = {
    "placeholder": (lambda *_: ..., "placeholder"),
    "a float": (lambda *_: 0.5, "return a tensor, not float"),
    "by token": (lambda x, i, s, e: tokens_of(x, i), "sum over the tokens"),
    "one number": (lambda *a: right_logps(*a).sum(), "the shape must be (3,)"),
    "no shift": (unshifted, "the shift is missing"),
    "logits": (raw_logits, "take the log-softmax"),
    "mean": (lambda x, i, s, e: right_logps(x, i, s, e) / (e - s), "you average over tokens"),
    "over the width": (over_width, "over the padded width"),
    "inside out": (inside_out, "inside out"),
    "prompt": (lambda x, i, s, e: right_logps(x, i, 0 * s, e), "the prompt is in the sum"),
    "no mask": (lambda x, i, s, e: tokens_of(x, i).sum(-1), "there is no mask"),
    "late mask": (shifted_mask, "the mask must shift"),
    "no eos": (lambda x, i, s, e: right_logps(x, i, s, e - 1), "EOS, is missing"),
    "sign": (lambda *a: -right_logps(*a), "the sign is turned round"),
    "doubled": (lambda *a: 2 * right_logps(*a), "it is off by up to"),
}


@pytest.mark.parametrize("mistake", SEQUENCE)
def test_sequence_refuses(mistake, capsys):
    answer, hint = SEQUENCE[mistake]
    refuses("chapter_06.sequence", answer, hint, capsys)


def right_fit(prompt, answer, most):
    room = most - len(answer)
    if len(prompt) > room and room < 2:
        return "drop"
    return [prompt[0], *prompt[max(1, len(prompt) - room + 1) :]], answer


def cut_the_right(prompt, answer, most):
    return prompt[: most - len(answer)], answer


def cut_the_answer(prompt, answer, most):
    return prompt, answer[: most - len(prompt) - 1] + answer[-1:]


def lose_bos(prompt, answer, most):
    return prompt[-(most - len(answer)) :], answer


FIT = {
    "placeholder": (lambda *_: ..., "placeholder"),
    "one list": (lambda p, a, n: p + a, "return two lists"),
    "always drop": (lambda *_: "drop", "do not drop it"),
    "nothing": (lambda p, a, n: (p, a), "the row is too long"),
    "whole row": (lambda p, a, n: (p, a[: max(0, n - len(p))]), "the answer lost its EOS"),
    "the answer": (cut_the_answer, "the answer was cut"),
    "right side": (cut_the_right, "cut the left of the prompt"),
    "bos": (lose_bos, "the prompt lost its BOS"),
    "too much": (lambda p, a, n: (p if n > 7 else [p[0], p[-1]], a), "the prompt should be"),
    "never drop": (
        lambda p, a, n: ([p[0], *p[max(1, len(p) - n + len(a) + 1) :]], a),
        'return "drop"',
    ),
}


def test_fit_accepts(capsys):
    accepts("chapter_06.fit", right_fit, capsys)


@pytest.mark.parametrize("mistake", FIT)
def test_fit_refuses(mistake, capsys):
    answer, hint = FIT[mistake]
    refuses("chapter_06.fit", answer, hint, capsys)


def columns(mask):
    return torch.arange(mask.shape[1]).expand_as(mask)


def pad_one(mask):
    return (mask.cumsum(-1) - 1).masked_fill(mask == 0, 1)


@pytest.mark.parametrize("answer", [lambda m: (m.cumsum(-1) - 1).clamp(min=0), pad_one])
def test_positions_accepts(answer, capsys):
    accepts("chapter_06.positions", answer, capsys)


POSITIONS = {
    "placeholder": (lambda m: ..., "placeholder"),
    "a list": (lambda m: [0], "return a tensor, not list"),
    "a shape": (lambda m: torch.arange(5), "the shape must be (2, 5)"),
    "floats": (lambda m: columns(m).double(), "integers"),
    "columns": (columns, "these are columns"),
    "from one": (lambda m: m.cumsum(-1), "you count from 1"),
    "negative": (lambda m: m.cumsum(-1) - 1, "negative position"),
    "zeros": (torch.zeros_like, "do not count 0, 1, 2"),
    "left only": (
        lambda m: (columns(m) - (1 - m).sum(-1, keepdim=True)).clamp(min=0),
        "with padding on the right",
    ),
}


@pytest.mark.parametrize("mistake", POSITIONS)
def test_positions_refuses(mistake, capsys):
    answer, hint = POSITIONS[mistake]
    refuses("chapter_06.positions", answer, hint, capsys)


def cut_at_eos(ids, eos):
    return ids[: ids.index(eos) + 1] if eos in ids else ids


ANSWER_IDS = {
    "placeholder": (lambda *_: ..., "placeholder"),
    "a tensor": (lambda o, p, e: torch.tensor(o), "return a list, not Tensor"),
    "whole": (lambda o, p, e: o, "the prompt is still there"),
    "eos first": (lambda o, p, e: cut_at_eos(o, e)[p:], "cut the prompt first"),
    "eos lost": (
        lambda o, p, e: cut_at_eos(o[p:], e)[: -(e in o[p:]) or None],
        "the EOS that was drawn is lost",
    ),
    "no eos at all": (lambda o, p, e: [i for i in o[p:] if i != e], "that was drawn is lost"),
    "padding": (lambda o, p, e: o[p:], "padding stands behind"),
    "eos added": (
        lambda o, p, e: [*(i for i in o[p:] if i != e), e],
        "you add an EOS that was not drawn",
    ),
    "one too few": (lambda o, p, e: cut_at_eos(o[p + 1 :], e), "the answer is [21, 22, 2]"),
}


def test_answer_ids_accepts(capsys):
    accepts("chapter_06.answer_ids", lambda o, p, e: cut_at_eos(o[p:], e), capsys)


@pytest.mark.parametrize("mistake", ANSWER_IDS)
def test_answer_ids_refuses(mistake, capsys):
    answer, hint = ANSWER_IDS[mistake]
    refuses("chapter_06.answer_ids", answer, hint, capsys)


def penalised(take_off):
    return lambda w, v, b, s: -F.logsigmoid(b * (w - v) - take_off(w, v, b, s))


PENALTY = {
    "placeholder": (lambda *_: ..., "placeholder"),
    "a float": (lambda *_: 0.5, "return a tensor, not float"),
    "a mean": (lambda w, v, b, s: (w - v).mean(), "one loss a pair"),
    "none": (penalised(lambda w, v, b, s: 0), "no penalty"),
    "paid inside": (penalised(lambda w, v, b, s: -b * s * F.relu(-w)), "your loss smaller"),
    "paid outside": (
        lambda w, v, b, s: -F.logsigmoid(b * (w - v)) - s * F.relu(-w),
        "your loss smaller",
    ),
    "outside": (
        lambda w, v, b, s: -F.logsigmoid(b * (w - v)) + s * F.relu(-w),
        "outside the sigmoid",
    ),
    "no beta": (penalised(lambda w, v, b, s: s * F.relu(-w)), "beta multiplies"),
    "no max": (penalised(lambda w, v, b, s: -b * s * w), "a rise must not be paid for"),
    "rejected": (penalised(lambda w, v, b, s: b * s * F.relu(-v)), "not of the rejected"),
    "rise": (penalised(lambda w, v, b, s: b * s * F.relu(w)), "you punish a rise"),
    "sign": (
        lambda w, v, b, s: F.logsigmoid(b * (w - v - s * F.relu(-w))),
        "the sign is turned round",
    ),
    "margin": (lambda w, v, b, s: b * (w - v), "it is off by up to"),
}


def test_penalty_accepts(capsys):
    accepts("chapter_06.penalty", penalised(lambda w, v, b, s: b * s * F.relu(-w)), capsys)


@pytest.mark.parametrize("mistake", PENALTY)
def test_penalty_refuses(mistake, capsys):
    answer, hint = PENALTY[mistake]
    refuses("chapter_06.penalty", answer, hint, capsys)
