"""Losses in which the pairs of a batch meet: another batch size is another loss.

Splitting a batch into micro-batches, or over processes, changes their gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from dpo_lab.losses.logistic import smoothed_logistic
from dpo_lab.losses.types import PairLogps

SMALLEST_BATCH_BETA = 1e-3


def aot(logps: PairLogps, beta: float, label_smoothing: float) -> Float[Tensor, "pairs"]:
    """Logistic loss of sorted (log pi_w - log pi_l) minus sorted (log ref_w - log ref_l).

    AOT for paired data (Melnyk et al. 2024): the policy's margins shall dominate the
    reference's as a distribution. Losses come by rank, lowest first, not by pair; for one pair
    it is DPO. Where margins tie, the sort decides which pair gets which gradient. The default
    beta is that of TRL's list of papers, not read in the paper.
    """
    policy = (logps.policy_chosen - logps.policy_rejected).sort().values
    reference = (logps.ref_chosen - logps.ref_rejected).sort().values
    return smoothed_logistic(beta * (policy - reference), label_smoothing)


def aot_unpaired(logps: PairLogps, beta: float, label_smoothing: float) -> Float[Tensor, "pairs"]:
    """Logistic loss of sorted chosen log-ratios minus sorted rejected log-ratios.

    AOT for unpaired data (Melnyk et al. 2024); TRL once called it aot_pair. Losses come by
    rank, lowest first, not by pair; for one pair it is DPO. The default beta is that of TRL's
    list of papers, not read in the paper.
    """
    chosen, rejected = logps.chosen_logratios.sort().values, logps.rejected_logratios.sort().values
    return smoothed_logistic(beta * (chosen - rejected), label_smoothing)


def beta_dpo(
    logps: PairLogps, beta: float, beta_dpo_alpha: float, margin_threshold: float
) -> Float[Tensor, "pairs"]:
    """-log sigmoid(b Delta), b = max(beta (1 + alpha (mean Delta - M0)), 1e-3), detached.

    beta-DPO's batch-level beta (Wu et al. 2024), Delta = u_w - u_l without beta and
    M0 = margin_threshold. The authors let M0 follow a moving average and leave out a fifth of
    the pairs by chance: `RunningMargin` does both, for the trainer. Rewards are logged with the
    fixed beta.
    """
    differences = logps.logratio_differences
    scale = 1 + beta_dpo_alpha * (differences.mean().detach() - margin_threshold)
    return -F.logsigmoid((beta * scale).clamp(min=SMALLEST_BATCH_BETA) * differences)


class RunningMargin:
    """The moving mean and spread of Delta by which beta-DPO sets M0 and draws its pairs.

    As in the code of Wu et al. 2024: both are exponential averages (decay 0.9, from 0) that a
    batch enters before its own loss. Then `KEPT_SHARE` of the batch, rounded down, is drawn
    without replacement, with weights exp(-((Delta - M0) / sigma)^2 / 2). The batch's beta and
    the mean of the loss are over the drawn pairs alone.
    """

    DECAY = 0.9
    KEPT_SHARE = 0.8

    def __init__(self, mean: float = 0.0, spread: float = 0.0) -> None:
        self.mean, self.spread = mean, spread

    def update(
        self, differences: Float[Tensor, "pairs"], generator: torch.Generator | None = None
    ) -> Int[Tensor, "kept"]:
        """Add a batch's Delta = u_w - u_l and return which of its pairs are drawn, in order."""
        seen = differences.detach().double()
        spread = seen.std().item() if len(seen) > 1 else 0.0
        self.mean = self.DECAY * self.mean + (1 - self.DECAY) * seen.mean().item()
        self.spread = self.DECAY * self.spread + (1 - self.DECAY) * spread
        kept = max(1, int(self.KEPT_SHARE * len(seen)))
        if not self.spread:
            return torch.arange(len(seen), device=seen.device)
        # In logarithms, by the Gumbel trick: far from M0 the weights themselves underflow to 0.
        log_weights = -0.5 * ((seen.cpu() - self.mean) / self.spread) ** 2
        noise = torch.rand(len(seen), generator=generator, dtype=torch.float64)
        keys = log_weights - torch.log(-torch.log(noise.clamp(min=1e-300)))
        return keys.topk(kept).indices.sort().values.to(seen.device)

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint must hold; `RunningMargin(**state)` makes it again."""
        return {"mean": self.mean, "spread": self.spread}
