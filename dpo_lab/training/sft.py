"""Supervised fine-tuning: maximum likelihood of the chosen answers, the start of every DPO run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, TrainingArguments

from dpo_lab.batching import EncodedResponse, collate
from dpo_lab.logprobs import response_mask
from dpo_lab.training.checkpoints import (
    CheckpointMarker,
    ResumableTrainer,
    closed_progress,
    last_complete_checkpoint,
    use_readable_progress,
)
from dpo_lab.training.processes import on_cpu

IGNORED = -100  # transformers' label for a position that does not count


@dataclass(frozen=True)
class SFTConfig:
    """Settings of the supervised stage; batch sizes are answers per device."""

    num_train_epochs: float = 3.0
    learning_rate: float = 1e-3
    per_device_train_batch_size: int = 16
    seed: int = 0


def train_sft(
    model: PreTrainedModel,
    examples: Sequence[EncodedResponse],
    pad_id: int,
    config: SFTConfig,
    checkpoints: Path,
) -> float:
    """Train `model` in place on the responses of `examples` and return the last mean loss.

    The loss is the mean negative log-probability per response token of the batch, EOS included;
    prompt tokens are not trained on. Goes on from the newest complete checkpoint, if there is one.
    """

    def to_batch(rows: list[EncodedResponse]) -> dict[str, Tensor]:
        batch = collate(rows, pad_id)
        mask = response_mask(batch.starts, batch.ends, batch.input_ids.shape[1])
        return {
            "input_ids": batch.input_ids,
            "attention_mask": batch.attention_mask,
            "position_ids": batch.position_ids,
            "labels": batch.input_ids.masked_fill(~mask, IGNORED),
        }

    trainer = ResumableTrainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(checkpoints),
            num_train_epochs=config.num_train_epochs,
            learning_rate=config.learning_rate,
            per_device_train_batch_size=config.per_device_train_batch_size,
            lr_scheduler_type="cosine",
            warmup_steps=0.05,  # a number below 1 is a share of all steps
            weight_decay=0.0,
            logging_steps=0.1,
            save_strategy="epoch",
            save_total_limit=2,
            seed=config.seed,
            report_to="none",
            remove_unused_columns=False,
            dataloader_pin_memory=torch.cuda.is_available(),
            use_cpu=on_cpu(),
        ),
        train_dataset=examples,
        data_collator=to_batch,
        callbacks=[CheckpointMarker()],
    )
    use_readable_progress(trainer)
    with closed_progress(trainer):
        result = trainer.train(resume_from_checkpoint=last_complete_checkpoint(checkpoints))
    return result.training_loss
