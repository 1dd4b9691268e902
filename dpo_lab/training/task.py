"""What differs between a run on pairs and a run on labelled answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from dpo_lab.batching import EncodedResponse, pair_rows
from dpo_lab.evaluation import (
    AnswerEvaluation,
    PairEvaluation,
    evaluate_answers,
    evaluate_pairs,
    pair_logps,
)
from dpo_lab.losses import AnswerLogps
from dpo_lab.scoring import ScoredPairs, score_responses
from dpo_lab.training.answers import AnswerTrainer
from dpo_lab.training.config import TrainConfig
from dpo_lab.training.examples import (
    AnswerExample,
    Mismatches,
    PreferenceExample,
    attach_labels,
    attach_reference,
    mismatched_pairs,
    mismatched_rows,
)
from dpo_lab.training.objective import LossConfig
from dpo_lab.training.preference import PreferenceTrainer
from dpo_lab.training.reference import reference_logps
from dpo_lab.training.run_data import EncodedData, Part

RefLogps = Float[Tensor, "rows"] | None


class TaskExamples(NamedTuple):
    """Both parts ready for the trainer, and the held-out part's reference log-probabilities."""

    train: list[PreferenceExample] | list[AnswerExample]
    held_out: list[PreferenceExample] | list[AnswerExample]
    held_out_logps: RefLogps


@dataclass(frozen=True)
class Task:
    """A run's losses on its encoded data; `PairTask` and `AnswerTask` say the rest."""

    losses: LossConfig
    data: EncodedData
    pad_id: int
    config: TrainConfig

    def examples(self, reference: PreTrainedModel | None) -> TaskExamples:
        """Examples with what the reference says about them."""
        made, logps = [], None
        for part in (self.data.train, self.data.held_out):
            logps = None
            if reference is not None:
                logps = self._score(reference, self.rows(part))
            mismatches = None
            if "mismatched_logratios" in self.losses.inputs:
                others = self.mismatched(part)
                rows = self.rows(Part(part.examples, others))
                mismatches = Mismatches(others, self._score(reference, rows))
            made.append(self.attach(part, logps, mismatches))
        return TaskExamples(*made, logps)

    def _score(
        self, reference: PreTrainedModel, rows: Sequence[EncodedResponse]
    ) -> Float[Tensor, "rows"]:
        size = 2 * self.config.per_device_train_batch_size
        return reference_logps(
            reference, rows, self.pad_id, batch_size=size, precision=self.config.precision()
        )

    def score_held_out(self, policy: nn.Module) -> Float[Tensor, "rows"]:
        """Log-probabilities of the held-out rows under the trained policy."""
        return score_responses(
            policy,
            self.rows(self.data.held_out),
            self.pad_id,
            batch_size=2 * self.config.per_device_train_batch_size,
            description="held-out",
            precision=self.config.precision(),
        )


class PairTask(Task):
    """Pairs: both answers of a prompt stand in one example."""

    trainer = PreferenceTrainer

    def rows(self, part: Part) -> list[EncodedResponse]:
        return pair_rows(part.encoded)

    def mismatched(self, part: Part) -> list:
        return mismatched_pairs(part.encoded, self.config.max_length, self.config.seed)

    def attach(
        self, part: Part, ref_logps: RefLogps, mismatches: Mismatches | None
    ) -> list[PreferenceExample]:
        reference = None if ref_logps is None else ScoredPairs(*ref_logps.chunk(2))
        margins = [pair.margin for pair in part.examples]
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

    def rows(self, part: Part) -> list[EncodedResponse]:
        return list(part.encoded)

    def mismatched(self, part: Part) -> list:
        return mismatched_rows(part.encoded, self.config.max_length, self.config.seed)

    def attach(
        self, part: Part, ref_logps: RefLogps, mismatches: Mismatches | None
    ) -> list[AnswerExample]:
        labels = [example.label for example in part.examples]
        return attach_labels(part.encoded, labels, ref_logps, mismatches)

    def evaluate(self, policy: nn.Module, ref_logps: RefLogps) -> AnswerEvaluation:
        """Held-out ranking of good and bad answers by implicit reward."""
        part = self.data.held_out
        scored = self.score_held_out(policy)
        labels = ref_logps.new_tensor([example.label for example in part.examples]).bool()
        logps = AnswerLogps(scored, ref_logps, labels)
        return evaluate_answers(part.examples, logps, self.losses.reward_beta)


def prepare_task(
    losses: LossConfig, data: EncodedData, pad_id: int, config: TrainConfig
) -> PairTask | AnswerTask:
    """The task that the data ask for."""
    is_pairs = hasattr(data.train.encoded[0], "chosen")
    return (PairTask if is_pairs else AnswerTask)(losses, data, pad_id, config)
