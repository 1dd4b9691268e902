"""What differs between a run on pairs and a run on labelled answers."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from dpo_lab.batching import EncodedPair, EncodedResponse, pair_rows
from dpo_lab.evaluation import (
    AnswerEvaluation,
    PairEvaluation,
    evaluate_answers,
    evaluate_pairs,
    pair_logps,
)
from dpo_lab.fast import score_packed, why_not_fast
from dpo_lab.lazy_rows import beside, picked
from dpo_lab.losses import AnswerLogps
from dpo_lab.packing import packed_size
from dpo_lab.scoring import ScoredPairs, score_responses
from dpo_lab.training.answers import AnswerTrainer
from dpo_lab.training.config import TrainConfig
from dpo_lab.training.examples import (
    AnswerExample,
    Mismatches,
    PreferenceExample,
    attach_labels,
    attach_reference,
)
from dpo_lab.training.mismatches import mismatched_pairs, mismatched_rows
from dpo_lab.training.objective import LossConfig
from dpo_lab.training.preference import PreferenceTrainer
from dpo_lab.training.processes import shared_out
from dpo_lab.training.reference import reference_logps
from dpo_lab.training.run_data import Encoded, EncodedData, Part

RefLogps = Float[Tensor, "rows"] | None


class TaskExamples(NamedTuple):
    """Both parts ready for the trainer, and the held-out part's reference log-probabilities."""

    train: Sequence[PreferenceExample] | Sequence[AnswerExample]
    held_out: Sequence[PreferenceExample] | Sequence[AnswerExample]
    held_out_logps: RefLogps


@dataclass(frozen=True)
class Task:
    """A run's losses on its encoded data; `PairTask` and `AnswerTask` say the rest.

    token_budget: packed tokens a piece on the fast path; None for the plain path.
    """

    losses: LossConfig
    data: EncodedData
    pad_id: int
    config: TrainConfig
    token_budget: int | None = None

    def why_plain(self, model: PreTrainedModel) -> str | None:
        """Why this run must do without the fast path, or None: the reason is for people to read.

        Looks at the losses, and compares both paths on the first batch and the longest example.
        """
        if self.config.fast_path == "off":
            return "asked for"
        if self.losses.needs_logits:
            return f"{' + '.join(self.losses.weights)} reads whole logits"
        if self.config.sync_ref_model:
            return "the moving reference runs beside the policy"
        rows = self.data.train.encoded
        longest = max(itertools.chain(rows, self.data.held_out.encoded), key=packed_size)
        first = rows[: min(4, self.config.per_device_train_batch_size)]
        return why_not_fast(model, [*first, longest], self.pad_id, self.config.precision())

    def examples(self, reference: PreTrainedModel | None) -> TaskExamples:
        """Examples with what the reference says about them."""
        made, logps = [], None
        for part in (self.data.train, self.data.held_out):
            logps = None
            if reference is not None:
                logps = self._reference(reference, part.encoded, self.token_budget)
            mismatches = None
            if "mismatched_logratios" in self.losses.inputs:
                others = self.mismatched(part)
                mismatches = Mismatches(others, self._reference(reference, others, None))
            made.append(self.attach(part, logps, mismatches))
        return TaskExamples(*made, logps)

    def _reference(
        self, model: PreTrainedModel, encoded: Encoded, budget: int | None
    ) -> Float[Tensor, "rows"]:
        """The reference's sums, computed as training computes the policy's, or from the cache."""
        how = f"{self.config.precision()} {'padded' if budget is None else 'packed'}"

        def score() -> Float[Tensor, "rows"]:
            return shared_out(len(encoded), score_some).flatten()

        def score_some(numbers: list[int]) -> Float[Tensor, "sides numbers"]:
            some = picked(encoded, numbers)
            return self._score(model, some, budget, "reference log-probs").view(-1, len(some))

        return reference_logps(model, rows_of(encoded), score, how)

    def _score(
        self, model: nn.Module, encoded: Encoded, budget: int | None, description: str
    ) -> Float[Tensor, "rows"]:
        said = {"description": description, "precision": self.config.precision()}
        if budget is not None:
            return score_packed(model, encoded, budget, **said)
        size = 2 * self.config.per_device_train_batch_size
        return score_responses(model, rows_of(encoded), self.pad_id, batch_size=size, **said)

    def score_held_out(self, policy: nn.Module) -> Float[Tensor, "rows"]:
        """Log-probabilities of the held-out rows under the trained policy."""
        return self._score(policy, self.data.held_out.encoded, self.token_budget, "held-out")


class PairTask(Task):
    """Pairs: both answers of a prompt stand in one example."""

    trainer = PreferenceTrainer

    def mismatched(self, part: Part) -> Encoded:
        return mismatched_pairs(part.encoded, self.config.max_length, self.config.seed)

    def attach(
        self, part: Part, ref_logps: RefLogps, mismatches: Mismatches | None
    ) -> Sequence[PreferenceExample]:
        reference = None if ref_logps is None else ScoredPairs(*ref_logps.chunk(2))
        margins = None
        if "score_difference" in self.losses.inputs:
            margins = array("d", (pair.margin for pair in part.examples))
        return attach_reference(part.encoded, reference, margins, mismatches)

    def evaluate(self, policy: nn.Module, ref_logps: RefLogps) -> PairEvaluation:
        """Held-out ranking by the reward of the first loss."""
        part = self.data.held_out
        scored = ScoredPairs(*self.score_held_out(policy).chunk(2))
        reference = None if ref_logps is None else ScoredPairs(*ref_logps.chunk(2))
        logps = pair_logps(part.encoded, scored, reference)
        first = next(iter(self.losses.weights))
        return evaluate_pairs(part.examples, logps, self.losses.reward_beta, first)


class AnswerTask(Task):
    """Labelled answers: each stands alone."""

    trainer = AnswerTrainer

    def mismatched(self, part: Part) -> Encoded:
        return mismatched_rows(part.encoded, self.config.max_length, self.config.seed)

    def attach(
        self, part: Part, ref_logps: RefLogps, mismatches: Mismatches | None
    ) -> Sequence[AnswerExample]:
        labels = beside(bool, array("b", (example.label for example in part.examples)))
        return attach_labels(part.encoded, labels, ref_logps, mismatches)

    def evaluate(self, policy: nn.Module, ref_logps: RefLogps) -> AnswerEvaluation:
        """Held-out ranking of good and bad answers by implicit reward."""
        part = self.data.held_out
        scored = self.score_held_out(policy)
        labels = ref_logps.new_tensor([example.label for example in part.examples]).bool()
        logps = AnswerLogps(scored, ref_logps, labels)
        return evaluate_answers(part.examples, logps, self.losses.reward_beta)


def rows_of(encoded: Encoded) -> Sequence[EncodedResponse]:
    """The sequences of encoded examples, in the order in which they are scored."""
    return pair_rows(encoded) if isinstance(encoded[0], EncodedPair) else encoded


def prepare_task(
    losses: LossConfig, data: EncodedData, pad_id: int, config: TrainConfig
) -> PairTask | AnswerTask:
    """The task that the data ask for."""
    is_pairs = hasattr(data.train.encoded[0], "chosen")
    return (PairTask if is_pairs else AnswerTask)(losses, data, pad_id, config)
