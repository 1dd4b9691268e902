"""What tiny reviews can show about preference training, each effect over several seeds.

    python bench/world.py --seeds 3

One row a seed and setting: margin on the training pairs at the end, KL, length and true reward of
200 of the policy's own answers, with standard errors. Nothing is selected; a seed in which an
effect does not appear is printed like the others.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments, set_seed
from transformers.utils.logging import disable_progress_bar

from dpo_lab import reviews
from dpo_lab.batching import encode_pairs
from dpo_lab.models import freeze_reference, load_policy, load_tokenizer
from dpo_lab.pairs import PreferencePair
from dpo_lab.sampling import sample_responses
from dpo_lab.scoring import score_pairs
from dpo_lab.training.examples import attach_reference
from dpo_lab.training.objective import LossConfig
from dpo_lab.training.preference import PreferenceTrainer
from dpo_lab.training.sample_metrics import SampleMetrics
from dpo_lab.training.starting_model import MAX_LENGTH, StartConfig, starting_model

BATCH, SAMPLES = 16, 200


@dataclass(frozen=True)
class World:
    """The tuned model that every run starts from."""

    reference: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    def fresh(self) -> PreTrainedModel:
        """A policy equal to the reference."""
        return load_policy(self.reference.name_or_path)


def train(
    world: World,
    policy: PreTrainedModel,
    pairs: list[PreferencePair],
    *,
    beta: float,
    steps: int,
    rate: float = 5e-4,
    seed: int = 0,
) -> float:
    """DPO in place; the mean margin of the last logged steps."""
    encoded, _ = encode_pairs(world.tokenizer, pairs, MAX_LENGTH)
    examples = attach_reference(encoded, score_pairs(world.reference, encoded, 0, progress=False))
    set_seed(seed)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        arguments = TrainingArguments(
            folder,
            max_steps=steps,
            per_device_train_batch_size=BATCH,
            learning_rate=rate,
            lr_scheduler_type="linear",
            warmup_steps=0.1,  # a share of all steps, as `dpo-lab train` has it
            weight_decay=0.0,
            logging_steps=max(1, steps // 10),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = PreferenceTrainer(
            policy, arguments, LossConfig({"dpo": 1.0}, beta), 0, token_budget=4096,
            train_dataset=examples,
        )  # fmt: skip
        trainer.train()
    return [row["rewards/margins"] for row in trainer.state.log_history if "loss" in row][-1]


def measure(world: World, policy: PreTrainedModel) -> dict[str, float]:
    """KL, length and true reward of the policy's own answers."""
    things = list(reviews.KIND)
    prompts = [f"the {things[i % len(things)]}" for i in range(SAMPLES)]
    return SampleMetrics(
        world.reference, world.tokenizer, prompts, seed=7, gold=reviews.true_reward
    )(policy)


def show(label: str, seed: int, margin: float | None, found: dict[str, float]) -> None:
    """One row of the table."""
    numbers = [
        f"{'-' if margin is None else f'{margin:.2f}':>6}",
        f"{found['kl/policy']:6.2f} ± {found['kl/policy_error']:.2f}",
        f"{found['lengths/policy']:5.1f}",
        f"{found['gold/reward']:6.2f} ± {found['gold/reward_error']:.2f}",
    ]
    print("  ".join([f"{label:<34} {seed:>4}", *numbers]), flush=True)


def run(
    world: World, label: str, seed: int, pairs: list[PreferencePair], **settings: float
) -> None:
    """Train from the reference on given pairs, and show what came of it."""
    policy = world.fresh()
    margin = train(world, policy, pairs, seed=seed, **settings)
    show(label, seed, margin, measure(world, policy))


def own_pairs(world: World, policy: PreTrainedModel, count: int, seed: int) -> list[PreferencePair]:
    """Two answers of the policy to each of `count` prompts, labelled on the true reward."""
    prompts = [pair.prompt for pair in reviews.sample_pairs(count, seed=seed)]
    drawn = [
        sample_responses(policy, world.tokenizer, prompts, seed=2 * seed + k, progress=False)
        for k in range(2)
    ]
    return reviews.label_answers(prompts, drawn[0].texts, drawn[1].texts, seed=seed)


def on_policy(world: World, seed: int, rounds: int = 3) -> None:
    """The same number of pairs and steps: all from the world's speakers, or each round's own."""
    each, steps = 320, 20
    settings = {"beta": 0.3, "steps": rounds * steps}
    speakers = reviews.sample_pairs(rounds * each, seed=100 + seed)
    run(world, "pairs of the world's speakers", seed, speakers, **settings)
    drawn = own_pairs(world, world.reference, rounds * each, 200 + seed)
    run(world, "pairs of the reference", seed, drawn, **settings)
    policy, margin = world.fresh(), None
    for number in range(rounds):
        pairs = own_pairs(world, policy, each, 300 + 10 * seed + number)
        margin = train(world, policy, pairs, beta=0.3, steps=steps, seed=seed)
    show("pairs of the policy, 3 rounds", seed, margin, measure(world, policy))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    seeds = range(parser.parse_args().seeds)
    disable_progress_bar()
    folder = starting_model(StartConfig())
    world = World(freeze_reference(load_policy(folder)), load_tokenizer(folder))
    print(f"{'':<34} seed  margin  KL, nats       tokens  true reward")
    show("reference", 0, None, measure(world, world.reference))
    for seed in seeds:
        many = reviews.sample_pairs(960, seed=20 + seed)
        for beta in (0.1, 0.3, 1.0, 3.0):
            run(world, f"beta {beta}", seed, many, beta=beta, steps=60)
        few = many[:80]
        for steps in (30, 90):
            run(world, f"80 pairs, beta 0.05, {steps} steps", seed, few, beta=0.05, steps=steps)
        for bonus in (0.0, 0.5):
            pairs = reviews.sample_pairs(960, seed=40 + seed, length_bonus=bonus)
            run(world, f"length bonus {bonus}, beta 1", seed, pairs, beta=1.0, steps=60)
        for flips in (0.0, 0.3):
            pairs = reviews.sample_pairs(960, seed=60 + seed, flip_rate=flips)
            run(world, f"flipped labels {flips}, beta 1", seed, pairs, beta=1.0, steps=60)
        on_policy(world, seed)


if __name__ == "__main__":
    main()
