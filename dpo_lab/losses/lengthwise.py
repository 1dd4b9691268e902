"""Losses in which a length, an average a token, or the bare likelihood of an answer appears.

|y| is the number of response tokens, EOS included. Sums are over those tokens.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dpo_lab.losses.divergences import expm1_with_tangent
from dpo_lab.losses.logistic import dpo
from dpo_lab.losses.types import PairLogps

# An answer of probability 1 has infinite odds; the odds end here, one float32 step below 1.
LARGEST_MEAN_LOGP = -(2.0**-23)


def ipo_sum(logps: PairLogps, beta: float) -> Float[Tensor, "pairs"]:
    """(u_w - u_l - 1/(2 beta))^2 with summed log-ratios; beta is the paper's tau.

    IPO (Azar et al. 2024, eq. 17), as it is written there and in the DPO repository: the margin
    goes to a finite value, however clear the labels are. The default tau is that of HALOs, not
    read in the paper.
    """
    return (logps.logratio_differences - 0.5 / beta) ** 2


def ipo_avg(logps: PairLogps, beta: float) -> Float[Tensor, "pairs"]:
    """(u_w / |y_w| - u_l / |y_l| - 1/(2 beta))^2 with log-ratios averaged over tokens.

    IPO (Azar et al. 2024, eq. 17) as TRL computes it: its source says that the authors did so
    too, which was not read in the paper. The same beta means another strength than in `ipo_sum`.
    """
    return (_mean_logratio_differences(logps) - 0.5 / beta) ** 2


def sigmoid_norm(logps: PairLogps, beta: float) -> Float[Tensor, "pairs"]:
    """-log sigmoid(beta (u_w / |y_w| - u_l / |y_l|)): DPO on log-ratios averaged over tokens.

    Length-normalised DPO (Lambert et al. 2024, Tülu 3). Averages are small, so beta is large.
    """
    return -F.logsigmoid(beta * _mean_logratio_differences(logps))


def simpo(logps: PairLogps, beta: float, gamma_beta_ratio: float) -> Float[Tensor, "pairs"]:
    """-log sigmoid(beta (log pi_w / |y_w| - log pi_l / |y_l| - ratio)), ratio = gamma / beta.

    SimPO (Meng et al. 2024): no reference. TRL's `simpo_gamma` is gamma itself.
    """
    chosen, rejected = _mean_logps(logps)
    return -F.logsigmoid(beta * (chosen - rejected - gamma_beta_ratio))


def alphapo(
    logps: PairLogps, beta: float, alphapo_alpha: float, gamma_beta_ratio: float
) -> Float[Tensor, "pairs"]:
    """-log sigmoid(beta (r_w - r_l - ratio)), r = (1 - p^-alpha) / alpha, p = e^(log pi / |y|).

    AlphaPO (Gupta et al. 2025): no reference. For alpha -> 0, r is log p and the loss is `simpo`;
    alpha > 0 punishes improbable answers harder. p is the mean token probability in the
    geometric sense; with the whole answer's probability p^-alpha would overflow. The defaults
    are those of TRL's list of papers, not read in the paper.
    """
    chosen, rejected = _mean_logps(logps)
    if alphapo_alpha:
        chosen, rejected = (
            -expm1_with_tangent(-alphapo_alpha * logp) / alphapo_alpha
            for logp in (chosen, rejected)
        )
    return -F.logsigmoid(beta * (chosen - rejected - gamma_beta_ratio))


def rainbowpo(
    logps: PairLogps,
    beta: float,
    rainbow_alpha: float,
    rainbow_gamma: float,
    phi: Float[Tensor, "pairs"] | float = 1.0,
) -> Float[Tensor, "pairs"]:
    """-log sigmoid(beta phi (P - alpha R - (1 - alpha) gamma)).

    P and R are the differences of average log-probabilities, chosen minus rejected, under the
    policy and the reference. RainbowPO (Zhao et al. 2024), as in the authors' repository: with
    alpha = 1 it is `sigmoid_norm`, with alpha = 0 `simpo` with gamma / beta = gamma. phi is a
    weight of the prompt from the reference's entropy, and averages about 1.
    """
    chosen, rejected = _mean_logps(logps)
    reference = (
        logps.ref_chosen / logps.chosen_lengths - logps.ref_rejected / logps.rejected_lengths
    )
    home = (1 - rainbow_alpha) * rainbow_gamma
    return -F.logsigmoid(beta * phi * (chosen - rejected - rainbow_alpha * reference - home))


def ld_dpo(
    logps: PairLogps,
    beta: float,
    ld_alpha: float,
    policy_chosen_tokens: Float[Tensor, "pairs chosen_tokens"],
    policy_rejected_tokens: Float[Tensor, "pairs rejected_tokens"],
    ref_chosen_tokens: Float[Tensor, "pairs chosen_tokens"],
    ref_rejected_tokens: Float[Tensor, "pairs rejected_tokens"],
) -> Float[Tensor, "pairs"]:
    """DPO with the tokens beyond the shorter answer's length weighted by alpha in [0, 1].

    LD-DPO (Liu et al. 2024): log pi = sum_{t <= l} log pi(y_t) + alpha sum_{t > l} log pi(y_t),
    l = min(|y_w|, |y_l|). Tables hold one response token a column, the first at 0; columns after
    a response are not looked at. Policy and reference are weighted alike, as in TRL 1.16; other
    systems weight the policy only. Summaries of the paper call alpha = 0.5 best for Llama-3-8B
    Instruct; this and its other models' alphas were not read in the paper.
    """
    shared = torch.minimum(logps.chosen_lengths, logps.rejected_lengths)

    def weighted(table: Tensor, lengths: Tensor) -> Tensor:
        place = torch.arange(table.shape[1], device=table.device)
        one, less = table.new_tensor(1.0), table.new_tensor(ld_alpha)
        weights = torch.where(place < shared[:, None], one, less)
        return (table * weights).masked_fill(place >= lengths[:, None], 0.0).sum(1)

    chosen = weighted(policy_chosen_tokens - ref_chosen_tokens, logps.chosen_lengths)
    rejected = weighted(policy_rejected_tokens - ref_rejected_tokens, logps.rejected_lengths)
    return -F.logsigmoid(beta * (chosen - rejected))


def orpo(logps: PairLogps, beta: float) -> Float[Tensor, "pairs"]:
    """-l_w - beta log sigmoid(logit(e^l_w) - logit(e^l_l)), l = log pi(y) / |y|; no reference.

    ORPO (Hong et al. 2024, eq. 4 for the odds and 7 for their ratio); beta is the paper's
    lambda. The first term is each chosen answer's mean NLL; TRL takes it over prompt and answer
    of the whole micro-batch. Averages above -2^-23 count as -2^-23: odds of e^16. The equations'
    numbers are TRL's, not read in the paper.
    """
    chosen, rejected = _mean_logps(logps)
    return -chosen - beta * F.logsigmoid(_log_odds(chosen) - _log_odds(rejected))


def cpo(logps: PairLogps, beta: float, cpo_alpha: float) -> Float[Tensor, "pairs"]:
    """-log sigmoid(beta (log pi_w - log pi_l)) - alpha log pi_w, summed; no reference.

    CPO (Xu et al. 2024): L_prefer + L_NLL, the NLL of the chosen answer summed over its tokens.
    TRL's trainer, by a CPO author, takes the token mean over the micro-batch instead. Whether the
    paper means the sum was not read in the paper.
    """
    preference = -F.logsigmoid(beta * (logps.policy_chosen - logps.policy_rejected))
    return preference - cpo_alpha * logps.policy_chosen


def slic(logps: PairLogps, beta: float, slic_lambda: float) -> Float[Tensor, "pairs"]:
    """max(0, beta - log pi_w + log pi_l) - lambda log pi_w; beta is the paper's delta.

    SLiC-HF (Zhao et al. 2023), regularised towards the chosen answer as in HALOs; no reference.
    At the kink the slope of the hinge is taken as 0. The defaults are those of HALOs, not read in
    the paper.
    """
    distance = beta - logps.policy_chosen + logps.policy_rejected
    return torch.relu(distance) - slic_lambda * logps.policy_chosen


def sft(logps: PairLogps, beta: float) -> Float[Tensor, "pairs"]:
    """-log pi_w / |y_w|: the chosen answer's mean NLL a token; beta has no effect.

    The supervised part of a mixture such as MPO (Wang et al. 2024: 0.8 dpo, 0.2 bco_pair,
    1.0 sft; weights as TRL reports them from its section 7, not read in the paper). TRL's `sft`
    averages over all chosen tokens of the micro-batch at once instead.
    """
    return -logps.policy_chosen / logps.chosen_lengths


def rpo(logps: PairLogps, beta: float, rpo_alpha: float) -> Float[Tensor, "pairs"]:
    """-log sigmoid(m) - alpha log pi_w / |y_w|: DPO plus the chosen answer's mean NLL.

    Iterative RPO (Pang et al. 2024). alpha stands on the likelihood, not on DPO.
    """
    return dpo(logps, beta) - rpo_alpha * logps.policy_chosen / logps.chosen_lengths


def _mean_logps(logps: PairLogps) -> tuple[Float[Tensor, "pairs"], Float[Tensor, "pairs"]]:
    return (
        logps.policy_chosen / logps.chosen_lengths,
        logps.policy_rejected / logps.rejected_lengths,
    )


def _mean_logratio_differences(logps: PairLogps) -> Float[Tensor, "pairs"]:
    chosen = logps.chosen_logratios / logps.chosen_lengths
    return chosen - logps.rejected_logratios / logps.rejected_lengths


def _log_odds(logp: Float[Tensor, "pairs"]) -> Float[Tensor, "pairs"]:
    """log(p / (1 - p)) from log p; each branch sees only values where it is accurate."""
    logp = logp.clamp(max=LARGEST_MEAN_LOGP)
    likely = logp > -math.log(2)
    near_one = torch.log(-torch.expm1(torch.where(likely, logp, -1.0)))
    near_zero = torch.log1p(-torch.exp(torch.where(likely, -1.0, logp)))
    return logp - torch.where(likely, near_one, near_zero)
