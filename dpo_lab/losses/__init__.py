"""Preference losses as pure functions of log-probabilities, and one table of what each needs.

A loss takes summed sequence log-probabilities of B pairs and returns one unreduced loss a pair.
No model, tokenizer, device or reduction is in here. With log-ratios
u = log pi(y|x) - log pi_ref(y|x), the implicit rewards are beta * u and the margin is
m = beta * (u_chosen - u_rejected).
"""

from __future__ import annotations

from dpo_lab.losses.batchwise import RunningMargin
from dpo_lab.losses.compute import (
    check_weights,
    compute_answer_loss,
    compute_loss,
    compute_weighted_loss,
    find_loss,
    pair_rewards,
    settle_shared_options,
)
from dpo_lab.losses.logistic import cdpo, dpo
from dpo_lab.losses.pointwise import RunningShift
from dpo_lab.losses.table import ALIASES, LOSSES
from dpo_lab.losses.types import (
    AnswerLogps,
    AnswerOutput,
    Input,
    LossOutput,
    LossSpec,
    Option,
    PairLogps,
)

__all__ = [
    "ALIASES",
    "LOSSES",
    "AnswerLogps",
    "AnswerOutput",
    "Input",
    "LossOutput",
    "LossSpec",
    "Option",
    "PairLogps",
    "RunningMargin",
    "RunningShift",
    "cdpo",
    "check_weights",
    "compute_answer_loss",
    "compute_loss",
    "compute_weighted_loss",
    "dpo",
    "find_loss",
    "pair_rewards",
    "settle_shared_options",
]
