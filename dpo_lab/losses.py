"""Preference losses as pure functions of log-probabilities, and one table of what each needs.

A loss takes summed sequence log-probabilities of B pairs and returns one unreduced loss a pair.
No model, tokenizer, device or reduction is in here. With log-ratios
u = log pi(y|x) - log pi_ref(y|x), the implicit rewards are beta * u and the margin is
m = beta * (u_chosen - u_rejected).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dpo_lab.checks import check_beta, check_logps, check_probability, check_same_shape
from dpo_lab.errors import InputError


class PairLogps(NamedTuple):
    """Log-probabilities of B pairs, summed over response tokens with EOS, in nats.

    The reference's entries are None for a loss that needs no reference; the lengths (response
    tokens, EOS included) are None for a loss that needs none.
    """

    policy_chosen: Float[Tensor, "pairs"]
    policy_rejected: Float[Tensor, "pairs"]
    ref_chosen: Float[Tensor, "pairs"] | None = None
    ref_rejected: Float[Tensor, "pairs"] | None = None
    chosen_lengths: Int[Tensor, "pairs"] | None = None
    rejected_lengths: Int[Tensor, "pairs"] | None = None

    @property
    def chosen_logratios(self) -> Float[Tensor, "pairs"]:
        """log pi(chosen) - log pi_ref(chosen)."""
        return self.policy_chosen - self.ref_chosen

    @property
    def rejected_logratios(self) -> Float[Tensor, "pairs"]:
        """log pi(rejected) - log pi_ref(rejected)."""
        return self.policy_rejected - self.ref_rejected


class LossOutput(NamedTuple):
    """One loss a pair, and the implicit rewards beta * log-ratio, detached, for the metrics."""

    losses: Float[Tensor, "pairs"]
    chosen_rewards: Float[Tensor, "pairs"]
    rejected_rewards: Float[Tensor, "pairs"]


def dpo(logps: PairLogps, beta: float) -> Float[Tensor, "pairs"]:
    """-log sigmoid(m), m = beta * (u_chosen - u_rejected).

    Rafailov et al. 2023, eq. 7. It is log 2 where the policy equals the reference.
    """
    return -F.logsigmoid(_margins(logps, beta))


def cdpo(logps: PairLogps, beta: float, label_smoothing: float = 0.1) -> Float[Tensor, "pairs"]:
    """-(1 - e) log sigmoid(m) - e log sigmoid(-m), with e = label_smoothing in [0, 1/2).

    Conservative DPO (Mitchell 2023, eq. 3): cross-entropy against labels that are wrong with
    probability e. For noiseless labels its optimum is the finite margin log((1 - e) / e).
    """
    check_probability(label_smoothing, "label_smoothing", upper=0.5)
    margins = _margins(logps, beta)
    right, wrong = F.logsigmoid(margins), F.logsigmoid(-margins)
    return -(1 - label_smoothing) * right - label_smoothing * wrong


@dataclass(frozen=True)
class LossSpec:
    """What one loss is, where it comes from, and what it needs.

    paper: key in the book's bibliography. equation: where the paper states it.
    options: names and defaults of what `compute_loss` accepts besides beta.
    beta: the paper's default. needs: of "reference" and "lengths".
    optimum: the population minimiser for a pair whose first answer wins with probability p.
    """

    function: Callable[..., Float[Tensor, "pairs"]]
    summary: str
    paper: str
    equation: str
    beta: float
    optimum: str
    options: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    needs: frozenset[str] = frozenset({"reference"})
    accumulation_invariant: bool = True


LOSSES: Mapping[str, LossSpec] = MappingProxyType(
    {
        "dpo": LossSpec(
            function=dpo,
            summary="logistic loss on the difference of implicit rewards",
            paper="rafailov2023",
            equation="eq. 7",
            beta=0.1,
            optimum="m = logit(p)",
        ),
        "cdpo": LossSpec(
            function=cdpo,
            summary="DPO against labels assumed wrong at a known rate",
            paper="mitchell2023",
            equation="eq. 3",
            beta=0.1,
            optimum="m = logit((1 - e) p + e (1 - p))",
            options=MappingProxyType({"label_smoothing": 0.1}),
        ),
    }
)


def compute_loss(name: str, logps: PairLogps, beta: float = 0.1, **options: float) -> LossOutput:
    """Check the input, evaluate the loss `name` of `LOSSES`, and add the implicit rewards.

    Raises `InputError` for an unknown name or option, beta <= 0, shapes that differ, what the
    loss needs but was not given, and log-probabilities that are NaN, infinite or above 0.
    """
    spec = LOSSES.get(name)
    if spec is None:
        raise InputError(f"unknown loss {name!r}; known: {', '.join(LOSSES)}")
    unknown = sorted(set(options) - set(spec.options))
    if unknown:
        allowed = ", ".join(spec.options) or "none"
        raise InputError(f"loss {name!r} has no option {unknown[0]!r}; its options: {allowed}")
    check_beta(beta)
    _check_pair_logps(name, spec, logps)
    losses = spec.function(logps, beta, **{**spec.options, **options})
    chosen, rejected = _rewards(logps, beta)
    return LossOutput(losses, chosen, rejected)


def _margins(logps: PairLogps, beta: float) -> Float[Tensor, "pairs"]:
    return beta * (logps.chosen_logratios - logps.rejected_logratios)


def _rewards(logps: PairLogps, beta: float) -> tuple[Tensor, Tensor]:
    """Implicit rewards; without a reference, beta * log pi, as TRL's CPO trainer logs them."""
    if logps.ref_chosen is None:
        return beta * logps.policy_chosen.detach(), beta * logps.policy_rejected.detach()
    return beta * logps.chosen_logratios.detach(), beta * logps.rejected_logratios.detach()


def _check_pair_logps(name: str, spec: LossSpec, logps: PairLogps) -> None:
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
    for field_name, value in values.items():
        if bool(torch.isneginf(value).any()):
            raise InputError(f"{field_name} holds -inf: a response with probability 0")
