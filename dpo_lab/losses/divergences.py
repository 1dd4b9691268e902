"""f-DPO: DPO with another divergence than the reverse KL as the price of moving.

Wang et al. 2023: -log sigmoid(beta f'(w_chosen) - beta f'(w_rejected)), w = pi / pi_ref = e^u.
The reverse KL has f'(w) = log w up to a constant, which is DPO. Constants cancel in a pair.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dpo_lab.losses.types import PairLogps

# Above e^50 an exponential goes on along its tangent: float32 ends at e^88, and a log-ratio of
# -1e4 nats must still give a finite loss and a finite, downhill gradient.
LARGEST_EXPONENT = 50.0


def fdpo_forward_kl(logps: PairLogps, beta: float) -> Float[Tensor, "pairs"]:
    """-log sigmoid(beta (exp(-u_l) - exp(-u_w))): forward KL, f'(w) = -1/w.

    Wang et al. 2023. Exponentials above e^50 are continued by their tangent.
    """
    difference = expm1_with_tangent(-logps.rejected_logratios) - expm1_with_tangent(
        -logps.chosen_logratios
    )
    return -F.logsigmoid(beta * difference)


def fdpo_js(logps: PairLogps, beta: float) -> Float[Tensor, "pairs"]:
    """-log sigmoid(beta (log sigmoid(u_w) - log sigmoid(u_l))): Jensen-Shannon.

    Wang et al. 2023: f'(w) = log(2 w / (1 + w)) = log 2 + log sigmoid(log w).
    """
    difference = F.logsigmoid(logps.chosen_logratios) - F.logsigmoid(logps.rejected_logratios)
    return -F.logsigmoid(beta * difference)


def fdpo_alpha(logps: PairLogps, beta: float, f_alpha: float) -> Float[Tensor, "pairs"]:
    """-log sigmoid(beta (exp(-alpha u_l) - exp(-alpha u_w)) / alpha), alpha in (0, 1).

    Wang et al. 2023: f'(w) = (1 - w^-alpha) / alpha, the paper's alpha: towards 0 it is the
    reverse KL, at 1 the forward KL. TRL's `f_alpha_divergence_coef` is 1 - alpha. The default is
    the middle of the 0.3, 0.5 and 0.7 that the authors' scripts run; a recommendation was not
    read in the paper.
    """
    chosen, rejected = (
        -expm1_with_tangent(-f_alpha * u) / f_alpha
        for u in (logps.chosen_logratios, logps.rejected_logratios)
    )
    return -F.logsigmoid(beta * (chosen - rejected))


def expm1_with_tangent(x: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs"]:
    """e^x - 1 up to x = 50, and the tangent from there on; exact for small x."""
    below = torch.expm1(x.clamp(max=LARGEST_EXPONENT))
    beyond = torch.relu(x - LARGEST_EXPONENT)
    return below + beyond * math.exp(LARGEST_EXPONENT)
