"""What goes into a loss, what comes out, and the description of one loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor


class PairLogps(NamedTuple):
    """Log-probabilities of B pairs, summed over response tokens with EOS, in nats.

    The reference's entries are None for a loss that needs no reference; the lengths (response
    tokens, EOS included) are None for a loss that needs none.
    """

    policy_chosen: Float[Tensor, "pairs"]
    policy_rejected: Float[Tensor, "pairs"]
    ref_chosen: Float[Tensor, "pairs"] | None = None
    ref_rejected: Float[Tensor, "pairs"] | None = None
    chosen_lengths: Int[Tensor, "pairs"] | None = None
    rejected_lengths: Int[Tensor, "pairs"] | None = None

    @property
    def chosen_logratios(self) -> Float[Tensor, "pairs"]:
        """log pi(chosen) - log pi_ref(chosen)."""
        return self.policy_chosen - self.ref_chosen

    @property
    def rejected_logratios(self) -> Float[Tensor, "pairs"]:
        """log pi(rejected) - log pi_ref(rejected)."""
        return self.policy_rejected - self.ref_rejected

    @property
    def logratio_differences(self) -> Float[Tensor, "pairs"]:
        """Chosen minus rejected log-ratio: the margin before beta."""
        return self.chosen_logratios - self.rejected_logratios


class AnswerLogps(NamedTuple):
    """Summed log-probabilities of single answers in nats; a label is true for a good answer."""

    policy: Float[Tensor, "answers"]
    reference: Float[Tensor, "answers"]
    labels: Bool[Tensor, "answers"]

    @property
    def logratios(self) -> Float[Tensor, "answers"]:
        """log pi(y|x) - log pi_ref(y|x)."""
        return self.policy - self.reference


class AnswerOutput(NamedTuple):
    """One loss an answer, and the implicit rewards beta * log-ratio, detached."""

    losses: Float[Tensor, "answers"]
    rewards: Float[Tensor, "answers"]


class LossOutput(NamedTuple):
    """One loss a pair, and the implicit rewards beta * log-ratio, detached, for the metrics."""

    losses: Float[Tensor, "pairs"]
    chosen_rewards: Float[Tensor, "pairs"]
    rejected_rewards: Float[Tensor, "pairs"]


class Option(NamedTuple):
    """A hyperparameter besides beta: its default, the interval it must lie in, and the source."""

    default: float
    interval: str
    source: str


class Input(NamedTuple):
    """A tensor besides the log-probabilities of `PairLogps`.

    shape: "pairs" is one number a pair, "list" any number of numbers, "tokens" a table with one
    row a pair and one column a response token. A `required` input has no default.
    """

    shape: Literal["pairs", "list", "tokens"]
    interval: str
    meaning: str
    required: bool = True


@dataclass(frozen=True)
class LossSpec:
    """What one loss is, where it comes from, and what it needs.

    paper: author and year, as in the book's bibliography where the book cites it; arxiv: its
    number, or an address. equation: where the paper states the loss, or what it is called there.
    beta: the default, from the paper unless `unconfirmed` says otherwise.
    options, inputs: what `compute_loss` accepts besides. needs: of "reference" and "lengths".
    option_as: other spellings of an option, and how to turn value and beta into that option.
    optimum: the population minimiser for a pair whose first answer wins with probability p.
    accumulation_invariant: whether micro-batches give the gradient of one large batch.
    unconfirmed: what was not read in the paper or its code.
    answers: the loss of single answers with a label each, where there is one.
    """

    function: Callable[..., Float[Tensor, "pairs"]]
    summary: str
    paper: str
    arxiv: str
    equation: str
    beta: float
    optimum: str
    options: Mapping[str, Option] = field(default_factory=lambda: MappingProxyType({}))
    inputs: Mapping[str, Input] = field(default_factory=lambda: MappingProxyType({}))
    needs: frozenset[str] = frozenset({"reference"})
    option_as: Mapping[str, tuple[str, Callable[[float, float], float]]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    accumulation_invariant: bool = True
    unconfirmed: str = ""
    answers: Callable[..., Float[Tensor, "answers"]] | None = None

    @property
    def required_inputs(self) -> list[str]:
        """Inputs without which the loss cannot be computed."""
        return [name for name, what in self.inputs.items() if what.required]

    @property
    def option_names(self) -> list[str]:
        """All that may be given as an option, in either spelling."""
        return [*self.options, *self.option_as]
