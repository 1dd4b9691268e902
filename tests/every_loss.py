"""Every loss for a few steps, in as many processes as there are; writes the logged rows as JSON.

    every_loss.py MODEL PAIRS FILE

Started by a launcher or called, by test_processes.py. Each process has its part of batches of 8.
First with copies of a model (DDP), then some with shards of it (accelerate's FSDP).
"""

from __future__ import annotations

import copy
import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, gather_object
from torch.distributed.tensor import DTensor
from transformers import TrainingArguments

from dpo_lab.batching import encode_pairs, pair_rows
from dpo_lab.losses import LOSSES
from dpo_lab.models import SmallModelConfig, build_model, freeze_reference, load_tokenizer
from dpo_lab.pairs import read_pairs
from dpo_lab.scoring import ScoredPairs, score_responses
from dpo_lab.training.answers import AnswerTrainer
from dpo_lab.training.examples import Mismatches, attach_labels, attach_reference
from dpo_lab.training.mismatches import mismatched_pairs, mismatched_rows
from dpo_lab.training.moving_reference import MovingReference
from dpo_lab.training.objective import LossConfig
from dpo_lab.training.preference import PreferenceTrainer
from dpo_lab.training.processes import sharded

BATCH, STEPS, HELD_OUT = 8, 3, 11  # the last round of an evaluation is not full
SHARDED = ("dpo", "tdpo1", "aot", "labelled kto")


class World:
    """A policy, a reference that differs from it, and examples of both kinds with its scores."""

    def __init__(self, folder: str, file: str) -> None:
        tokenizer = load_tokenizer(folder)
        size = SmallModelConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
        self.policy = build_model(tokenizer, size, seed=1)
        self.reference = freeze_reference(build_model(tokenizer, size, seed=2))
        pairs, _ = encode_pairs(tokenizer, read_pairs(file)[0][:40], 64)
        margins = [0.5 * (1 + index % 3) for index in range(len(pairs))]
        others = Mismatches(mixed := mismatched_pairs(pairs, 64, 0), self.score(pair_rows(mixed)))
        reference = ScoredPairs(*self.score(pair_rows(pairs)).chunk(2))
        self.pairs = attach_reference(pairs, reference, margins, others)
        answers = [pair[index % 2] for index, pair in enumerate(pairs)]
        labels = [index % 3 > 0 for index in range(len(answers))]
        others = Mismatches(mixed := mismatched_rows(answers, 64, 0), self.score(mixed))
        self.answers = attach_labels(answers, labels, self.score(answers), others)

    def score(self, rows: list) -> torch.Tensor:
        # Lower than they are, so that KTO's reference point is above 0.
        return score_responses(self.reference, rows, 0, progress=False) - 3.0

    def trainer(self, case: str, folder: str, save: str = "no") -> PreferenceTrainer:
        """The trainer of a case: `labelled`, `moving`, or nothing, and the losses by name."""
        words = case.split()
        labelled, moving = "labelled" in words, "moving" in words
        losses = LossConfig({name: 1.0 for name in words if name in LOSSES})
        examples = self.answers if labelled else self.pairs
        if not losses.has("kto"):
            examples = [e._replace(mismatched=None, ref_mismatched_logps=None) for e in examples]
        kind = AnswerTrainer if labelled else PreferenceTrainer
        follower = MovingReference(copy.deepcopy(self.reference), 0.5, 1) if moving else None
        return kind(
            copy.deepcopy(self.policy),
            arguments(folder, save),
            losses,
            pad_id=0,
            reference=self.reference if losses.needs_reference_model else None,
            moving=follower,
            token_budget=None if losses.needs_logits or moving else 100,
            train_dataset=examples[HELD_OUT:],
            eval_dataset=examples[:HELD_OUT],
        )


def arguments(folder: str, save: str) -> TrainingArguments:
    """Plain gradient steps: Adam's first ones turn rounding into whole steps."""
    size = BATCH // PartialState(cpu=True).num_processes
    made = TrainingArguments(
        folder, per_device_train_batch_size=size, per_device_eval_batch_size=size,
        optim="sgd", learning_rate=0.3, lr_scheduler_type="constant", max_steps=STEPS,
        logging_steps=1, save_steps=STEPS - 1, save_strategy=save,
        report_to="none", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    if sharded() and made.distributed_state.num_processes > 1:
        # accelerate leaves FSDP out for processes that it knows to be on CPUs, without a word.
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    return made


def cases() -> list[str]:
    """All losses on pairs, on labelled answers where they can, and what goes other ways."""
    labelled = [f"labelled {name}" for name, spec in LOSSES.items() if spec.answers]
    return [*LOSSES, *labelled, "aot ld_dpo wpo", "beta_dpo sft", "moving dpo", "moving bco_pair"]


def trained(trainer: PreferenceTrainer, checkpoint: str | None = None) -> list[dict[str, float]]:
    """Train and evaluate; the logged rows. Raises where processes remember different things."""
    trainer.train(resume_from_checkpoint=checkpoint)
    trainer.evaluate()
    memories = gather_object([trainer.objective.state_dict()])
    assert all(memory == memories[0] for memory in memories), memories
    return trainer.state.log_history


def end(trainer: PreferenceTrainer) -> dict[str, float]:
    """How far the weights have come, each tensor: those that a run would save."""
    weights = trainer.whole_weights() or trainer.model.state_dict()
    return {name: weight.double().norm().item() for name, weight in weights.items()}


def use_shards() -> None:
    """What `accelerate launch --use_fsdp` says, where there are several processes."""
    if PartialState(cpu=True).num_processes > 1:
        os.environ["ACCELERATE_USE_FSDP"], os.environ["FSDP_VERSION"] = "true", "2"
        os.environ["FSDP_AUTO_WRAP_POLICY"] = "TRANSFORMER_BASED_WRAP"
        os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = "LlamaDecoderLayer"


def shards(world: World, case: str, folder: str) -> list[dict[str, float]]:
    """The same in shards, twice: in one go, and from a checkpoint on."""
    whole = world.trainer(case, folder, save="steps")
    rows = trained(whole)
    resumed = world.trainer(case, folder)
    again = trained(resumed, f"{folder}/checkpoint-{STEPS - 1}")
    if PartialState(cpu=True).num_processes > 1:
        kinds = {type(weight) for weight in resumed.model_wrapped.model.layers.parameters()}
        assert kinds == {DTensor}, kinds
    steps = [[row["loss"] for row in each if "loss" in row] for each in (rows, again)]
    assert steps[0] == steps[1], steps
    ends = end(whole), end(resumed)
    assert ends[0] == ends[1], ends
    return [*rows, ends[0]]


def main(folder: str, file: str, output: str) -> None:
    """All cases, one after another."""
    gc.freeze()  # each trainer collects garbage: not over all that was imported
    world = World(folder, file)
    rows: dict[str, Any] = {case: trained(world.trainer(case, f"{output}.run")) for case in cases()}
    use_shards()
    rows |= {f"sharded {case}": shards(world, case, f"{output}.run") for case in SHARDED}
    if PartialState(cpu=True).is_main_process:
        Path(output).write_text(json.dumps(rows))
    PartialState(cpu=True).destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
