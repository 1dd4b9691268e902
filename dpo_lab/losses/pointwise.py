"""Losses that judge the chosen and the rejected answer each on its own.

With a and b the log-ratios of the chosen and the rejected answer, these fix or push a and b
separately, not only their difference.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dpo_lab.losses.types import PairLogps


def nca_pair(logps: PairLogps, beta: float) -> Float[Tensor, "pairs"]:
    """-log sigmoid(beta a) - (log sigmoid(-beta a) + log sigmoid(-beta b)) / 2.

    NCA for two answers (Chen et al. 2024). It pulls beta a to log(2 p), not to infinity.
    """
    a, b = beta * logps.chosen_logratios, beta * logps.rejected_logratios
    return -F.logsigmoid(a) - 0.5 * F.logsigmoid(-a) - 0.5 * F.logsigmoid(-b)


def bco_pair(logps: PairLogps, beta: float, shift: float) -> Float[Tensor, "pairs"]:
    """-log sigmoid(beta a - d) - log sigmoid(-(beta b - d)), d = shift in units of reward.

    BCO (Jung et al. 2024): a classifier of good and bad answers. The paper's d is the mean of
    the average chosen and rejected reward, which `RunningShift` follows; TRL has d = 0.
    """
    a, b = beta * logps.chosen_logratios, beta * logps.rejected_logratios
    return -F.logsigmoid(a - shift) - F.logsigmoid(shift - b)


def sppo_hard(logps: PairLogps, beta: float) -> Float[Tensor, "pairs"]:
    """(a - 1/(2 beta))^2 + (b + 1/(2 beta))^2, with beta = 1/eta.

    SPPO (Wu et al. 2024, eq. 4.7) with the win probability set to 1 for the chosen and 0 for
    the rejected answer, the constant Z dropped and the two squares summed, as in TRL.
    """
    half = 0.5 / beta
    return (logps.chosen_logratios - half) ** 2 + (logps.rejected_logratios + half) ** 2


def apo_zero(logps: PairLogps, beta: float) -> Float[Tensor, "pairs"]:
    """sigmoid(-beta a) + sigmoid(beta b): chosen up, rejected down, bounded.

    APO-zero (D'Oosterlinck et al. 2024, eq. 7), plus TRL's constant, so that it is 1 at the
    reference.
    """
    a, b = beta * logps.chosen_logratios, beta * logps.rejected_logratios
    return torch.sigmoid(-a) + torch.sigmoid(b)


def apo_down(logps: PairLogps, beta: float) -> Float[Tensor, "pairs"]:
    """sigmoid(beta a) + sigmoid(-beta (a - b)): both down, the rejected answer further.

    APO-down (D'Oosterlinck et al. 2024, eq. 8), plus TRL's constant. At the reference the
    gradient on the chosen answer is 0.
    """
    a, b = beta * logps.chosen_logratios, beta * logps.rejected_logratios
    return torch.sigmoid(a) + torch.sigmoid(b - a)


def kto(
    logps: PairLogps,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
    mismatched_logratios: Float[Tensor, "others"],
) -> Float[Tensor, "pairs"]:
    """(wd sigmoid(-beta (a - z0)) + wu sigmoid(beta (b - z0))) / 2, z0 detached.

    KTO (Ethayarajh et al. 2024, eq. 7 for the value), with a pair as one desirable and one
    undesirable answer, so the mean over pairs is the mean over answers. z0 = max(0, mean of
    `mismatched_logratios`), log pi/pi_ref of answers under prompts that they do not belong to:
    an estimate of the KL to the reference. It carries no gradient. 1/2 at the reference.
    """
    z0 = torch.relu(mismatched_logratios.mean()).detach()
    desirable = desirable_weight * torch.sigmoid(-beta * (logps.chosen_logratios - z0))
    undesirable = undesirable_weight * torch.sigmoid(beta * (logps.rejected_logratios - z0))
    return (desirable + undesirable) / 2


def kto_simplified(
    logps: PairLogps, beta: float, desirable_weight: float, undesirable_weight: float
) -> Float[Tensor, "pairs"]:
    """(wd sigmoid(-beta a) + wu sigmoid(beta b)) / 2: `kto` with z0 = 0, for teaching.

    Not the loss of Ethayarajh et al. 2024, whose z0 is measured; with both weights 1 it is half
    of `apo_zero`.
    """
    desirable = desirable_weight * torch.sigmoid(-beta * logps.chosen_logratios)
    undesirable = undesirable_weight * torch.sigmoid(beta * logps.rejected_logratios)
    return (desirable + undesirable) / 2


class RunningShift:
    """The shift d of `bco_pair`: the mean of all rewards seen so far, each counted once.

    As in the code of BCO's author, a batch is added before its own loss is computed. The state
    is two numbers, so a resumed run goes on exactly where it stopped. The loss depends on the
    order of batches through it.
    """

    def __init__(self, total: float = 0.0, count: int = 0) -> None:
        self.total, self.count = total, count

    def update(self, logps: PairLogps, beta: float) -> float:
        """Add a batch's 2 B rewards beta * log-ratio, and return the mean of all so far."""
        rewards = torch.cat([logps.chosen_logratios, logps.rejected_logratios]).detach() * beta
        self.total += float(rewards.double().sum())
        self.count += len(rewards)
        return self.total / self.count if self.count else 0.0

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint must hold; `RunningShift(**state)` makes it again."""
        return {"total": self.total, "count": self.count}
