"""Losses of the margin m = beta * (u_chosen - u_rejected), where u = log pi - log pi_ref.

All take summed log-probabilities in nats and return one loss a pair. A hinge max(0, x) is
`torch.relu`, whose slope at the kink x = 0 is 0; other implementations choose 1/2 or 1 there.
"""

from __future__ import annotations

import math

import torch
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


def robust(logps: PairLogps, beta: float, label_smoothing: float) -> Float[Tensor, "pairs"]:
    """(-(1 - e) log sigmoid(m) + e log sigmoid(-m)) / (1 - 2 e), with e in [0, 1/2).

    Robust DPO (Chowdhury et al. 2024): where labels are flipped with probability e, its mean
    over the flips is the DPO loss of the clean label. Values below 0 are right, and with e > 0
    it has no lower bound. The default e is that of TRL's list of papers, not read in the paper.
    """
    margins = beta * logps.logratio_differences
    right, wrong = F.logsigmoid(margins), F.logsigmoid(-margins)
    return (-(1 - label_smoothing) * right + label_smoothing * wrong) / (1 - 2 * label_smoothing)


def hinge(logps: PairLogps, beta: float) -> Float[Tensor, "pairs"]:
    """max(0, 1 - m): no gradient once the margin is 1; at m = 1 the slope is taken as 0.

    RSO (Liu et al. 2023), which calls beta gamma; the hinge of SLiC on log-ratios. The default
    beta is that of TRL's list of papers, not read in the paper.
    """
    return torch.relu(1 - beta * logps.logratio_differences)


def exo_pair(logps: PairLogps, beta: float, label_smoothing: float) -> Float[Tensor, "pairs"]:
    """KL((sigmoid(m), sigmoid(-m)) || (1 - e, e)), with e = label_smoothing in (0, 1/2).

    EXO (Ji et al. 2024, eq. 16 for two answers): the reverse KL where DPO has the forward one.
    With e = 0 it would be infinite. The equation's number and the defaults are TRL's, not read
    in the paper; the authors' code has log e = -10.
    """
    margins = beta * logps.logratio_differences
    right = F.logsigmoid(margins) - math.log1p(-label_smoothing)
    wrong = F.logsigmoid(-margins) - math.log(label_smoothing)
    return torch.sigmoid(margins) * right + torch.sigmoid(-margins) * wrong


def discopop(logps: PairLogps, beta: float, discopop_tau: float) -> Float[Tensor, "pairs"]:
    """(1 - s) (-log sigmoid(m)) + s exp(-m), with s = sigmoid(m / tau) and tau in (0, 1].

    DiscoPOP (Lu et al. 2024, eq. 5), found by a search over programs. It is not convex: at the
    reference the slope in m is (1 - log 2) / (4 tau) - 3/4, which is positive below
    tau = .1023, so that the first step lowers the margin. tau > 1 overflows at negative m. The
    equation's number and the defaults are TRL's, not read in the paper.
    """
    margins = beta * logps.logratio_differences
    share = margins / discopop_tau
    exponential = torch.exp(F.logsigmoid(share) - margins)  # s exp(-m), safe where exp(-m) is not
    return exponential - torch.sigmoid(-share) * F.logsigmoid(margins)


def rdpo(logps: PairLogps, beta: float, rdpo_alpha: float) -> Float[Tensor, "pairs"]:
    """-log sigmoid(m + alpha (|y_w| - |y_l|)), lengths in tokens; alpha stands outside beta.

    R-DPO (Park et al. 2024), from the objective E[r - alpha |y|] - beta KL: a longer chosen
    answer has a smaller loss, so it is pushed less. Ports with the other sign exist. The default
    alpha is chosen here; the authors' was not read in the paper.
    """
    longer = (logps.chosen_lengths - logps.rejected_lengths).to(logps.policy_chosen.dtype)
    return -F.logsigmoid(beta * logps.logratio_differences + rdpo_alpha * longer)


def odpo(
    logps: PairLogps, beta: float, odpo_alpha: float, score_difference: Float[Tensor, "pairs"]
) -> Float[Tensor, "pairs"]:
    """-log sigmoid(m - alpha log(s_w - s_l)): the margin must exceed an offset from scores.

    ODPO (Amini et al. 2024). The difference of scores must be above 0. Below 1 its logarithm,
    hence the offset, is negative.
    """
    return -F.logsigmoid(beta * logps.logratio_differences - odpo_alpha * score_difference.log())


def dpop(logps: PairLogps, beta: float, dpop_lambda: float) -> Float[Tensor, "pairs"]:
    """-log sigmoid(m - beta lambda max(0, -u_chosen)): a price for a chosen answer that falls.

    DPO-Positive (Pal et al. 2024, eq. 3 since its version of July 2024, whose authors mended the
    brackets of the first); variants with the penalty outside the sigmoid circulate. At the
    reference u_chosen = 0 is the kink: relu gives slope 0 there, so the first gradient is DPO's;
    torch.maximum or clamp would multiply it by up to 1 + lambda. The formula and the defaults
    come from its authors' replies and others' notes, and were not read in the paper.
    """
    fallen = torch.relu(-logps.chosen_logratios)
    return -F.logsigmoid(beta * (logps.logratio_differences - dpop_lambda * fallen))


def tdpo1(
    logps: PairLogps,
    beta: float,
    chosen_kl: Float[Tensor, "pairs"],
    rejected_kl: Float[Tensor, "pairs"],
) -> Float[Tensor, "pairs"]:
    """-log sigmoid(m + beta (K_w - K_l)), K the sum over tokens of KL(pi_ref || pi).

    TDPO1 (Zeng et al. 2024). The KL is over the vocabulary, at each position of the answer, and
    carries gradient. Its sign is that of the authors' code.
    """
    return -F.logsigmoid(beta * (logps.logratio_differences + chosen_kl - rejected_kl))


def tdpo2(
    logps: PairLogps,
    beta: float,
    tdpo_alpha: float,
    chosen_kl: Float[Tensor, "pairs"],
    rejected_kl: Float[Tensor, "pairs"],
) -> Float[Tensor, "pairs"]:
    """-log sigmoid(m + beta alpha (stop_gradient(K_w) - K_l)), K as in `tdpo1`.

    TDPO2 (Zeng et al. 2024): the gradient does not pass through the chosen answer's KL.
    """
    penalty = tdpo_alpha * (chosen_kl.detach() - rejected_kl)
    return -F.logsigmoid(beta * (logps.logratio_differences + penalty))


def wpo(
    logps: PairLogps,
    beta: float,
    chosen_weights: Float[Tensor, "pairs"],
    rejected_weights: Float[Tensor, "pairs"],
) -> Float[Tensor, "pairs"]:
    """w_w w_l (-log sigmoid(m)), the weights detached.

    WPO (Zhou et al. 2024, eq. 2): w = exp(mean over tokens of log pi(y_t) - log sum_v pi(v)^2),
    high for answers that the policy itself would give. Not clamped at 1; the authors' code
    clamps the product. The equation's number was not read in the paper.
    """
    weights = (chosen_weights * rejected_weights).detach()
    return weights * dpo(logps, beta)


def smoothed_logistic(
    margins: Float[Tensor, "pairs"], label_smoothing: float
) -> Float[Tensor, "pairs"]:
    """-(1 - e) log sigmoid(m) - e log sigmoid(-m): the link that several losses share."""
    right, wrong = F.logsigmoid(margins), F.logsigmoid(-margins)
    return -(1 - label_smoothing) * right - label_smoothing * wrong
