"""What `compute_loss` refuses, each with one message that names the loss and the argument."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from dpo_lab.checks import check_finite, check_logps, check_same_shape
from dpo_lab.errors import InputError
from dpo_lab.losses.types import LossSpec, PairLogps


def settle_options(
    name: str, spec: LossSpec, beta: float, given: Mapping[str, float]
) -> dict[str, float]:
    """All options of a loss: what was given, checked, and the defaults for the rest."""
    unknown = sorted(set(given) - set(spec.option_names))
    if unknown:
        allowed = ", ".join(spec.option_names) or "none"
        raise InputError(f"loss {name!r} has no option {unknown[0]!r}; its options: {allowed}")
    settled = {option: what.default for option, what in spec.options.items()}
    settled |= {option: value for option, value in given.items() if option in spec.options}
    for spelling, (option, translate) in spec.option_as.items():
        if spelling in given and option in given:
            raise InputError(f"loss {name!r}: give {option} or {spelling}, not both")
        if spelling in given:
            _check_inside(spelling, given[spelling], spec.options[option].interval)
            settled[option] = translate(given[spelling], beta)
    for option, value in settled.items():
        _check_inside(option, value, spec.options[option].interval)
    return settled


def check_pair_logps(name: str, spec: LossSpec, logps: PairLogps) -> None:
    """Raise `InputError` for what the loss needs and lacks, odd shapes and impossible values."""
    needed = ["policy_chosen", "policy_rejected"]
    needed += ["ref_chosen", "ref_rejected"] if "reference" in spec.needs else []
    needed += ["chosen_lengths", "rejected_lengths"] if "lengths" in spec.needs else []
    for field_name in needed:
        if getattr(logps, field_name) is None:
            raise InputError(f"loss {name!r} needs {field_name}, which was not given")
    given = {k: v for k, v in logps._asdict().items() if v is not None}
    # A table of token log-probabilities would pass through every formula, token by token, as
    # another loss: the sum over tokens belongs inside the sigmoid.
    if logps.policy_chosen.ndim != 1:
        shape = tuple(logps.policy_chosen.shape)
        raise InputError(f"policy_chosen must be a vector, one sum a pair, but has shape {shape}")
    check_same_shape(**given)
    values = {k: v for k, v in given.items() if not k.endswith("_lengths")}
    check_logps(**values)
    check_no_neginf(**values)
    for field_name in given.keys() - values.keys():
        if bool((given[field_name] < 1).any()):
            raise InputError(f"{field_name} must be at least 1: a response holds its EOS")


def check_no_neginf(**values: Tensor) -> None:
    """Raise `InputError` where a log-probability is -inf."""
    for field_name, value in values.items():
        if bool(torch.isneginf(value).any()):
            raise InputError(f"{field_name} holds -inf: a response with probability 0")


def check_inputs(name: str, spec: LossSpec, logps: PairLogps, given: Mapping[str, Tensor]) -> None:
    """Raise `InputError` for inputs that are missing, unknown, misshaped or out of range."""
    _check_names(name, spec, given)
    for key, value in given.items():
        _check_shape(key, spec.inputs[key].shape, value, logps)
        _check_range(key, spec, value)


def check_answer_inputs(name: str, spec: LossSpec, given: Mapping[str, Tensor]) -> None:
    """The same for unpaired answers, which lists of numbers alone can go with."""
    _check_names(name, spec, given)
    for key, value in given.items():
        _check_list(key, value)
        _check_range(key, spec, value)


def _check_names(name: str, spec: LossSpec, given: Mapping[str, Tensor]) -> None:
    for unknown in sorted(set(given) - set(spec.inputs)):
        allowed = ", ".join(spec.inputs) or "none"
        raise InputError(f"loss {name!r} has no input {unknown!r}; its inputs: {allowed}")
    for key in spec.required_inputs:
        if key not in given:
            raise InputError(f"loss {name!r} needs the input {key}: {spec.inputs[key].meaning}")


def _check_range(key: str, spec: LossSpec, value: Tensor) -> None:
    check_finite(**{key: value})
    for end in (value.min(), value.max()):
        _check_inside(key, float(end.detach()), spec.inputs[key].interval)


def _check_list(key: str, value: Tensor) -> None:
    if value.ndim != 1 or not len(value):
        raise InputError(f"{key} must be a vector with an entry, got {tuple(value.shape)}")


def _check_shape(key: str, shape: str, value: Tensor, logps: PairLogps) -> None:
    pairs = len(logps.policy_chosen)
    if shape == "pairs" and value.shape != (pairs,):
        raise InputError(f"{key} must be one number a pair, ({pairs},), got {tuple(value.shape)}")
    if shape == "list":
        _check_list(key, value)
    if shape == "tokens":
        if value.ndim != 2 or len(value) != pairs:
            raise InputError(
                f"{key} must be a table of {pairs} rows of tokens, got {tuple(value.shape)}"
            )
        side = logps.chosen_lengths if "chosen" in key else logps.rejected_lengths
        if value.shape[1] < int(side.max()):
            raise InputError(f"{key} has {value.shape[1]} columns for {int(side.max())} tokens")


def _check_inside(name: str, value: float, interval: str) -> None:
    low, high = (float(end) for end in interval[1:-1].split(","))
    inside = low < value < high or (value == low and interval[0] == "[")
    inside = inside or (value == high and interval[-1] == "]")
    if not (inside and math.isfinite(value)):
        raise InputError(f"{name} must lie in {interval}, got {value}")
