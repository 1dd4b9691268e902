"""Log-probabilities of responses under a causal language model.

Position t of the logits predicts token t + 1. Here every log-probability is stored at the
token it belongs to, so a response that occupies input_ids[start:end] (EOS included) has its
log-probabilities at [start:end] as well, and nobody has to shift twice. Spans come from lengths,
never from comparing ids with the padding id.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dpo_lab.checks import check_same_shape
from dpo_lab.errors import InputError


def token_logps(
    logits: Float[Tensor, "rows tokens vocab"], input_ids: Int[Tensor, "rows tokens"]
) -> Float[Tensor, "rows tokens"]:
    """log pi(token t | tokens before t), stored at t; column 0 is 0, for nothing predicts it.

    Computed in float32 at least, whatever the dtype of the logits: a bfloat16 log-softmax is off
    by up to 0.1 nats a token. Raises `InputError` if shapes differ or an id is outside the
    vocabulary.
    """
    _check_ids(logits, input_ids)
    return torch.nn.functional.pad(_logps_of(logits[:, :-1], input_ids[:, 1:]), (1, 0))


def response_mask(
    starts: Int[Tensor, "rows"], ends: Int[Tensor, "rows"], tokens: int
) -> Bool[Tensor, "rows tokens"]:
    """True at positions start <= t < end of each row.

    Raises `InputError` unless 1 <= start < end <= tokens: a response is never empty, and its
    first token needs a token before it (BOS or prompt) to be predicted from.
    """
    check_same_shape(starts=starts, ends=ends)
    bad = (starts < 1) | (ends <= starts) | (ends > tokens)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise InputError(
            f"row {row}: response span [{int(starts[row])}, {int(ends[row])}) must satisfy "
            f"1 <= start < end <= {tokens}"
        )
    position = torch.arange(tokens, device=starts.device)
    return (position >= starts[:, None]) & (position < ends[:, None])


def sequence_logps(
    logits: Float[Tensor, "rows tokens vocab"],
    input_ids: Int[Tensor, "rows tokens"],
    starts: Int[Tensor, "rows"],
    ends: Int[Tensor, "rows"],
    reduction: Literal["sum", "mean"] = "sum",
) -> Float[Tensor, "rows"]:
    """log pi(response | prompt): the sum over response tokens, EOS included.

    Rafailov et al. 2023 use the sum; "mean" divides by the number of response tokens, which is
    another objective with another scale of beta. Raises `InputError` for a bad span or reduction.
    """
    if reduction not in ("sum", "mean"):
        raise InputError(f"reduction must be 'sum' or 'mean', got {reduction!r}")
    _check_ids(logits, input_ids)
    if len(starts) != len(input_ids):
        raise InputError(f"{len(starts)} response spans for {len(input_ids)} rows of input_ids")
    mask = response_mask(starts, ends, input_ids.shape[1])
    # Only logits that predict a response token are read. A mask over all of them would let a NaN
    # at the padding, which some attention kernels write, into the gradient as 0 * NaN.
    predicted = _logps_of(logits[:, :-1][mask[:, 1:]], input_ids[mask])
    total = predicted.new_zeros(mask.shape).masked_scatter(mask, predicted).sum(-1)
    return total / (ends - starts) if reduction == "mean" else total


def response_table(
    token_values: Float[Tensor, "rows tokens"],
    starts: Int[Tensor, "rows"],
    ends: Int[Tensor, "rows"],
) -> Float[Tensor, "rows longest"]:
    """Each row's response moved to the left edge: its first token in column 0, then zeros."""
    mask = response_mask(starts, ends, token_values.shape[1])
    lengths = ends - starts
    place = torch.arange(int(lengths.max()), device=lengths.device)
    table = token_values.new_zeros(len(lengths), len(place))
    return table.masked_scatter(place < lengths[:, None], token_values[mask])


def sequence_kls(
    ref_logits: Float[Tensor, "rows tokens vocab"],
    logits: Float[Tensor, "rows tokens vocab"],
    starts: Int[Tensor, "rows"],
    ends: Int[Tensor, "rows"],
) -> Float[Tensor, "rows"]:
    """Sum over response positions of KL(pi_ref || pi) over the vocabulary, in nats.

    TDPO (Zeng et al. 2024) calls it the sequential KL divergence. Raises `InputError` for a bad
    span and for shapes that differ.
    """
    check_same_shape(logits=logits, ref_logits=ref_logits)
    mask = response_mask(starts, ends, logits.shape[1])
    ref, policy = (_log_softmax(x[:, :-1][mask[:, 1:]]) for x in (ref_logits, logits))
    kls = (ref.exp() * (ref - policy)).sum(-1)
    return kls.new_zeros(mask.shape).masked_scatter(mask, kls).sum(-1)


def answer_weights(
    logits: Float[Tensor, "rows tokens vocab"],
    input_ids: Int[Tensor, "rows tokens"],
    starts: Int[Tensor, "rows"],
    ends: Int[Tensor, "rows"],
) -> Float[Tensor, "rows"]:
    """exp of the mean over response tokens of log pi(y_t) - log sum_v pi(v)^2, without gradient.

    WPO's weight of an answer (Zhou et al. 2024): 1 for the answer to expect of a policy that
    samples from itself, small for one that it would hardly give.
    """
    mask = response_mask(starts, ends, input_ids.shape[1])
    predicted = _log_softmax(logits.detach()[:, :-1][mask[:, 1:]])
    taken = predicted.gather(-1, input_ids[mask][:, None].long()).squeeze(-1)
    alignment = taken - torch.logsumexp(2 * predicted, -1)
    total = alignment.new_zeros(mask.shape).masked_scatter(mask, alignment).sum(-1)
    return (total / (ends - starts)).exp()


def _log_softmax(logits: Float[Tensor, "positions vocab"]) -> Float[Tensor, "positions vocab"]:
    wide = torch.promote_types(logits.dtype, torch.float32)
    return torch.log_softmax(logits.to(wide), -1)


def _logps_of(
    logits: Float[Tensor, "*positions vocab"], ids: Int[Tensor, "*positions"]
) -> Float[Tensor, "*positions"]:
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide.gather(-1, ids[..., None].long()).squeeze(-1) - torch.logsumexp(wide, -1)


def _check_ids(logits: Tensor, input_ids: Tensor) -> None:
    if logits.shape[:2] != input_ids.shape:
        raise InputError(
            f"logits have shape {tuple(logits.shape)} but input_ids {tuple(input_ids.shape)}"
        )
    if (
        input_ids.numel()
        and not 0 <= int(input_ids.min()) <= int(input_ids.max()) < logits.shape[2]
    ):
        raise InputError(f"input_ids must lie in 0..{logits.shape[2] - 1}, the vocabulary")
