"""What state a model is in: its weights' hash, dropout off, frozen as a reference."""

from __future__ import annotations

import hashlib
import json

import torch
from torch import nn

_NOT_THE_MODEL = ("transformers_version", "dtype", "torch_dtype", "architectures", "use_cache")


def best_device() -> torch.device:
    """The CUDA device where there is one, else the CPU: where models score and sample."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def disable_dropout(model: nn.Module) -> nn.Module:
    """Set every dropout rate in `model` to 0, in place, and return it.

    With dropout on, policy and reference differ at step 0 although their weights are equal.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):  # attention keeps its rate as a number
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
    return model


def freeze_reference(model: nn.Module) -> nn.Module:
    """Make `model` a reference: no gradients, evaluation mode, no dropout; in place."""
    return disable_dropout(model).requires_grad_(False).eval()


def model_hash(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers (names, dtypes, shapes, bytes), as hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def config_hash(model: nn.Module) -> str:
    """SHA-256 of what the configuration says of how the weights are used, as hexadecimal.

    Heads, positions, activations: with the same weights they make another model. Where it was
    loaded from, by which version, and in what way attention is computed do not count.
    """
    settings = model.config.to_dict()
    counted = {k: v for k, v in settings.items() if k[0] != "_" and k not in _NOT_THE_MODEL}
    return hashlib.sha256(json.dumps(counted, sort_keys=True, default=str).encode()).hexdigest()
