"""Checks on tensors that several rooms of floor 0 share; each raises one clear `InputError`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dpo_lab.errors import InputError

# A sum of float32 log-softmax values can end a rounding error above 0; a wrong tensor
# (logits, negated log-probs, probabilities) ends far above it.
LOGP_TOLERANCE = 1e-4


def check_beta(beta: float | Tensor, name: str = "beta") -> None:
    """Raise `InputError` unless every entry of `beta` is finite and greater than 0."""
    if isinstance(beta, Tensor):
        good = bool((torch.isfinite(beta) & (beta > 0)).all())
    else:
        good = math.isfinite(beta) and beta > 0
    if not good:
        raise InputError(f"{name} must be finite and greater than 0, got {beta}")


def check_probability(value: float, name: str, upper: float = 1.0) -> None:
    """Raise `InputError` unless `value` lies in [0, upper)."""
    if not 0.0 <= value < upper:
        raise InputError(f"{name} must lie in [0, {upper:g}), got {value}")


def check_same_shape(**tensors: Tensor) -> None:
    """Raise `InputError` naming the first tensor whose shape differs from the first one's."""
    (first, reference), *others = tensors.items()
    for name, tensor in others:
        if tensor.shape != reference.shape:
            raise InputError(
                f"{name} has shape {tuple(tensor.shape)} but {first} has {tuple(reference.shape)}"
            )


def check_logps(**tensors: Tensor) -> None:
    """Raise `InputError` where a log-probability is NaN or above 0 (-inf is allowed)."""
    for name, logps in tensors.items():
        if bool(torch.isnan(logps).any()):
            raise InputError(f"{name} holds NaN")
        worst = float(logps.detach().max()) if logps.numel() else 0.0
        if worst > LOGP_TOLERANCE:
            raise InputError(f"{name} holds log-probabilities above 0 (largest {worst:.4g})")


def check_distribution(**tensors: Tensor) -> None:
    """Raise `InputError` unless the last dimension of each tensor is a log-distribution."""
    check_logps(**tensors)
    for name, logps in tensors.items():
        if not logps.ndim:
            raise InputError(f"{name} must have a last dimension of answers, got a single number")
        off_by = torch.logsumexp(logps.detach(), -1).abs()
        off = float(off_by.max()) if off_by.numel() else 0.0
        if not off < LOGP_TOLERANCE:
            raise InputError(
                f"{name} is not a distribution: log of its sum is {off:.4g} away from 0"
            )


def check_finite(**tensors: Tensor) -> None:
    """Raise `InputError` where a tensor holds NaN or an infinity."""
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{name} must be finite, but holds NaN or an infinity")
