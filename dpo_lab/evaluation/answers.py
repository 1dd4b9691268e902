"""How well implicit rewards tell good from bad answers where labels come one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from dpo_lab.evaluation.intervals import Proportion, rank_probability
from dpo_lab.losses import AnswerLogps
from dpo_lab.pairs import UnpairedExample


@dataclass(frozen=True)
class AnswerEvaluation:
    """Held-out good and bad answers.

    rank: probability that a random good answer has a higher implicit reward than a random bad
    one, ties one half. The two usually answer different prompts, and the implicit reward is
    known only up to a constant of the prompt: read it with that in mind.
    longer: the same for the number of characters.
    reward_good, reward_bad: means of beta log pi/pi_ref.
    """

    good: int
    bad: int
    rank: Proportion
    longer: Proportion
    reward_good: float
    reward_bad: float

    def to_dict(self) -> dict:
        """Plain numbers, ready for JSON."""
        return asdict(self)

    def table(self) -> str:
        """The evaluation as plain text."""
        return "\n".join(
            [
                f"held-out answers                  {self.good} good, {self.bad} bad",
                f"a good one outranks a bad one     {self.rank}",
                f"baseline: the longer one is good  {self.longer}",
                f"mean implicit reward of good      {self.reward_good:+.3f}",
                f"mean implicit reward of bad       {self.reward_bad:+.3f}",
                "(brackets: 95 % bootstrap intervals; ranks mix prompts, whose rewards have "
                "constants of their own)",
            ]
        )


def evaluate_answers(
    examples: Sequence[UnpairedExample], logps: AnswerLogps, beta: float
) -> AnswerEvaluation:
    """Compare implicit rewards and lengths of good and bad answers.

    Raises `InputError` unless there are both.
    """
    good = logps.labels
    rewards = beta * logps.logratios.double()
    characters = rewards.new_tensor([float(len(example.completion)) for example in examples])
    return AnswerEvaluation(
        good=int(good.sum()),
        bad=int((~good).sum()),
        rank=rank_probability(rewards[good], rewards[~good]),
        longer=rank_probability(characters[good], characters[~good]),
        reward_good=rewards[good].mean().item(),
        reward_bad=rewards[~good].mean().item(),
    )
