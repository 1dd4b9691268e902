"""Attention over a packed row: each segment sees itself, a rejected answer sees its prompt.

Registered with transformers under the name `SEGMENTS`, so that any model which goes through its
`AttentionInterface` can use it. Without `segments` it is transformers' own SDPA attention.
Three ways to the same numbers: SDPA a segment (float32 and float64), matrix products (bfloat16 on
CPUs, whose fused kernel runs it at float32's speed), and one variable-length flash kernel for
the whole row (half precision on CUDA).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from dpo_lab.errors import InputError
from dpo_lab.packing import Segment, rounded

SEGMENTS = "dpo_lab_segments"
HALF = (torch.float16, torch.bfloat16)
# What some models ask of their attention besides a scale, and segments do not give.
_REFUSED = ("sliding_window", "softcap", "s_aux", "position_bias")


def register() -> None:
    """Make the name `SEGMENTS` known to transformers; may be called again."""
    AttentionInterface.register(SEGMENTS, segment_attention)
    AttentionMaskInterface.register(SEGMENTS, sdpa_mask)


def segment_attention(
    module: nn.Module,
    query: Float[Tensor, "rows heads tokens width"],
    key: Float[Tensor, "rows groups keys width"],
    value: Float[Tensor, "rows groups keys width"],
    attention_mask: Tensor | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    segments: Sequence[Segment] | None = None,
    **more: Any,
) -> tuple[Float[Tensor, "rows tokens heads width"], None]:
    """Causal attention inside each segment of the one row.

    Raises `InputError` for what it cannot do: dropout, a sliding window shorter than a segment,
    capped scores, sinks.
    """
    if segments is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
        )
    _check_supported(segments, dropout, more)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    query, key = query.to(value.dtype), key.to(value.dtype)  # rotary positions widen them
    if value.is_cuda and value.dtype in HALF and has_varlen(value.device):
        return _varlen(query, key, value, segments, scale), None
    one = _by_products if value.dtype in HALF else _by_sdpa
    return _segment_by_segment(query, key, value, segments, scale, one), None


@lru_cache(maxsize=8)
def has_varlen(device: torch.device) -> bool:
    """Whether this torch and this card have the variable-length flash kernel (not a T4)."""
    try:
        import torch.nn.attention.varlen
    except ImportError:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


def _check_supported(segments: Sequence[Segment], dropout: float, more: dict[str, Any]) -> None:
    # What `round_up` adds has no answer, and nobody looks at what it sees.
    longest = max(s.prompt + max(s.chosen, s.rejected) for s in segments if s.chosen)
    for name in _REFUSED:
        asked = more.get(name)
        if asked is not None and not (name == "sliding_window" and asked >= longest):
            raise InputError(f"attention by segments has no {name}")
    if dropout:
        raise InputError("attention by segments has no dropout")


def _segment_by_segment(
    query: Tensor, key: Tensor, value: Tensor, segments: Sequence[Segment], scale: float, one: Any
) -> Tensor:
    """(1, heads, N, width) -> (1, N, heads, width); `one` attends causally, aligned at the end."""
    # split and not slices: its backward is one concatenation.
    sizes = [size for s in segments for size in (s.prompt + s.chosen, s.rejected)]
    queries, keys, values = (x.split(sizes, 2) for x in (query, key, value))
    outputs = []
    for i, segment in enumerate(segments):
        first, second = 2 * i, 2 * i + 1
        outputs.append(one(queries[first], keys[first], values[first], scale))
        if segment.rejected:
            behind_prompt = [
                torch.cat([x[first][:, :, : segment.prompt], x[second]], 2) for x in (keys, values)
            ]
            outputs.append(one(queries[second], *behind_prompt, scale))
    return torch.cat(outputs, 2).transpose(1, 2)


def _by_sdpa(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    rows, columns = query.shape[2], key.shape[2]
    mask = None
    if rows < columns:
        mask = _causal_bias(rows, columns, columns - rows, torch.bool, query.device)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _by_products(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """softmax(q k' + mask) v; heads that share keys become rows, so keys are never repeated.

    Lengths are rounded up (`packing.rounded`): what is added stands behind the end, where no token
    looks.
    """
    rows, columns = query.shape[2], key.shape[2]
    query, key, value = (_rounded_up(x) for x in (query, key, value))
    _, heads, long, width = query.shape
    groups, wide = key.shape[1:3]
    with torch.autocast(query.device.type, enabled=False):
        scores = (query.reshape(1, groups, -1, width) * scale) @ key.transpose(-1, -2)
        scores = scores.view(1, groups, heads // groups, long, wide)
        scores = scores + _causal_bias(long, wide, columns - rows, scores.dtype, query.device)
        weights = scores.softmax(-1).view(1, groups, -1, wide)
        return (weights @ value).view(1, heads, long, width)[:, :, :rows]


def _rounded_up(x: Tensor) -> Tensor:
    """(1, heads, tokens, width) with zeros behind its tokens."""
    return pad(x, (0, 0, 0, rounded(x.shape[2]) - x.shape[2]))


def _causal_bias(
    rows: int, columns: int, before: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Row i sees columns up to `before` + i: a corner of one stored triangle."""
    size = 1 << math.ceil(math.log2(max(before + rows, columns, 256)))
    return _triangle(size, dtype, device)[before : before + rows, :columns]


@lru_cache(maxsize=8)
def _triangle(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    if dtype == torch.bool:
        return torch.ones(size, size, dtype=dtype, device=device).tril_()
    return torch.full((size, size), -torch.inf, dtype=dtype, device=device).triu_(1)


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, segments: Sequence[Segment], scale: float
) -> Tensor:
    """One kernel for the row: queries as they stand, keys gathered as [prompt chosen | prompt
    rejected]. Causal masks are aligned at the end of the keys, which is what both parts need."""
    from torch.nn.attention.varlen import varlen_attn

    index, ends, sizes = _layout(tuple(segments), query.device)
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    output = varlen_attn(
        q.contiguous(),
        k.index_select(0, index),
        v.index_select(0, index),
        *ends,
        *sizes,
        scale=scale,
        window_size=(-1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    return output[None]


@lru_cache(maxsize=4)
def _layout(
    segments: tuple[Segment, ...], device: torch.device
) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[int, int]]:
    """Where keys come from, the ends of queries and keys, and the longest of each; the layers of a
    forward pass share one."""
    index: list[int] = []
    queries, keys, start = [], [], 0
    for prompt, chosen, rejected in segments:
        behind = start + prompt + chosen
        index += range(start, behind)
        queries.append(prompt + chosen)
        keys.append(prompt + chosen)
        if rejected:
            index += [*range(start, start + prompt), *range(behind, behind + rejected)]
            queries.append(rejected)
            keys.append(prompt + rejected)
        start = behind + rejected
    ends = (
        torch.tensor([0, *sizes], device=device).cumsum(0).to(torch.int32)
        for sizes in (queries, keys)
    )
    return torch.tensor(index, device=device), tuple(ends), (max(queries), max(keys))
