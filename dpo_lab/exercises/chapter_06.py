"""Checkers of chapter 06: repairs of real bugs around log-probabilities."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dpo_lab.exercises import exercise, require, require_answered
from dpo_lab.logprobs import response_mask, sequence_logps, token_logps

BOS, EOS = 1, 2
BETA, STRENGTH = 0.1, 3.0


@exercise("chapter_06.sequence")
def check_sequence(answer: Any) -> None:
    """A function (logits, input_ids, starts, ends) -> log pi(answer | prompt), one a row."""
    generator = torch.Generator().manual_seed(6)
    logits = 2 * torch.randn(3, 7, 11, generator=generator, dtype=torch.float64)
    ids = torch.randint(11, (3, 7), generator=generator)
    starts, ends = torch.tensor([2, 3, 1]), torch.tensor([6, 7, 4])
    got = answer(logits.clone(), ids.clone(), starts.clone(), ends.clone())
    require_answered(got)
    require(isinstance(got, Tensor), f"return a tensor, not {type(got).__name__}")
    require(got.shape != ids.shape and got.shape != ids[:, 1:].shape, "sum over the tokens")
    require(got.shape == (3,), f"the shape must be (3,), one number a row; yours is {got.shape}")
    mask = response_mask(starts, ends, ids.shape[1])
    tokens = token_logps(logits, ids)
    unshifted = logits.log_softmax(-1).gather(-1, ids[..., None]).squeeze(-1)
    raw = F.pad(logits[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1), (1, 0))
    columns = torch.arange(ids.shape[1])
    late = (columns > starts[:, None]) & (columns <= ends[:, None])
    total = sequence_logps(logits, ids, starts, ends)
    no_eos = (tokens * mask * (columns < ends[:, None] - 1)).sum(-1)
    with_prompt = (tokens * (columns < ends[:, None])).sum(-1)
    for wrong, hint in (
        ((unshifted * mask).sum(-1), "the shift is missing: logits at t are about token t + 1"),
        ((raw * mask).sum(-1), "these are logits; take the log-softmax over the vocabulary"),
        ((tokens * mask).sum(-1) / mask.sum(-1), "you average over tokens; sum them"),
        ((tokens * mask).mean(-1), "you average over the padded width; sum the tokens"),
        ((tokens * ~mask).sum(-1), "the mask is inside out: you sum what must be left out"),
        (with_prompt, "the prompt is in the sum; the answer begins at starts"),
        (tokens.sum(-1), "there is no mask: prompt and padding are in the sum"),
        ((tokens * late).sum(-1), "the mask must shift with the tokens: the first one is missing"),
        (no_eos, "the last token of the answer, EOS, is missing"),
        (-total, "the sign is turned round: this is a loss, not a log-probability"),
    ):
        require(not _close(got, wrong), hint)
    off = float((got - total).abs().max())
    require(_close(got, total), f"it is off by up to {off:.3g} nats")


@exercise("chapter_06.fit")
def check_fit(answer: Any) -> None:
    """A function (prompt_ids, answer_ids, max_length) -> (prompt, answer) or "drop"."""
    prompt, reply = [BOS, 11, 12, 13, 14], [21, 22, EOS]
    for max_length in (8, 20):
        _check_fit_of(answer, prompt, reply, max_length, prompt)
    _check_fit_of(answer, prompt, reply, 6, [BOS, 13, 14])
    _check_fit_of(answer, prompt, reply, 5, [BOS, 14])
    for max_length in (4, 3, 2):
        _check_fit_of(answer, prompt, reply, max_length, None)


def _check_fit_of(
    answer: Any, prompt: list[int], reply: list[int], max_length: int, wanted: list[int] | None
) -> None:
    got = answer(list(prompt), list(reply), max_length)
    require_answered(got)
    case = f"with {len(prompt)} + {len(reply)} ids and max_length {max_length}"
    if wanted is None:
        dropped = isinstance(got, str) and got == "drop"
        require(dropped, f'{case} no prompt id fits behind BOS; return "drop"')
        return
    require(got != "drop", f"{case} the row fits; do not drop it")
    require(isinstance(got, tuple | list) and len(got) == 2, "return two lists: prompt, answer")
    kept, said = (list(part) for part in got)
    require(said[-1:] == [EOS], f"{case} the answer lost its EOS")
    require(said == reply, f"{case} the answer was cut; only the prompt may be")
    require(kept[:1] == [BOS], f"{case} the prompt lost its BOS")
    require(len(kept) + len(said) <= max_length, f"{case} the row is too long")
    room = len(wanted)
    require(kept != prompt[:room] or kept == wanted, f"{case} cut the left of the prompt")
    require(kept == wanted, f"{case} the prompt should be {wanted}, yours is {kept}")


@exercise("chapter_06.positions")
def check_positions(answer: Any) -> None:
    """A function attention_mask -> position_ids that count real tokens from 0."""
    left = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    for side, mask in (("left", left), ("right", left.flip(1))):
        got = answer(mask.clone())
        require_answered(got)
        require(isinstance(got, Tensor), f"return a tensor, not {type(got).__name__}")
        require(got.shape == mask.shape, f"the shape must be {tuple(mask.shape)}")
        require(not got.is_floating_point(), "positions are integers")
        real = mask.bool()
        columns = torch.arange(5).expand(2, 5)
        require(
            side == "right" or not torch.equal(got[real], columns[real]),
            "these are columns: with padding on the left the first real token is not at 0",
        )
        counted = mask.cumsum(-1)
        require(not torch.equal(got[real], counted[real]), "you count from 1; positions begin at 0")
        require(
            torch.equal(got[real], (counted - 1)[real]),
            f"with padding on the {side} the real tokens do not count 0, 1, 2, ...",
        )
        require(bool((got >= 0).all()), "padding has a negative position; an embedding has none")


@exercise("chapter_06.answer_ids")
def check_answer_ids(answer: Any) -> None:
    """A function (output, prompt_length, eos) -> ids of the answer, EOS included if drawn."""
    prompt = [EOS, 11, 12]
    for new, ended in (([21, 22, EOS, EOS, EOS], 3), ([21, EOS], 2), ([21, 22, 23], 3), ([EOS], 1)):
        _check_answer_ids_of(answer, prompt, new, ended)


def _check_answer_ids_of(answer: Any, prompt: list[int], new: list[int], ended: int) -> None:
    got = answer([*prompt, *new], len(prompt), EOS)
    require_answered(got)
    require(isinstance(got, list), f"return a list, not {type(got).__name__}")
    right, case = new[:ended], f"from {prompt} + {new}"
    drawn = right[-1] == EOS
    require(got[:3] != prompt, f"{case} the prompt is still there; cut it by its length")
    require(got != [], f"{case} nothing is left; BOS has the id of EOS, so cut the prompt first")
    lost = drawn and got == right[:-1]
    require(not lost, f"{case} the EOS that was drawn is lost")
    require(not drawn or got != new or new == right, f"{case} padding stands behind the EOS")
    require(drawn or got != [*new, EOS], f"{case} you add an EOS that was not drawn")
    require(got == right, f"{case} the answer is {right}, yours is {got}")


@exercise("chapter_06.penalty")
def check_penalty(answer: Any) -> None:
    """A function (u_w, u_l, beta, strength) -> DPO's loss with a price for a chosen fall."""
    u_w = torch.tensor([-2.0, -0.5, 0.0, 1.5], dtype=torch.float64)
    u_l = torch.tensor([-3.0, 1.0, 0.0, -1.0], dtype=torch.float64)
    got = answer(u_w.clone(), u_l.clone(), BETA, STRENGTH)
    require_answered(got)
    require(isinstance(got, Tensor), f"return a tensor, not {type(got).__name__}")
    require(got.shape == u_w.shape, f"the shape must be {tuple(u_w.shape)}, one loss a pair")
    fall, margin = torch.relu(-u_w), BETA * (u_w - u_l)
    dpo = -F.logsigmoid(margin)
    right = -F.logsigmoid(margin - BETA * STRENGTH * fall)
    for wrong, hint in (
        (dpo, "there is no penalty in it"),
        (-F.logsigmoid(margin + BETA * STRENGTH * fall), "a fall makes your loss smaller"),
        (dpo - STRENGTH * fall, "a fall makes your loss smaller"),
        (dpo + STRENGTH * fall, "the penalty stands outside the sigmoid; take it off inside"),
        (-F.logsigmoid(margin - STRENGTH * fall), "beta multiplies the penalty too"),
        (
            -F.logsigmoid(margin + BETA * STRENGTH * u_w),
            "a rise must not be paid for: the penalty is max(0, -u_w)",
        ),
        (
            -F.logsigmoid(margin - BETA * STRENGTH * torch.relu(-u_l)),
            "it is the fall of the chosen answer, not of the rejected one",
        ),
        (
            -F.logsigmoid(margin - BETA * STRENGTH * torch.relu(u_w)),
            "a fall is a negative u_w; you punish a rise",
        ),
        (-right, "the sign is turned round: a loss is minus a log"),
    ):
        require(not _close(got, wrong), hint)
    off = float((got - right).abs().max())
    require(_close(got, right), f"it is off by up to {off:.3g}")


def _close(got: Tensor, wanted: Tensor) -> bool:
    return torch.allclose(got.to(wanted.dtype), wanted, rtol=0, atol=1e-5)
