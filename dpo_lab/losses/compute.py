"""Check, look up and evaluate: one loss, a weighted sum of losses, a loss of single answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from jaxtyping import Float
from torch import Tensor

from dpo_lab.checks import check_beta, check_logps, check_same_shape
from dpo_lab.errors import InputError
from dpo_lab.losses.checking import (
    check_answer_inputs,
    check_inputs,
    check_no_neginf,
    check_pair_logps,
    settle_options,
)
from dpo_lab.losses.table import ALIASES, LOSSES
from dpo_lab.losses.types import AnswerLogps, AnswerOutput, LossOutput, LossSpec, PairLogps


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
    return LossOutput(losses, *pair_rewards(name, logps, beta))


def compute_weighted_loss(
    weights: Mapping[str, float],
    logps: PairLogps,
    beta: float | None = None,
    *,
    inputs: Mapping[str, Tensor] | None = None,
    **options: float,
) -> LossOutput:
    """The sum of several losses, each times its weight: TRL's `loss_type` with `loss_weights`.

    compute_weighted_loss({"dpo": 0.8, "bco_pair": 0.2, "sft": 1.0}, logps)   # MPO

    One beta for all, or each loss's own where it is None. An option or input goes to every loss
    that has it. Rewards are those of the first loss. Raises `InputError` as `compute_loss` does,
    for no losses, the same loss under two names, an option that none of them has, and a weight
    that is not finite and above 0.
    """
    check_weights(weights)
    specs = {name: find_loss(name) for name in weights}
    inputs = {} if inputs is None else dict(inputs)
    settled = settle_shared_options(weights, beta, options)
    for unknown in sorted(set(inputs) - {key for spec in specs.values() for key in spec.inputs}):
        raise InputError(f"none of the losses {', '.join(weights)} has the input {unknown!r}")
    outputs = [
        compute_loss(
            name,
            logps,
            beta,
            inputs={key: value for key, value in inputs.items() if key in spec.inputs},
            **settled[name],
        )
        for name, spec in specs.items()
    ]
    total = sum(w * out.losses for w, out in zip(weights.values(), outputs, strict=True))
    return outputs[0]._replace(losses=total)


def settle_shared_options(
    names: Iterable[str], beta: float | None, options: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """The settled options of each loss, where an option goes to every loss that has it.

    Raises `InputError` for an option that no loss has, and for a value outside its interval.
    """
    specs = {name: find_loss(name) for name in names}
    unknown = set(options) - {key for spec in specs.values() for key in spec.option_names}
    if unknown:
        allowed = ", ".join(dict.fromkeys(k for s in specs.values() for k in s.option_names))
        raise InputError(
            f"loss {' + '.join(map(repr, specs))} has no option {min(unknown)!r}; its options: "
            f"{allowed or 'none'}"
        )
    return {
        name: settle_options(
            name,
            spec,
            spec.beta if beta is None else beta,
            {key: value for key, value in options.items() if key in spec.option_names},
        )
        for name, spec in specs.items()
    }


def check_weights(weights: Mapping[str, float]) -> None:
    """Raise `InputError` for no losses, one loss under two names, or a weight that is not > 0."""
    if not weights:
        raise InputError("weights is empty: name at least one loss")
    names: dict[str, str] = {}
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight > 0):
            raise InputError(f"the weight of {name!r} must be finite and above 0, got {weight}")
        first = names.setdefault(ALIASES.get(name, name), name)
        if first != name:
            raise InputError(f"{first!r} and {name!r} are one loss; give it once")


def compute_answer_loss(
    name: str,
    logps: AnswerLogps,
    beta: float | None = None,
    *,
    inputs: Mapping[str, Tensor] | None = None,
    **options: float,
) -> AnswerOutput:
    """The loss `name` on unpaired answers, each labelled good or bad.

    Raises `InputError` for a loss that compares two answers of one prompt, and as
    `compute_loss` does.
    """
    spec = find_loss(name)
    if spec.answers is None:
        able = ", ".join(key for key, each in LOSSES.items() if each.answers)
        raise InputError(
            f"loss {name!r} compares two answers of one prompt; single labelled answers can be "
            f"trained with {able}"
        )
    beta = spec.beta if beta is None else beta
    check_beta(beta)
    settled = settle_options(name, spec, beta, options)
    check_same_shape(**logps._asdict())
    check_logps(policy=logps.policy, reference=logps.reference)
    check_no_neginf(policy=logps.policy, reference=logps.reference)
    inputs = {} if inputs is None else dict(inputs)
    check_answer_inputs(name, spec, inputs)
    losses = spec.answers(logps.logratios, logps.labels, beta=beta, **settled, **inputs)
    return AnswerOutput(losses, beta * logps.logratios.detach())


def pair_rewards(
    name: str, logps: PairLogps, beta: float
) -> tuple[Float[Tensor, "pairs"], Float[Tensor, "pairs"]]:
    """Implicit rewards beta * log-ratio, summed whatever the loss `name` does with lengths.

    Without a reference: beta * log pi, averaged over tokens where the loss averages. Detached.
    """
    needs = find_loss(name).needs
    if "reference" in needs:
        return beta * logps.chosen_logratios.detach(), beta * logps.rejected_logratios.detach()
    chosen, rejected = logps.policy_chosen.detach(), logps.policy_rejected.detach()
    if "lengths" in needs:
        chosen, rejected = chosen / logps.chosen_lengths, rejected / logps.rejected_lengths
    return beta * chosen, beta * rejected
