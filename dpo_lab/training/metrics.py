"""What a run logs, under TRL's names, and the means of it between two logged rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from dpo_lab.losses import AnswerLogps, AnswerOutput, LossOutput, PairLogps


def pair_metrics(
    logps: PairLogps, output: LossOutput, extra: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """One number a pair and metric.

    TRL's rewards/{chosen, rejected, margins, accuracies} and logps/{chosen, rejected}; besides,
    lengths/* (response tokens, EOS included) and, with a reference, logps_ref/* and logratios/*.
    rewards/accuracies counts strict wins: a tie is 0. kl is KTO's z0 before it is cut at 0.
    """
    values = {
        "rewards/chosen": output.chosen_rewards,
        "rewards/rejected": output.rejected_rewards,
        "rewards/margins": output.chosen_rewards - output.rejected_rewards,
        "rewards/accuracies": output.chosen_rewards > output.rejected_rewards,
        "logps/chosen": logps.policy_chosen,
        "logps/rejected": logps.policy_rejected,
        "lengths/chosen": logps.chosen_lengths,
        "lengths/rejected": logps.rejected_lengths,
    }
    if logps.ref_chosen is not None:
        values |= {
            "logps_ref/chosen": logps.ref_chosen,
            "logps_ref/rejected": logps.ref_rejected,
            "logratios/chosen": logps.chosen_logratios,
            "logratios/rejected": logps.rejected_logratios,
        }
    return values | _kl(extra)


def answer_metrics(
    logps: AnswerLogps, output: AnswerOutput, extra: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """One number a good answer for */chosen, one a bad answer for */rejected, as in TRL's KTO."""
    values = {}
    for side, of in (("chosen", logps.labels), ("rejected", ~logps.labels)):
        values |= {
            f"rewards/{side}": output.rewards[of],
            f"logps/{side}": logps.policy[of],
            f"logps_ref/{side}": logps.reference[of],
            f"logratios/{side}": logps.logratios[of],
        }
    return values | _kl(extra)


def gradient_weight(
    logps: PairLogps | AnswerLogps, output: LossOutput | AnswerOutput
) -> dict[str, Tensor]:
    """grad_weight: how hard the loss pushes each chosen (or single) answer up.

    Minus the derivative of the loss by log pi: beta sigmoid(-m) for DPO, negative where an
    answer is pushed down. Nothing without a gradient, and for a loss of token tables.
    """
    policy = logps.policy if isinstance(logps, AnswerLogps) else logps.policy_chosen
    if not output.losses.requires_grad:
        return {}
    (slope,) = torch.autograd.grad(
        output.losses.sum(), policy, retain_graph=True, allow_unused=True
    )
    return {} if slope is None else {"grad_weight": -slope}


def _kl(extra: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"kl": extra["mismatched_logratios"]} if "mismatched_logratios" in extra else {}


def first_rows(columns: Any, count: int) -> Any:
    """The first `count` rows of a named tuple of columns."""
    return type(columns)(*(None if column is None else column[:count] for column in columns))


class Means:
    """Running means; the sums stay on the device, so nothing waits for it."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add every number of every metric."""
        for name, value in values.items():
            total = value.detach().float().sum()
            both = torch.stack([total, total.new_tensor(float(value.numel()))])
            self._sums[name] = self._sums.get(name, 0.0) + both

    def take(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Means since the last call, over all processes; a metric without numbers is left out."""
        if not self._sums:
            return {}
        totals = reduce(torch.stack(list(self._sums.values()))).tolist()
        names, self._sums = list(self._sums), {}
        means = {
            name: total / count for name, (total, count) in zip(names, totals, strict=True) if count
        }
        sides = ("rewards/chosen", "rewards/rejected")
        if "rewards/margins" not in names and means.keys() >= set(sides):
            # Of unpaired answers: the difference of means, as in TRL.
            means["rewards/margins"] = means[sides[0]] - means[sides[1]]
        return means
