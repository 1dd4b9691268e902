"""Any loss of the table on finitely many answers: exact over the data, and descended step by step.

A policy over A answers is a vector of logits; a data set is a table of how often answer i was
chosen over answer j. So the loss is one exact number, and gradient descent can be followed
without sampling noise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dpo_lab.boltzmann import kl
from dpo_lab.checks import check_distribution, check_finite, check_same_shape
from dpo_lab.errors import InputError
from dpo_lab.losses import PairLogps, compute_loss, find_loss
from dpo_lab.losses.checking import settle_options
from dpo_lab.population import check_pair_tables

OPTIMISERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}


def expected_preferences(
    pair_probs: Float[Tensor, "answers answers"],
    win_probs: Float[Tensor, "answers answers"],
    flip_rate: float = 0.0,
) -> Float[Tensor, "answers answers"]:
    """Probability that a drawn pair is labelled "i chosen, j rejected"; the table sums to 1.

    pair_probs, win_probs: as in `population_dpo_loss`. flip_rate in [0, 1]: the share of labels
    turned round, at random.
    """
    check_pair_tables(pair_probs, win_probs, len(pair_probs))
    if not 0 <= flip_rate <= 1:
        raise InputError(f"flip_rate must lie in [0, 1], got {flip_rate}")
    shown = (1 - flip_rate) * win_probs + flip_rate * win_probs.T
    return (pair_probs + pair_probs.T) * shown


def counted_preferences(
    won: Int[Tensor, "votes"], lost: Int[Tensor, "votes"], answers: int
) -> Float[Tensor, "answers answers"]:
    """Share of the votes that say "i chosen, j rejected"; the table sums to 1."""
    check_same_shape(won=won, lost=lost)
    if not len(won):
        raise InputError("there are no votes to count")
    counts = torch.bincount(won * answers + lost, minlength=answers * answers)
    return counts.double().reshape(answers, answers) / len(won)


class TabularLoss:
    """The mean of the loss `name` over a table of preferences, as a function of the policy.

        loss = TabularLoss("dpo", ref_logps, preferences, beta=0.5)
        loss(policy_logps)                               # a scalar that can be differentiated

    preferences[i, j]: the weight of "i chosen over j", as the two functions above make it.
    lengths: (answers,), 1 if left out. inputs: what the loss needs besides, one (answers,
    answers) table each, read at [chosen, rejected]. KTO's reference point is the exact KL of the
    policy, which its mismatched answers estimate; weights of WPO are those of one-token answers.
    Raises `InputError` for what `compute_loss` refuses, and for a loss whose pairs meet in a
    batch: a table has no batches.
    """

    def __init__(
        self,
        name: str,
        ref_logps: Float[Tensor, "answers"],
        preferences: Float[Tensor, "answers answers"],
        beta: float | None = None,
        *,
        lengths: Int[Tensor, "answers"] | None = None,
        inputs: Mapping[str, Float[Tensor, "answers answers"]] | None = None,
        **options: float,
    ) -> None:
        spec = find_loss(name)
        self._own_input = OWN_INPUTS.get(spec.function.__name__)
        if not spec.accumulation_invariant and self._own_input is None:
            raise InputError(f"the pairs of loss {name!r} meet in a batch, which a table lacks")
        check_distribution(ref_logps=ref_logps)
        _check_preferences(preferences, len(ref_logps))
        self.ref_logps = ref_logps
        self.won, self.lost = preferences.nonzero().unbind(-1)
        self.weights = preferences[self.won, self.lost]
        lengths = torch.ones(len(ref_logps), dtype=torch.long) if lengths is None else lengths
        self._chosen_lengths, self._rejected_lengths = lengths[self.won], lengths[self.lost]
        self._inputs = {k: v[self.won, self.lost] for k, v in (inputs or {}).items()}
        beta = spec.beta if beta is None else beta
        # Checked once, at the reference; a step of the descent then costs the formula alone.
        compute_loss(
            name, self._logps(ref_logps), beta, inputs=self._all_inputs(ref_logps), **options
        )
        self._function = partial(
            spec.function, beta=beta, **settle_options(name, spec, beta, options)
        )

    def __call__(self, policy_logps: Float[Tensor, "answers"]) -> Float[Tensor, ""]:
        losses = self._function(self._logps(policy_logps), **self._all_inputs(policy_logps))
        return self.weights @ losses

    def _logps(self, policy_logps: Tensor) -> PairLogps:
        return PairLogps(
            policy_logps[self.won],
            policy_logps[self.lost],
            self.ref_logps[self.won],
            self.ref_logps[self.lost],
            self._chosen_lengths,
            self._rejected_lengths,
        )

    def _all_inputs(self, policy_logps: Tensor) -> dict[str, Tensor]:
        own = self._own_input(self, policy_logps) if self._own_input else {}
        return {**self._inputs, **own}


def _exact_kl(loss: TabularLoss, policy_logps: Tensor) -> dict[str, Tensor]:
    return {"mismatched_logratios": kl(policy_logps, loss.ref_logps)[None]}


def _position_kls(loss: TabularLoss, policy_logps: Tensor) -> dict[str, Tensor]:
    """One token, one position: both answers of a pair have the same KL(pi_ref || pi)."""
    both = kl(loss.ref_logps, policy_logps).expand(len(loss.won))
    return {"chosen_kl": both, "rejected_kl": both}


def _one_token_weights(loss: TabularLoss, policy_logps: Tensor) -> dict[str, Tensor]:
    weights = (policy_logps - torch.logsumexp(2 * policy_logps, -1)).exp().detach()
    return {"chosen_weights": weights[loss.won], "rejected_weights": weights[loss.lost]}


# Inputs that follow from the policy itself, by the loss's function.
OWN_INPUTS: Mapping[str, Callable[[TabularLoss, Tensor], dict[str, Tensor]]] = {
    "kto": _exact_kl,
    "tdpo1": _position_kls,
    "tdpo2": _position_kls,
    "wpo": _one_token_weights,
}


class Descent(NamedTuple):
    """Policies on the way: step numbers, log-probabilities and losses at them."""

    steps: Int[Tensor, "records"]
    policy_logps: Float[Tensor, "records answers"]
    losses: Float[Tensor, "records"]


def descend(
    loss: Callable[[Float[Tensor, "answers"]], Float[Tensor, ""]],
    initial_logits: Float[Tensor, "answers"],
    *,
    steps: int,
    learning_rate: float,
    optimiser: Literal["sgd", "adam"] = "sgd",
    record: Sequence[int] | None = None,
) -> Descent:
    """Minimise `loss` of log softmax(logits) by full-batch steps, and keep what was passed.

    record: the steps to keep, from 0 (before the first) to `steps`; all if left out. "sgd" is
    plain gradient descent; "adam" is torch's with its default decay rates. Raises `InputError`
    where a step leaves the finite numbers: the learning rate is too high, or the loss has no
    lower bound.
    """
    check_finite(initial_logits=initial_logits)
    if optimiser not in OPTIMISERS:
        raise InputError(f"optimiser must be one of {', '.join(OPTIMISERS)}, got {optimiser!r}")
    if steps < 0 or not learning_rate > 0:
        raise InputError(f"need steps >= 0, learning_rate > 0; got {steps}, {learning_rate}")
    kept = range(steps + 1) if record is None else sorted(set(record))
    if kept and not 0 <= kept[0] <= kept[-1] <= steps:
        raise InputError(f"record must lie between 0 and {steps}, got {kept[0]} to {kept[-1]}")
    wanted = set(kept)
    logits = initial_logits.detach().clone().requires_grad_()
    stepper = OPTIMISERS[optimiser]([logits], lr=learning_rate)
    policies, losses = [], []
    for step in range(steps + 1):
        policy_logps = torch.log_softmax(logits, -1)
        value = loss(policy_logps)
        if step in wanted:
            policies.append(policy_logps.detach())
            losses.append(value.detach())
        if step == steps:
            break
        (logits.grad,) = torch.autograd.grad(value, logits)
        stepper.step()
        if not bool(torch.isfinite(logits).all()):
            raise InputError(f"step {step + 1} of the descent left the finite numbers")
    return Descent(torch.tensor(list(kept)), torch.stack(policies), torch.stack(losses))


def _check_preferences(preferences: Tensor, answers: int) -> None:
    if preferences.shape != (answers, answers):
        raise InputError(f"preferences must have shape ({answers}, {answers})")
    check_finite(preferences=preferences)
    if bool((preferences < 0).any()) or abs(float(preferences.sum()) - 1) > 1e-6:
        raise InputError("preferences must be at least 0 and sum to 1")
    if bool((preferences.diagonal() != 0).any()):
        raise InputError("preferences has an entry on its diagonal: a pair needs two answers")
