"""Preference losses as pure functions of log-probabilities, and one table of what each needs.

A loss takes summed sequence log-probabilities of B pairs and returns one unreduced loss a pair.
No model, tokenizer, device or reduction is in here. With log-ratios
u = log pi(y|x) - log pi_ref(y|x), the implicit rewards are beta * u and the margin is
m = beta * (u_chosen - u_rejected).
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from dpo_lab.checks import check_beta
from dpo_lab.errors import InputError
from dpo_lab.losses.checking import check_inputs, check_pair_logps, settle_options
from dpo_lab.losses.logistic import cdpo, dpo
from dpo_lab.losses.table import ALIASES, LOSSES
from dpo_lab.losses.types import Input, LossOutput, LossSpec, Option, PairLogps

__all__ = [
    "ALIASES",
    "LOSSES",
    "Input",
    "LossOutput",
    "LossSpec",
    "Option",
    "PairLogps",
    "cdpo",
    "compute_loss",
    "dpo",
    "find_loss",
]


def find_loss(name: str) -> LossSpec:
    """The entry of `LOSSES` for a name or an alias; `InputError` for an unknown one."""
    spec = LOSSES.get(ALIASES.get(name, name))
    if spec is None:
        known = ", ".join([*LOSSES, *ALIASES])
        raise InputError(f"unknown loss {name!r}; known: {known}")
    return spec


def compute_loss(
    name: str,
    logps: PairLogps,
    beta: float | None = None,
    *,
    inputs: Mapping[str, Tensor] | None = None,
    **options: float,
) -> LossOutput:
    """Check the input, evaluate the loss `name` of `LOSSES`, and add the implicit rewards.

    beta: the table's default for this loss where it is None. inputs: tensors that the loss needs
    besides the log-probabilities, by name.

    Raises `InputError` for an unknown name, option or input, beta <= 0, an option outside its
    interval, shapes that differ, what the loss needs but was not given, inputs that are not
    finite, and log-probabilities that are NaN, infinite or above 0.
    """
    spec = find_loss(name)
    beta = spec.beta if beta is None else beta
    check_beta(beta)
    settled = settle_options(name, spec, beta, options)
    check_pair_logps(name, spec, logps)
    inputs = {} if inputs is None else dict(inputs)
    check_inputs(name, spec, logps, inputs)
    losses = spec.function(logps, beta, **settled, **inputs)
    chosen, rejected = _rewards(logps, beta)
    return LossOutput(losses, chosen, rejected)


def _rewards(
    logps: PairLogps, beta: float
) -> tuple[Float[Tensor, "pairs"], Float[Tensor, "pairs"]]:
    """Implicit rewards beta * log-ratio, or without a reference beta * log pi, always summed."""
    if logps.ref_chosen is None:
        return beta * logps.policy_chosen.detach(), beta * logps.policy_rejected.detach()
    return beta * logps.chosen_logratios.detach(), beta * logps.rejected_logratios.detach()
