"""The fast path to log-probabilities: packed rows, shared prompts, a tiled output layer.

    with fast_path(model):
        logps = packed_logps(model, pack(pairs))    # as `batch_logps(model, collate(pairs))`

It gives the numbers of `scoring.batch_logps`, the plain path, and their gradients, for any causal
model of transformers whose attention goes through its `AttentionInterface` and looks at all
earlier tokens. `why_not_fast` finds out whether a model is one: by what it says of itself, and by
comparing the two paths on real rows.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from types import MethodType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from dpo_lab.batching import collate
from dpo_lab.encoded import EncodedPair, EncodedResponse
from dpo_lab.errors import InputError
from dpo_lab.packing import PackedBatch, pack, round_up, split_by_tokens
from dpo_lab.scoring import autocast, batch_logps
from dpo_lab.segments import HALF, SEGMENTS, has_varlen, register
from dpo_lab.tiled import tiled_logps

TOLERANCE = 1e-3  # nats a sequence, in float32
HALF_TOLERANCE = 0.02  # of a sequence's nats, in half precision, plus a tenth of a nat


def packed_logps(model: nn.Module, batch: PackedBatch) -> Float[Tensor, "sequences"]:
    """log pi(response | prompt) of every sequence of a packed batch, with gradient.

    `model` was prepared by `use_fast_path`; it may be wrapped, for adapters or several processes.
    Token log-probabilities are summed in float64 where the device has it.
    """
    tokens = model(packed=batch)
    wide = torch.float32 if tokens.device.type == "mps" else torch.float64
    sums = tokens.new_zeros(len(batch.lengths), dtype=wide)
    return sums.index_add(0, batch.sequences, tokens.to(wide)).to(tokens.dtype)


def _compiles_for_shapes(model: nn.Module) -> bool:
    """Whether products run in half precision on a CPU."""
    weight = next(model.parameters())
    half = weight.dtype in HALF or torch.is_autocast_enabled("cpu")
    return weight.device.type == "cpu" and half


def use_fast_path(model: nn.Module) -> Callable[[], None]:
    """Make `packed_logps` work on `model`, in place; plain calls of it go on as before.

    Returns a function that undoes it. Raises `InputError` for a model that cannot be prepared.
    """
    inner = causal_lm(model)
    register()
    if not inner._can_set_attn_implementation():
        raise InputError(f"{type(inner).__name__} does not use transformers' AttentionInterface")
    before = inner.config._attn_implementation
    inner.set_attn_implementation(SEGMENTS)
    original = inner.forward

    # Here and not around the model, so that a wrapper (DDP, FSDP, adapters, mixed precision) sees
    # one forward call.
    @functools.wraps(original)
    def forward(
        self: PreTrainedModel, *args: Any, packed: PackedBatch | None = None, **named: Any
    ) -> Any:
        if packed is None:
            return original(*args, **named)
        count = len(packed.targets)
        if _compiles_for_shapes(self):
            packed = round_up(packed)
        hidden = self.base_model(
            input_ids=packed.input_ids,
            position_ids=packed.position_ids,
            # Four dimensions say that the mask is ready; the segments take its place.
            attention_mask=torch.ones(1, 1, 1, 1, device=packed.input_ids.device),
            use_cache=False,
            segments=packed.segments,
        ).last_hidden_state[0]
        weight = self.get_output_embeddings().weight
        return tiled_logps(hidden[packed.positions], weight, packed.targets)[:count]

    inner.forward = MethodType(forward, inner)

    def undo() -> None:
        inner.forward = original
        inner.set_attn_implementation(before)

    return undo


@contextlib.contextmanager
def fast_path(model: nn.Module) -> Iterator[None]:
    """`use_fast_path` inside the block."""
    undo = use_fast_path(model)
    try:
        yield
    finally:
        undo()


def score_packed(
    model: nn.Module,
    encoded: Sequence[EncodedPair] | Sequence[EncodedResponse],
    token_budget: int,
    *,
    description: str = "scoring",
    progress: bool = True,
    precision: torch.dtype | None = None,
) -> Float[Tensor, "sequences"]:
    """`scoring.score_responses` on the fast path; of pairs all chosen, then all rejected ones."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    bar = tqdm(total=len(encoded), desc=description, unit="row", disable=not progress)
    parts = []
    with fast_path(model), torch.no_grad(), autocast(device, precision):
        for group in split_by_tokens(encoded, token_budget):
            rows = packed_logps(model, pack([encoded[i] for i in group]).to(device)).float().cpu()
            parts.append(rows.view(-1, len(group)))  # (sides, pairs)
            bar.update(len(group))
    bar.close()
    model.train(was_training)
    return torch.cat(parts, 1).flatten()


def why_not_fast(
    model: nn.Module,
    encoded: Sequence[EncodedPair] | Sequence[EncodedResponse],
    pad_id: int,
    precision: torch.dtype | None = None,
) -> str | None:
    """None where the two paths agree on these rows; else the reason why they would not.

    The longest row of the data should be among them: a sliding window matters from its width on.
    Compared in the model's own precision to 1e-3 nats a sequence and, where another `precision` is
    asked for, in that one as well: there another attention runs.
    """
    device = next(model.parameters()).device
    if device.type == "cuda" and precision in HALF and not has_varlen(device):
        return "this card or this torch has no variable-length attention"
    was_training = model.training
    model.eval()
    try:
        with fast_path(model), torch.no_grad():
            packed, plain = pack(encoded).to(device), collate(encoded, pad_id).to(device)
            for each in dict.fromkeys((None, precision)):
                with autocast(device, each):
                    fast, slow = packed_logps(model, packed), batch_logps(model, plain)
                allowed = TOLERANCE if each is None else 0.1 + HALF_TOLERANCE * slow.abs()
                worst = (fast - slow).abs().max().item()
                if not bool(((fast - slow).abs() <= allowed).all()):
                    return f"packed and padded log-probs differ by {worst:.2g} nats"
    except (InputError, TypeError, ValueError, AttributeError) as error:
        return str(error).strip().splitlines()[0]
    finally:
        model.train(was_training)
    return None


def causal_lm(model: nn.Module) -> PreTrainedModel:
    """The transformers model with an output layer inside any wrappers."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and module.get_output_embeddings() is not None:
            return module
    raise InputError(f"{type(model).__name__} holds no causal language model of transformers")
