"""The configured loss of a run: one or a weighted sum, what it needs, and what it remembers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from dpo_lab.batching import Batch
from dpo_lab.logprobs import answer_weights, response_table, sequence_kls, token_logps
from dpo_lab.losses import (
    AnswerLogps,
    AnswerOutput,
    LossOutput,
    PairLogps,
    RunningMargin,
    RunningShift,
    compute_answer_loss,
    compute_weighted_loss,
    find_loss,
)

KLS = {"chosen_kl", "rejected_kl"}
WEIGHTS = {"chosen_weights", "rejected_weights"}
POLICY_TABLES = {"policy_chosen_tokens", "policy_rejected_tokens"}
REF_TABLES = {"ref_chosen_tokens", "ref_rejected_tokens"}


@dataclass(frozen=True)
class LossConfig:
    """Losses of `dpo_lab.losses.LOSSES` with their weights, one beta for all, and options."""

    weights: Mapping[str, float] = field(default_factory=lambda: {"dpo": 1.0})
    beta: float | None = None
    options: Mapping[str, float] = field(default_factory=dict)

    @property
    def inputs(self) -> set[str]:
        """Required inputs of all losses."""
        return {key for name in self.weights for key in find_loss(name).required_inputs}

    @property
    def needs_reference(self) -> bool:
        """Whether any of the losses compares with a reference."""
        return any("reference" in find_loss(name).needs for name in self.weights)

    @property
    def needs_reference_model(self) -> bool:
        """Whether the reference must run beside the policy: its sums alone are not enough."""
        return bool(self.inputs & (KLS | REF_TABLES))

    @property
    def needs_logits(self) -> bool:
        """Whether any of the losses reads more of the policy than one number an answer."""
        return bool(self.inputs & (KLS | WEIGHTS | POLICY_TABLES | REF_TABLES))

    @property
    def splittable(self) -> bool:
        """Whether a batch may be computed in pieces: no loss looks at the others of its batch."""
        follows = self.has("bco_pair") and "shift" not in self.options
        return not follows and all(find_loss(name).accumulation_invariant for name in self.weights)

    @property
    def reward_beta(self) -> float:
        """Beta of the logged rewards: the given one, else the first loss's own."""
        return find_loss(next(iter(self.weights))).beta if self.beta is None else self.beta

    @property
    def settled_beta(self) -> float | None:
        """Beta to write down: of one loss its own where none was given; several have several."""
        return self.reward_beta if len(self.weights) == 1 else self.beta

    def has(self, name: str) -> bool:
        """Whether the loss `name` of the table is among the losses, under any of its names."""
        return any(find_loss(given) is find_loss(name) for given in self.weights)


class Objective:
    """Evaluates the configured losses on batches, and carries what they remember between them.

    `bco_pair` without the option `shift` follows the mean reward (`RunningShift`), and
    `beta_dpo` without `margin_threshold` its moving mean (`RunningMargin`); both are part of a
    checkpoint. They move in training only. Of several processes each must be shown the whole
    batch (`joined.of_all_processes`), so that all remember the same.
    """

    def __init__(self, config: LossConfig) -> None:
        self.config = config
        options = config.options
        self.shift = RunningShift() if config.has("bco_pair") and "shift" not in options else None
        moving = config.has("beta_dpo") and "margin_threshold" not in options
        self.margin = RunningMargin() if moving else None

    def of_pairs(
        self, logps: PairLogps, inputs: Mapping[str, Tensor], *, training: bool
    ) -> tuple[PairLogps, LossOutput]:
        """The unreduced loss, and the pairs it stands for: all, or those that beta-DPO draws."""
        options = dict(self.config.options)
        if self.margin is not None:
            if training:
                kept = self.margin.update(logps.logratio_differences)
                logps = PairLogps(*(None if c is None else c[kept] for c in logps))
                inputs = {key: value[kept] for key, value in inputs.items()}
            options["margin_threshold"] = self.margin.mean
        if self.shift is not None:
            ratios = torch.cat([logps.chosen_logratios, logps.rejected_logratios])
            options["shift"] = self._moved_shift(ratios, training)
        config = self.config
        output = compute_weighted_loss(config.weights, logps, config.beta, inputs=inputs, **options)
        return logps, output

    def of_answers(
        self, logps: AnswerLogps, inputs: Mapping[str, Tensor], *, training: bool
    ) -> AnswerOutput:
        """The unreduced loss of labelled answers; a run on them has one loss, of weight 1."""
        options = dict(self.config.options)
        if self.shift is not None:
            options["shift"] = self._moved_shift(logps.logratios, training)
        (name,) = self.config.weights
        return compute_answer_loss(name, logps, self.config.beta, inputs=inputs, **options)

    def _moved_shift(self, logratios: Tensor, training: bool) -> float:
        if not training:
            return self.shift.update(0.0, 0.0)
        total = self.config.reward_beta * logratios.detach().double().sum()
        return self.shift.update(total.item(), float(len(logratios)))

    def state_dict(self) -> dict[str, dict[str, float]]:
        """What a checkpoint must hold besides weights and optimiser."""
        parts = {"shift": self.shift, "margin": self.margin}
        return {name: part.state_dict() for name, part in parts.items() if part is not None}

    def load_state_dict(self, state: Mapping[str, Mapping[str, float]]) -> None:
        """Go on from `state_dict` of an objective with the same configuration."""
        if self.shift is not None:
            self.shift = RunningShift(**state["shift"])
        if self.margin is not None:
            self.margin = RunningMargin(**state["margin"])


def at_reference(logps: PairLogps | AnswerLogps) -> tuple[PairLogps | AnswerLogps, float]:
    """The log-probabilities if the policy were the reference, and the largest log-ratio there is.

    Without a reference: the same, and 0.
    """
    if isinstance(logps, AnswerLogps):
        return logps._replace(policy=logps.reference), logps.logratios.abs().max().item()
    if logps.ref_chosen is None:
        return logps, 0.0
    largest = torch.cat([logps.chosen_logratios, logps.rejected_logratios]).abs().max()
    known = logps._replace(policy_chosen=logps.ref_chosen, policy_rejected=logps.ref_rejected)
    return known, largest.item()


def inputs_from_logits(
    wanted: set[str],
    batch: Batch,
    logits: Float[Tensor, "rows tokens vocab"],
    ref_logits: Float[Tensor, "rows tokens vocab"] | None,
) -> dict[str, Tensor]:
    """Those of the `wanted` inputs that follow from both answers' logits.

    Rows are B chosen, then B rejected. `ref_logits` are needed for KLs and reference tables.
    """
    spans = (batch.starts, batch.ends)
    made: dict[str, Tensor] = {}
    if wanted & KLS:
        made |= _both_sides("{}_kl", sequence_kls(ref_logits, logits, *spans))
    if wanted & WEIGHTS:
        weights = answer_weights(logits, batch.input_ids, *spans)
        made |= _both_sides("{}_weights", weights)
    tables = {"policy": (POLICY_TABLES, logits), "ref": (REF_TABLES, ref_logits)}
    for who, (names, values) in tables.items():
        if wanted & names:
            table = response_table(token_logps(values, batch.input_ids), *spans)
            made |= _both_sides(who + "_{}_tokens", table)
    return made


def _both_sides(pattern: str, rows: Tensor) -> dict[str, Tensor]:
    chosen, rejected = rows.chunk(2)
    return {pattern.format("chosen"): chosen, pattern.format("rejected"): rejected}
