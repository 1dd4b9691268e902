"""What samples of a policy say: KL, entropy, length, diversity, and who wins against whom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dpo_lab.checks import check_same_shape
from dpo_lab.errors import InputError
from dpo_lab.evaluation.intervals import Proportion


@dataclass(frozen=True)
class Estimate:
    """A sample mean and its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.error:.3f}"


def estimate(values: Float[Tensor, "samples"]) -> Estimate:
    """Mean and standard error of independent draws. Raises `InputError` for fewer than two."""
    if len(values) < 2:
        raise InputError(f"a standard error needs at least 2 values, got {len(values)}")
    values = values.double()
    return Estimate(values.mean().item(), values.std().item() / math.sqrt(len(values)))


@dataclass(frozen=True)
class KLEstimates:
    """KL(pi || pi_ref) in nats from samples of pi, three ways (Schulman 2020).

    With r = pi_ref / pi: k1 = -log r is unbiased. k2 = (log r)^2 / 2 is biased. k3 = r - 1 - log r
    is unbiased and never negative, but its variance explodes where the KL is large.
    """

    k1: Estimate
    k2: Estimate
    k3: Estimate


def sampled_kl(
    policy_logps: Float[Tensor, "samples"], ref_logps: Float[Tensor, "samples"]
) -> KLEstimates:
    """KL of two models from summed log-probabilities of answers that the first one drew."""
    check_same_shape(policy_logps=policy_logps, ref_logps=ref_logps)
    ratio = (policy_logps - ref_logps).double()
    return KLEstimates(
        estimate(ratio), estimate(0.5 * ratio**2), estimate(torch.expm1(-ratio) + ratio)
    )


@dataclass(frozen=True)
class Diversity:
    """How varied texts are.

    distinct_1, distinct_2: different words (pairs of words) over all words (pairs); Li et al.
    2016. It falls with the number of texts, so compare equal numbers. self_bleu: mean BLEU of
    each text against all others, 0 to 100; Zhu et al. 2018. High means alike.
    """

    distinct_1: float
    distinct_2: float
    self_bleu: float


def diversity(texts: Sequence[str]) -> Diversity:
    """Raises `InputError` for fewer than two texts."""
    if len(texts) < 2:
        raise InputError(f"diversity needs at least 2 texts, got {len(texts)}")
    return Diversity(_distinct(texts, 1), _distinct(texts, 2), _self_bleu(texts))


def _distinct(texts: Sequence[str], n: int) -> float:
    grams = [
        gram for text in texts for gram in zip(*(text.split()[k:] for k in range(n)), strict=False)
    ]
    return len(set(grams)) / len(grams) if grams else 0.0


def _self_bleu(texts: Sequence[str]) -> float:
    from sacrebleu import BLEU  # imported here: only this number needs it

    bleu = BLEU(effective_order=True)
    scores = [
        bleu.sentence_score(text, [*texts[:index], *texts[index + 1 :]]).score
        for index, text in enumerate(texts)
    ]
    return sum(scores) / len(scores)


@dataclass(frozen=True)
class WinRate:
    """How often one model's answer is judged better than another's to the same prompt.

    rate: ties one half; the interval is a percentile bootstrap over prompts, whose pairs stay
    together. at_equal_length: the rate that a logistic regression on the difference in length
    gives at difference 0, as in length-controlled AlpacaEval (Dubois et al. 2024).
    """

    rate: Proportion
    at_equal_length: Proportion
    prompts: int


def win_rate(
    scores: Float[Tensor, "prompts"],
    other_scores: Float[Tensor, "prompts"],
    lengths: Float[Tensor, "prompts"],
    other_lengths: Float[Tensor, "prompts"],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> WinRate:
    """Compare two models by a judge's scores of their answers to the same prompts.

    lengths: in any unit, the same for both. Raises `InputError` for shapes that differ and for
    fewer than two prompts.
    """
    check_same_shape(scores=scores, other_scores=other_scores, lengths=lengths)
    check_same_shape(lengths=lengths, other_lengths=other_lengths)
    if len(scores) < 2:
        raise InputError(f"a win rate needs at least 2 prompts, got {len(scores)}")
    gap = (scores - other_scores).double()
    wins = (gap > 0).double() + 0.5 * (gap == 0).double()
    longer = (lengths - other_lengths).double()
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(wins), (draws, len(wins)), generator=generator)
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    plain = torch.quantile(wins[picks].mean(1), ends).tolist()
    controlled = torch.quantile(_at_equal_length(wins[picks], longer[picks]), ends).tolist()
    centre = _at_equal_length(wins[None], longer[None]).item()
    return WinRate(
        Proportion(wins.mean().item(), *plain), Proportion(centre, *controlled), len(wins)
    )


def _at_equal_length(
    wins: Float[Tensor, "fits prompts"], longer: Float[Tensor, "fits prompts"]
) -> Float[Tensor, "fits"]:
    """sigmoid of the intercept of wins ~ 1 + longer, for many data sets at once.

    Newton's method; a small ridge keeps separable data finite. Lengths are in standard
    deviations, so the ridge means the same for every unit.
    """
    spread = longer.std(1, keepdim=True, correction=0).clamp(min=1e-12)
    features = torch.stack([torch.ones_like(longer), longer / spread], -1)
    weights = features.new_zeros(len(wins), 2)
    ridge = 1e-3 * torch.eye(2, dtype=features.dtype)
    for _ in range(30):
        p = torch.sigmoid((features @ weights[..., None]).squeeze(-1))
        gradient = ((wins - p)[..., None] * features).mean(1) - weights @ ridge
        curvature = features.mT @ ((p * (1 - p))[..., None] * features) / wins.shape[1] + ridge
        weights = weights + torch.linalg.solve(curvature, gradient)
    return torch.sigmoid(weights[:, 0])
