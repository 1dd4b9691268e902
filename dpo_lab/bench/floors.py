"""The least arithmetic of a step, the rate at which this machine multiplies, and a profile."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from dpo_lab.bench.contenders import Job
from dpo_lab.bench.shapes import Shape
from dpo_lab.encoded import EncodedPair
from dpo_lab.packing import packed_size

LARGE = 2048
TRAINED = 6  # a product forward and twice backward, each a multiplication and an addition


def needed_flops(shape: Shape, pairs: Sequence[EncodedPair]) -> float:
    """Floating point operations that training on `pairs` once cannot do without.

    Each prompt once, no padding, logits at response tokens, causal attention halved, a reference
    that is a column of numbers. Products only.
    """
    block = sum(inputs * outputs for inputs, outputs in shape.products)
    total = 0.0
    for pair in pairs:
        before = pair.chosen.prompt_length
        chosen, rejected = (len(side.input_ids) for side in pair)
        seen = (chosen**2 + rejected**2 - before**2) / 2  # (query, key) pairs
        total += packed_size(pair) * block * shape.layers
        total += seen * 2 * shape.hidden * shape.layers  # scores, and the mean of the values
        total += (chosen + rejected - 2 * before) * shape.hidden * shape.vocab
    return TRAINED * total


def rates(shape: Shape, pairs: Sequence[EncodedPair], job: Job) -> dict[str, Any]:
    """The most operations a second of any product tried, and the seconds of one step's own ones.

    Tried are large square matrices and the model's own. `own_flops` and `own_seconds`: its linear
    layers at the tokens of one step, forward and backward, attention left out.
    """
    dtype = job.precision or torch.float32
    tokens = sum(map(packed_size, pairs))
    answers = sum(len(s.input_ids) - s.prompt_length for pair in pairs for s in pair)
    own = [(tokens, *sizes, shape.layers) for sizes in shape.products]
    own.append((answers, shape.hidden, shape.vocab, 1))
    best = flops = spent = 0.0
    for *sizes, times in (*own, (LARGE, LARGE, LARGE, 0)):
        seconds = _product_seconds(*sizes, dtype, job.device)
        one = 2 * math.prod(sizes)
        best = max(best, one / min(seconds))
        flops += times * one * len(seconds)
        spent += times * sum(seconds)
    return {"flops_per_second": best, "own_flops": flops, "own_seconds": spent}


def _product_seconds(
    rows: int, inputs: int, outputs: int, dtype: torch.dtype, device: str
) -> tuple[float, float, float]:
    """Of a linear layer: forward, and the gradients of its input and of its weights."""
    x = torch.randn(rows, inputs, device=device).to(dtype)
    w = torch.randn(outputs, inputs, device=device).to(dtype)
    g = torch.randn(rows, outputs, device=device).to(dtype)
    products = (lambda: x @ w.T, lambda: g @ w, lambda: g.T @ x)
    return tuple(_fastest(product, device) for product in products)


def _fastest(run: Callable[[], Any], device: str, times: int = 7) -> float:
    """Seconds of the fastest of a few calls."""
    best = float("inf")
    for _ in range(times):
        begin = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begin)
    return best


# By the first name that is part of an operation's.
KINDS = {
    "matrix products": ("aten::mm", "addmm", "mkldnn", "linear", "gemm", "cutlass"),
    "attention": ("bmm", "scaled_dot_product", "_softmax", "flash", "efficient_attention"),
    "optimiser and clipping": ("adam", "foreach", "norm"),
    "copies and casts": ("copy", "cat", "index", "contiguous", "clone", "memcpy"),
}


def profile_loop(train: Callable[[Callable[[], None]], Any], job: Job) -> dict[str, Any]:
    """Shares of the operations' own time, by kind and the largest by name, after the warm steps."""
    kinds = [ProfilerActivity.CPU]
    if job.device == "cuda":
        kinds.append(ProfilerActivity.CUDA)
    profiler, done, warm = profile(activities=kinds), Counter(), job.warm

    def watch() -> None:
        done["steps"] += 1
        if done["steps"] == warm:
            profiler.start()
        if done["steps"] == warm + job.steps:
            profiler.stop()

    train(watch)
    column = "self_cpu_time_total" if job.device == "cpu" else "self_device_time_total"
    spent = {event.key: getattr(event, column) for event in profiler.key_averages()}
    total = sum(spent.values())
    by_kind: Counter[str] = Counter()
    for name, microseconds in spent.items():
        by_kind[_kind(name)] += microseconds / total
    largest = sorted(spent, key=spent.__getitem__, reverse=True)[:8]
    return {
        "kinds": dict(by_kind.most_common()),
        "operations": {name: spent[name] / total for name in largest},
    }


def _kind(name: str) -> str:
    for kind, parts in KINDS.items():
        if any(part in name for part in parts):
            return kind
    return "element by element and the rest"
