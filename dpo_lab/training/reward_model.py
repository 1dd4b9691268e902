"""An explicit reward model: a transformer with one number on top, fitted by Bradley-Terry.

It stands beside the implicit reward of a DPO run of the same size: both are fitted to the same
pairs by the same likelihood, one through a scalar head, the other through log-ratios.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

from dpo_lab.batching import Batch, EncodedPair, EncodedResponse, collate
from dpo_lab.errors import InputError
from dpo_lab.models import disable_dropout
from dpo_lab.training.checkpoints import use_readable_progress


@dataclass(frozen=True)
class RewardModelConfig:
    """Settings of the fit; a batch counts pairs per device."""

    num_train_epochs: float = 1.0
    learning_rate: float = 3e-4
    per_device_train_batch_size: int = 16
    seed: int = 0


def build_reward_model(start_from: str | Path, seed: int = 0) -> nn.Module:
    """The model in a folder or on the hub with a new scalar head, dropout off, float32.

    Raises `InputError` if there is no such model, or none with such a head.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = AutoModelForSequenceClassification.from_pretrained(
                str(start_from), num_labels=1, dtype=torch.float32, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise InputError(f"{start_from}: no reward model could be made ({first})") from error
    if not hasattr(model, "score"):
        raise InputError(f"{start_from}: {type(model).__name__} has no head named score")
    return disable_dropout(model)


def load_reward_model(name_or_path: str | Path) -> nn.Module:
    """A trained reward model from a folder or the hub, dropout off, float32.

    Raises `InputError` if there is none: a model whose head would have to be made up judges
    nothing.
    """
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            str(name_or_path), dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{name_or_path}: no reward model could be loaded ({first})") from error
    if info["missing_keys"] or model.config.num_labels != 1:
        raise InputError(f"{name_or_path}: not a reward model (it has no head with one number)")
    return disable_dropout(model)


def batch_rewards(model: nn.Module, batch: Batch) -> Float[Tensor, "rows"]:
    """The reward of each row, read at the last token of its response, with gradient.

    transformers' own pooling looks for the last id that is not the padding id, which is wrong
    where padding is EOS; here the place comes from the row's length.
    """
    hidden = model.base_model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        use_cache=False,
    ).last_hidden_state
    rows = torch.arange(len(hidden), device=hidden.device)
    return model.score(hidden[rows, batch.ends - 1]).squeeze(-1).float()


def score_rewards(
    model: nn.Module,
    responses: Sequence[EncodedResponse],
    pad_id: int,
    *,
    batch_size: int = 32,
    progress: bool = True,
) -> Float[Tensor, "rows"]:
    """Rewards of responses, without gradient, on the CPU, in the given order."""
    device = next(model.parameters()).device
    model.eval()
    pieces = []
    bar = tqdm(total=len(responses), desc="rewards", unit="answer", disable=not progress)
    with torch.no_grad():
        for start in range(0, len(responses), batch_size):
            rows = responses[start : start + batch_size]
            pieces.append(batch_rewards(model, collate(rows, pad_id).to(device)).cpu())
            bar.update(len(rows))
    bar.close()
    return torch.cat(pieces)


class RewardTrainer(Trainer):
    """Minimises -log sigmoid(r(chosen) - r(rejected)), the Bradley-Terry likelihood of pairs."""

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, dict]:
        chosen, rejected = batch_rewards(model, Batch(**inputs)).chunk(2)
        loss = -F.logsigmoid(chosen - rejected).mean()
        return (loss, {}) if return_outputs else loss


def train_reward_model(
    model: nn.Module,
    pairs: Sequence[EncodedPair],
    pad_id: int,
    config: RewardModelConfig,
    folder: str | Path,
    **arguments: Any,
) -> float:
    """Fit `model` in place to the pairs and return the mean training loss.

    folder: where transformers may write. arguments: more of `TrainingArguments`.
    """
    settings = {
        "num_train_epochs": config.num_train_epochs,
        "learning_rate": config.learning_rate,
        "per_device_train_batch_size": config.per_device_train_batch_size,
        "seed": config.seed,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.1,  # a number below 1 is a share of all steps
        "weight_decay": 0.0,
        "save_strategy": "no",
        "report_to": "none",
        "remove_unused_columns": False,
        "dataloader_pin_memory": torch.cuda.is_available(),
    }
    trainer = RewardTrainer(
        model=model,
        args=TrainingArguments(output_dir=str(folder), **(settings | arguments)),
        train_dataset=pairs,
        data_collator=lambda rows: collate(rows, pad_id)._asdict(),
    )
    use_readable_progress(trainer)
    return trainer.train().training_loss
