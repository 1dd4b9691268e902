"""Log-probabilities of given tokens without the logits of all tokens at once.

The output layer of a language model is its widest product: N tokens times V words. Here the
vocabulary is walked in tiles. A tile's exponentials are made while it is in the cache, summed, and
thrown away or kept; the backward pass multiplies them once more. What softmax would scale tile by
tile is folded into the N numbers and N x H states beside them, so no N x V tensor is ever rescaled.

Exact: log sum exp over the vocabulary is the log sum exp over tiles of their own, and each tile is
taken relative to its own maximum.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dpo_lab.errors import InputError

TILE = {"cpu": 4096, "cuda": 16384}  # words; on a CPU a tile should stay in the cache
KEPT_BYTES = 256 << 20


def tiled_logps(
    hidden: Float[Tensor, "tokens width"],
    weight: Float[Tensor, "vocab width"],
    ids: Int[Tensor, "tokens"],
    *,
    tile: int | None = None,
    keep: bool | None = None,
) -> Float[Tensor, "tokens"]:
    """log softmax(hidden @ weight.T)[ids], in float32 or better, with gradient.

    Products run in autocast's type where it is on, else in that of `hidden`; sums run in float32
    at least. keep: hold the exponentials for the backward pass (N x V numbers) or make them
    again (one tile), which is one product in four; default: hold them where they take at most
    `KEPT_BYTES`. Raises `InputError` for ids outside the vocabulary and a tile below 1.
    """
    if tile is None:
        tile = TILE.get(hidden.device.type, TILE["cuda"])
    if tile < 1:
        raise InputError(f"tile must be at least 1, got {tile}")
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < len(weight):
        raise InputError(f"ids must lie in 0..{len(weight) - 1}, the vocabulary")
    device = hidden.device.type
    lowered = torch.is_autocast_enabled(device) and hidden.dtype != torch.float64
    dtype = torch.get_autocast_dtype(device) if lowered else hidden.dtype
    if keep is None:
        keep = len(ids) * len(weight) * dtype.itemsize <= KEPT_BYTES
    return _TiledLogps.apply(hidden, weight, ids, tile, keep, dtype)


class _TiledLogps(torch.autograd.Function):
    """With z = W h and e = exp(z - m) in a tile of maximum m: softmax = e exp(m - lse)."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        ids: Tensor,
        tile: int,
        keep: bool,
        dtype: torch.dtype,
    ) -> Tensor:
        wide = torch.promote_types(dtype, torch.float32)
        low_h, low_w = hidden.to(dtype), weight.to(dtype)
        keep = keep and any(ctx.needs_input_grad)
        maxima, sums, kept = [], [], []
        for start in range(0, len(weight), tile):
            z = torch.mm(low_h, low_w[start : start + tile].t())  # (N, tile)
            top = z.amax(1, keepdim=True)
            e = z.sub_(top).exp_()
            maxima.append(top.squeeze(1).to(wide))
            sums.append(e.sum(1, dtype=wide))
            if keep:
                kept.append(e)
        m = torch.stack(maxima)  # (tiles, N)
        lse = (m + torch.stack(sums).log()).logsumexp(0)
        # The target's logit from its own product: rounded to bfloat16 it would bias the result.
        taken = (low_h.to(wide) * low_w[ids].to(wide)).sum(1)
        ctx.save_for_backward(hidden, weight, ids, m, lse, *kept)
        ctx.tile, ctx.dtype = tile, dtype
        return taken - lse

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, ids, m, lse, *kept = ctx.saved_tensors
        low_h, low_w = hidden.to(ctx.dtype), weight.to(ctx.dtype)
        by_grad = hidden * grad[:, None]
        grad_h = grad[:, None] * weight[ids]
        grad_w = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        for k, start in enumerate(range(0, len(weight), ctx.tile)):
            piece = low_w[start : start + ctx.tile]
            if kept:
                e = kept[k]
            else:
                e = torch.mm(low_h, piece.t()).sub_(m[k].to(ctx.dtype)[:, None]).exp_()
            scale = -(m[k] - lse).exp()[:, None]
            grad_h += torch.mm(e, piece) * (scale * grad[:, None])
            if grad_w is not None:
                grad_w[start : start + ctx.tile] = torch.mm(e.t(), (by_grad * scale).to(ctx.dtype))
        if grad_w is not None:
            grad_w.index_add_(0, ids, by_grad.to(weight.dtype))
        return grad_h.to(hidden.dtype), grad_w, None, None, None, None
