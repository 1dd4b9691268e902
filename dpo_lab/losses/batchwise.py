"""Losses in which the pairs of a batch meet: another batch size is another loss.

Splitting a batch into micro-batches, or over processes, changes their gradient.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dpo_lab.losses.logistic import smoothed_logistic
from dpo_lab.losses.types import PairLogps

SMALLEST_BATCH_BETA = 1e-3


def aot(logps: PairLogps, beta: float, label_smoothing: float) -> Float[Tensor, "pairs"]:
    """Logistic loss of sorted (log pi_w - log pi_l) minus sorted (log ref_w - log ref_l).

    AOT for paired data (Melnyk et al. 2024): the policy's margins shall dominate the
    reference's as a distribution. Losses come by rank, lowest first, not by pair; for one pair
    it is DPO. Where margins tie, the sort decides which pair gets which gradient.
    """
    policy = (logps.policy_chosen - logps.policy_rejected).sort().values
    reference = (logps.ref_chosen - logps.ref_rejected).sort().values
    return smoothed_logistic(beta * (policy - reference), label_smoothing)


def aot_unpaired(logps: PairLogps, beta: float, label_smoothing: float) -> Float[Tensor, "pairs"]:
    """Logistic loss of sorted chosen log-ratios minus sorted rejected log-ratios.

    AOT for unpaired data (Melnyk et al. 2024); TRL once called it aot_pair. Losses come by
    rank, lowest first, not by pair; for one pair it is DPO.
    """
    chosen, rejected = logps.chosen_logratios.sort().values, logps.rejected_logratios.sort().values
    return smoothed_logistic(beta * (chosen - rejected), label_smoothing)


def beta_dpo(
    logps: PairLogps, beta: float, beta_dpo_alpha: float, margin_threshold: float
) -> Float[Tensor, "pairs"]:
    """-log sigmoid(b Delta), b = max(beta (1 + alpha (mean Delta - M0)), 1e-3), detached.

    beta-DPO's batch-level beta (Wu et al. 2024), Delta = u_w - u_l without beta and
    M0 = margin_threshold. The authors let M0 follow a moving average and leave out a fifth of
    the pairs by chance; neither is done here, and rewards are logged with the fixed beta.
    """
    differences = logps.logratio_differences
    scale = 1 + beta_dpo_alpha * (differences.mean().detach() - margin_threshold)
    return -F.logsigmoid((beta * scale).clamp(min=SMALLEST_BATCH_BETA) * differences)
