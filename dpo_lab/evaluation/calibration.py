"""Whether the probabilities that implicit rewards imply are right: reliability and ECE."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dpo_lab.checks import check_finite, check_same_shape
from dpo_lab.errors import InputError


@dataclass(frozen=True)
class Reliability:
    """Pairs by how sure the margin is of its winner.

    edges: (bins + 1,) confidences sigmoid(|m|) from 1/2 to 1. confidence, accuracy: (bins,) means
    in each, NaN where it is empty. counts: (bins,). error: the expected calibration error, the
    mean of |confidence - accuracy| over pairs (Guo et al. 2017).
    """

    edges: Float[Tensor, "edges"]
    confidence: Float[Tensor, "bins"]
    accuracy: Float[Tensor, "bins"]
    counts: Int[Tensor, "bins"]
    error: float

    def rows(self) -> list[dict[str, float]]:
        """One row a bin that is not empty: its edges, its pairs, confidence and share right."""
        columns = zip(
            self.edges[:-1].tolist(),
            self.edges[1:].tolist(),
            self.counts.tolist(),
            self.confidence.tolist(),
            self.accuracy.tolist(),
            strict=True,
        )
        names = ("low", "high", "pairs", "confidence", "accuracy")
        return [dict(zip(names, row, strict=True)) for row in columns if row[2]]


def reliability(margins: Float[Tensor, "pairs"], bins: int = 10) -> Reliability:
    """Compare sigmoid(|margin|), the implied probability of the winner, with how often it won.

    A margin of 0 predicts nothing: it counts as half right at confidence 1/2. Raises
    `InputError` for no margins, margins that are not finite, and bins < 1.
    """
    check_finite(margins=margins)
    if not len(margins) or bins < 1:
        raise InputError(f"need a margin and a bin, got {len(margins)} and {bins}")
    margins = margins.double()
    sure = torch.sigmoid(margins.abs())
    right = (margins > 0).double() + 0.5 * (margins == 0).double()
    edges = torch.linspace(0.5, 1.0, bins + 1, dtype=torch.float64)
    which = torch.bucketize(sure, edges[1:-1], right=True)
    counts = torch.bincount(which, minlength=bins)
    confidence, accuracy = (
        torch.zeros(bins, dtype=torch.float64).index_add(0, which, values) / counts
        for values in (sure, right)
    )
    gaps = (confidence - accuracy).abs().nan_to_num() * counts
    return Reliability(edges, confidence, accuracy, counts, gaps.sum().item() / len(margins))


def correlation(
    first: Float[Tensor, "values"], second: Float[Tensor, "values"]
) -> tuple[float, float]:
    """Pearson's and Spearman's correlation; NaN where one side does not vary."""
    check_same_shape(first=first, second=second)
    pearson = torch.corrcoef(torch.stack([first, second]).double())[0, 1].item()
    ranks = torch.stack([_mid_ranks(first), _mid_ranks(second)])
    return pearson, torch.corrcoef(ranks)[0, 1].item()


def _mid_ranks(values: Float[Tensor, "values"]) -> Float[Tensor, "values"]:
    """Ranks from 0; equal values share the mean of theirs."""
    order = values.sort().values.contiguous()
    values = values.contiguous()
    below = torch.searchsorted(order, values)
    return (below + torch.searchsorted(order, values, right=True) - 1).double() / 2
