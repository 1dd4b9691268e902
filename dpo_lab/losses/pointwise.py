"""Losses that judge the chosen and the rejected answer each on its own.

With a and b the log-ratios of the chosen and the rejected answer, these fix or push a and b
separately, not only their difference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from dpo_lab.losses.types import PairLogps


def nca_pair(logps: PairLogps, beta: float) -> Float[Tensor, "pairs"]:
    """-log sigmoid(beta a) - (log sigmoid(-beta a) + log sigmoid(-beta b)) / 2.

    NCA for two answers (Chen et al. 2024). It pulls beta a to log(2 p), not to infinity.
    """
    a, b = beta * logps.chosen_logratios, beta * logps.rejected_logratios
    return -F.logsigmoid(a) - 0.5 * F.logsigmoid(-a) - 0.5 * F.logsigmoid(-b)


def bco_answers(
    logratios: Float[Tensor, "answers"], labels: Bool[Tensor, "answers"], beta: float, shift: float
) -> Float[Tensor, "answers"]:
    """-log sigmoid(beta u - d) of a good answer, -log sigmoid(d - beta u) of a bad one.

    BCO (Jung et al. 2024): a classifier of good and bad answers; d = shift in units of reward.
    """
    away = beta * logratios - shift
    return -F.logsigmoid(torch.where(labels, away, -away))


def bco_pair(logps: PairLogps, beta: float, shift: float) -> Float[Tensor, "pairs"]:
    """-log sigmoid(beta a - d) - log sigmoid(d - beta b): `bco_answers` of both, summed.

    BCO (Jung et al. 2024). The paper's d is the mean of the average chosen and rejected reward,
    which `RunningShift` follows; TRL has d = 0. The default beta is that of TRL's list of
    papers, not read in the paper.
    """
    return _of_both(bco_answers, logps, beta=beta, shift=shift)


def sppo_hard(logps: PairLogps, beta: float) -> Float[Tensor, "pairs"]:
    """(a - 1/(2 beta))^2 + (b + 1/(2 beta))^2, with beta = 1/eta.

    SPPO (Wu et al. 2024, eq. 4.7) with the win probability set to 1 for the chosen and 0 for
    the rejected answer, the constant Z dropped and the two squares summed, as in TRL, to which
    an author of SPPO gave this form.
    """
    half = 0.5 / beta
    return (logps.chosen_logratios - half) ** 2 + (logps.rejected_logratios + half) ** 2


def apo_zero_answers(
    logratios: Float[Tensor, "answers"], labels: Bool[Tensor, "answers"], beta: float
) -> Float[Tensor, "answers"]:
    """sigmoid(-beta u) of a good answer, sigmoid(beta u) of a bad one.

    APO-zero (D'Oosterlinck et al. 2024, eq. 7) on single answers: TRL's apo_zero_unpaired.
    """
    return torch.sigmoid(torch.where(labels, -beta * logratios, beta * logratios))


def apo_zero(logps: PairLogps, beta: float) -> Float[Tensor, "pairs"]:
    """sigmoid(-beta a) + sigmoid(beta b): chosen up, rejected down, bounded.

    APO-zero (D'Oosterlinck et al. 2024, eq. 7), plus TRL's constant, so that it is 1 at the
    reference. The equation's number is an author's, in TRL; the default beta is that of TRL's
    list of papers, not read in the paper.
    """
    return _of_both(apo_zero_answers, logps, beta=beta)


def apo_down(logps: PairLogps, beta: float) -> Float[Tensor, "pairs"]:
    """sigmoid(beta a) + sigmoid(-beta (a - b)): both down, the rejected answer further.

    APO-down (D'Oosterlinck et al. 2024, eq. 8), plus TRL's constant. At the reference the
    gradient on the chosen answer is 0. The equation's number and the default beta are TRL's,
    not read in the paper.
    """
    a, b = beta * logps.chosen_logratios, beta * logps.rejected_logratios
    return torch.sigmoid(a) + torch.sigmoid(b - a)


def kto_answers(
    logratios: Float[Tensor, "answers"],
    labels: Bool[Tensor, "answers"],
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
    mismatched_logratios: Float[Tensor, "others"],
) -> Float[Tensor, "answers"]:
    """wd sigmoid(-beta (u - z0)) of a good answer, wu sigmoid(beta (u - z0)) of a bad one.

    KTO (Ethayarajh et al. 2024, eq. 7 for the value). z0 = max(0, mean of
    `mismatched_logratios`), log pi/pi_ref of answers under prompts that they do not belong to:
    an estimate of the KL to the reference. It carries no gradient. 1/2 at the reference.
    """
    z0 = torch.relu(mismatched_logratios.mean()).detach()
    ahead = beta * (logratios - z0)
    weights = torch.where(
        labels, ahead.new_tensor(desirable_weight), ahead.new_tensor(undesirable_weight)
    )
    return weights * torch.sigmoid(torch.where(labels, -ahead, ahead))


def kto(
    logps: PairLogps,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
    mismatched_logratios: Float[Tensor, "others"],
) -> Float[Tensor, "pairs"]:
    """Half the sum of `kto_answers` of the chosen, as good, and the rejected answer, as bad.

    KTO (Ethayarajh et al. 2024, eq. 7) on pairs; so the mean over pairs is the mean over answers.
    The equation's number is TRL's, not read in the paper.
    """
    settings = {"desirable_weight": desirable_weight, "undesirable_weight": undesirable_weight}
    both = _of_both(
        kto_answers, logps, beta=beta, mismatched_logratios=mismatched_logratios, **settings
    )
    return both / 2


def kto_simplified_answers(
    logratios: Float[Tensor, "answers"], labels: Bool[Tensor, "answers"], **settings: float
) -> Float[Tensor, "answers"]:
    """`kto_answers` with z0 = 0, for teaching; `settings` are beta and the two weights.

    Not the loss of Ethayarajh et al. 2024, whose z0 is measured; with both weights 1 it is
    `apo_zero_answers`.
    """
    return kto_answers(logratios, labels, **settings, mismatched_logratios=logratios.new_zeros(1))


def kto_simplified(logps: PairLogps, beta: float, **weights: float) -> Float[Tensor, "pairs"]:
    """(wd sigmoid(-beta a) + wu sigmoid(beta b)) / 2: `kto` with z0 = 0, for teaching.

    Not the loss of Ethayarajh et al. 2024, whose z0 is measured; with both weights 1 it is half
    of `apo_zero`. The number of the paper's equation is TRL's, not read in the paper.
    """
    return _of_both(kto_simplified_answers, logps, beta=beta, **weights) / 2


def _of_both(
    answers: Callable[..., Float[Tensor, "pairs"]], logps: PairLogps, **settings: Any
) -> Float[Tensor, "pairs"]:
    """A loss of single answers, summed over the chosen (good) and the rejected (bad) one."""
    good = torch.ones_like(logps.policy_chosen, dtype=torch.bool)
    return answers(logps.chosen_logratios, good, **settings) + answers(
        logps.rejected_logratios, ~good, **settings
    )


class RunningShift:
    """The shift d of BCO: the mean of all rewards seen so far, each counted once.

    As in the code of BCO's author, a batch is added before its own loss is computed. The state
    is two numbers, so a resumed run goes on exactly where it stopped. The loss depends on the
    order of batches through it.
    """

    def __init__(self, total: float = 0.0, count: float = 0.0) -> None:
        self.total, self.count = total, count

    def update(self, total: float, count: float) -> float:
        """Add the sum and the number of a batch's rewards; return the mean of all so far."""
        self.total += total
        self.count += count
        return self.total / self.count if self.count else 0.0

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint must hold; `RunningShift(**state)` makes it again."""
        return {"total": self.total, "count": self.count}
