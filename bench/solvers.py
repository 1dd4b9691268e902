"""The toy solvers beside SciPy: Bradley-Terry's maximum likelihood, and DPO's exact minimum.

    python bench/solvers.py [--output FILE.json]

SciPy gets the same loss and its exact gradient (BFGS). Both must arrive at the same policy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from dpo_lab import bradley_terry
from dpo_lab.bench.tables import Table, publish
from dpo_lab.population import minimise_population_dpo, population_dpo_loss, uniform_pairs

SIZES, BETA, TOLERANCE = (4, 16, 64), 0.5, 1e-4


def by_scipy(loss: Callable[[Tensor], Tensor], size: int) -> Tensor:
    """The minimum over `size` numbers, from zeros."""

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        point = torch.tensor(x, requires_grad=True)
        value = loss(point)
        value.backward()
        return value.item(), point.grad.numpy()

    options: dict[str, Any] = {"gtol": 1e-9}
    found = minimize(value_and_gradient, np.zeros(size), jac=True, method="BFGS", options=options)
    return torch.tensor(found.x)


def milliseconds(run: Callable[[], Tensor], times: int = 5) -> tuple[float, Tensor]:
    """Of the fastest of a few calls, and its result."""
    best = float("inf")
    for _ in range(times):
        begin = time.perf_counter()
        result = run()
        best = min(best, time.perf_counter() - begin)
    return 1000 * best, result


def row(name: str, ours: Callable[[], Tensor], theirs: Callable[[], Tensor]) -> tuple[str, ...]:
    """One problem, both solvers, after they agree."""
    (own, found), (other, expected) = milliseconds(ours), milliseconds(theirs)
    apart = (found - expected).abs().max().item()
    if not apart < TOLERANCE:
        raise SystemExit(f"{name}: the minima differ by {apart:.1e}")
    return name, f"{own:.2f}", f"{other:.2f}", f"{other / own:.1f}", f"{apart:.0e}"


def main() -> None:
    """Both problems at each size."""
    rows = []
    for size in SIZES:
        generator = torch.Generator().manual_seed(size)
        rewards = torch.randn(size, generator=generator, dtype=torch.float64)
        wins = 20 * bradley_terry.win_matrix(rewards).fill_diagonal_(0)
        rows.append(
            row(
                f"Bradley-Terry, {size} items",
                lambda wins=wins: bradley_terry.fit(wins).rewards,
                lambda wins=wins, size=size: _centred(
                    by_scipy(lambda r: -bradley_terry.log_likelihood(r, wins) / wins.sum(), size)
                ),
            )
        )
        ref = torch.randn(size, generator=generator, dtype=torch.float64).log_softmax(-1)
        pairs, wins_ = uniform_pairs(size), bradley_terry.win_matrix(rewards)
        given = (ref, pairs, wins_, BETA)
        rows.append(
            row(
                f"population DPO, {size} answers",
                lambda given=given: minimise_population_dpo(*given).policy_logps,
                lambda given=given, size=size: by_scipy(
                    lambda x: population_dpo_loss((given[0] + x).log_softmax(-1), *given), size
                ).add(given[0]).log_softmax(-1),
            )
        )  # fmt: skip
    header = ("", "dpo_lab ms", "SciPy ms", "× SciPy", "apart")
    publish(Table(header, rows, "The fastest of five calls each, in float64."))


def _centred(rewards: Tensor) -> Tensor:
    return rewards - rewards.mean()


if __name__ == "__main__":
    main()
