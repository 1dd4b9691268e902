"""Losses of the margin m = beta * (u_chosen - u_rejected), where u = log pi - log pi_ref.

All take summed log-probabilities in nats and return one loss a pair.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dpo_lab.losses.types import PairLogps


def dpo(logps: PairLogps, beta: float) -> Float[Tensor, "pairs"]:
    """-log sigmoid(m), m = beta * (u_chosen - u_rejected).

    Rafailov et al. 2023, eq. 7. It is log 2 where the policy equals the reference.
    """
    return -F.logsigmoid(beta * logps.logratio_differences)


def cdpo(logps: PairLogps, beta: float, label_smoothing: float) -> Float[Tensor, "pairs"]:
    """-(1 - e) log sigmoid(m) - e log sigmoid(-m), with e = label_smoothing in [0, 1/2).

    Conservative DPO (Mitchell 2023, eq. 3): cross-entropy against labels that are wrong with
    probability e. For noiseless labels its optimum is the finite margin log((1 - e) / e).
    """
    return smoothed_logistic(beta * logps.logratio_differences, label_smoothing)


def smoothed_logistic(
    margins: Float[Tensor, "pairs"], label_smoothing: float
) -> Float[Tensor, "pairs"]:
    """-(1 - e) log sigmoid(m) - e log sigmoid(-m): the link that several losses share."""
    right, wrong = F.logsigmoid(margins), F.logsigmoid(-margins)
    return -(1 - label_smoothing) * right - label_smoothing * wrong
