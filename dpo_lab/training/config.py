"""Settings of a preference run; the command line is made from this dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch

from dpo_lab.errors import InputError
from dpo_lab.losses import LOSSES, check_weights
from dpo_lab.models import SmallModelConfig
from dpo_lab.training.objective import LossConfig

# TRL's default for a real model; a small one made here needs larger steps.
LEARNING_RATE_GIVEN_MODEL = 1e-6
LEARNING_RATE_NEW_MODEL = 1e-4
SAMPLE_PROMPTS = 64


def option(default: Any, text: str) -> Any:
    """A dataclass field whose help text the command line shows."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that `dpo-lab train` can be told."""

    pairs: str | None = option(
        None,
        "file, saved data set or hub name of preference pairs, or of labelled answers "
        "(prompt, completion, label); default: tiny reviews",
    )
    eval_pairs: str | None = option(None, "held-out pairs; default: a part of --pairs")
    pairs_split: str = option(
        "train", "split of a saved data set or of one on the hub; there train[:2000] is one, too"
    )
    eval_pairs_split: str = option("test", "the same for --eval_pairs")
    eval_fraction: float = option(0.1, "share of prompts held out where --eval-pairs is not given")
    odd_rows: Literal["strict", "report"] = option(
        "report", "strict: stop and list unusable rows; report: leave them out and list them"
    )
    world_pairs: int = option(2000, "training pairs of tiny reviews where --pairs is not given")
    model: str | None = option(
        None, "tuned model to start from (folder or hub name); default: make one here with SFT"
    )
    reference: str | None = option(None, "reference model; default: the model training starts from")
    output_dir: str = option("dpo-lab-run", "folder for the model, the metrics and the curves")
    resume: bool = option(False, "go on with the run in --output-dir from its last checkpoint")

    loss: list[str] = field(
        default_factory=lambda: ["dpo"],
        metadata={"help": f"one, or several for a weighted sum, of: {', '.join(LOSSES)}"},
    )
    loss_weights: list[float] | None = option(  # noqa: RUF009 (a field, like all others)
        None, "one weight for each loss; default: 1 each"
    )
    beta: float | None = option(
        None, "strength of the pull to the reference; default: the loss's own, 0.1 for dpo"
    )
    loss_options: list[str] | None = option(  # noqa: RUF009 (a field, like all others)
        None, "settings of the loss, as name=value ..."
    )
    label_smoothing: float | None = option(None, "short for --loss_options label_smoothing=...")

    use_peft: bool = option(False, "train low-rank adapters (LoRA); the reference is them off")
    lora_r: int = option(16, "rank of the adapters")
    lora_alpha: float = option(32.0, "what the adapters add is scaled by lora_alpha / lora_r")
    sync_ref_model: bool = option(False, "TR-DPO: let the reference follow the policy")
    ref_model_mixup_alpha: float = option(0.6, "share of the policy in each such step")
    ref_model_sync_steps: int = option(512, "optimiser steps between two of them")

    learning_rate: float | None = option(
        None,
        f"default: {LEARNING_RATE_GIVEN_MODEL:g} with --model, {LEARNING_RATE_NEW_MODEL:g} without",
    )
    num_train_epochs: float = option(1.0, "passes over the pairs")
    max_steps: int = option(-1, "stop after this many optimiser steps; -1: after the epochs")
    per_device_train_batch_size: int = option(8, "pairs per device and micro-batch")
    gradient_accumulation_steps: int = option(1, "micro-batches per optimiser step")
    gradient_checkpointing: bool = option(
        False, "compute activations twice and hold fewer of them: less memory, a third slower"
    )
    fast_path: Literal["auto", "off"] = option(
        "auto", "packed rows and shared prompts, where they give the same numbers"
    )
    token_budget: int = option(4096, "tokens computed at once on the fast path, at most")
    bf16: bool = option(False, "matrix products in bfloat16; log-probabilities stay in float32")
    fp16: bool = option(False, "the same in float16 with a loss scaler, for cards without bfloat16")
    max_length: int = option(512, "tokens of prompt and answer; longer answers are left out")
    logging_steps: int = option(10, "optimiser steps between two logged rows")
    eval_steps: int = option(50, "optimiser steps between two evaluations")
    save_steps: int = option(50, "optimiser steps between two checkpoints")
    sample_prompts: int | None = option(
        None,
        "held-out prompts that the policy answers at each evaluation, to measure its KL and "
        "length; default: 64 for a model made here, 0 with --model",
    )
    max_new_tokens: int = option(64, "tokens of such an answer at most")
    hub_model_id: str | None = option(
        None, "push the trained model to this name on the hub (private; needs a login)"
    )
    report_to: str = option("none", "tracker, as transformers names it (tensorboard, wandb, ...)")
    seed: int = option(0, "seed of everything random")

    sft_epochs: float = option(3.0, "passes over the chosen answers where a model is made here")
    sft_learning_rate: float = option(1e-3, "learning rate of the supervised stage")
    vocab_size: int = option(2048, "tokens of the tokenizer that is learned with a new model")
    hidden_size: int = option(128, "width of a new model")
    num_hidden_layers: int = option(3, "layers of a new model")
    num_attention_heads: int = option(4, "attention heads of a new model")

    def model_size(self) -> SmallModelConfig:
        """Size of the model that is made where none is given."""
        return SmallModelConfig(
            self.hidden_size, self.num_hidden_layers, self.num_attention_heads, self.max_length
        )

    def loss_config(self) -> LossConfig:
        """The losses with their weights, beta and options. Raises `InputError` for what is none."""
        names = [self.loss] if isinstance(self.loss, str) else self.loss
        weights = [1.0] * len(names) if self.loss_weights is None else self.loss_weights
        if len(weights) != len(names):
            raise InputError(f"loss_weights: {len(weights)} weights for {len(names)} losses")
        if len(set(names)) < len(names):
            raise InputError(f"loss: a loss is named twice in {' '.join(names)}")
        by_name = dict(zip(names, weights, strict=True))
        check_weights(by_name)
        return LossConfig(by_name, self.beta, self.given_loss_options())

    def given_loss_options(self) -> dict[str, float]:
        """Options of the losses that were given, in either way."""
        given = {}
        for word in self.loss_options or []:
            name, _, number = word.partition("=")
            if name in given:
                raise InputError(f"loss_options: {name} is given twice")
            try:
                given[name] = float(number)
            except ValueError:
                raise InputError(f"loss_options: {word!r} is not name=value") from None
        if self.label_smoothing is None:
            return given
        if "label_smoothing" in given:
            raise InputError("loss_options: label_smoothing is given twice")
        return given | {"label_smoothing": self.label_smoothing}

    def settled(self) -> TrainConfig:
        """The same settings as they are written down: defaults of the loss filled in."""
        losses = self.loss_config()
        return replace(self, resume=False, beta=losses.settled_beta, loss=list(losses.weights))

    def precision(self) -> torch.dtype | None:
        """What matrix products run in; None for float32."""
        return torch.bfloat16 if self.bf16 else torch.float16 if self.fp16 else None

    def prompts_to_sample(self) -> int:
        """How many prompts the policy answers at each evaluation."""
        if self.sample_prompts is not None:
            return self.sample_prompts
        return SAMPLE_PROMPTS if self.model is None else 0

    def preference_learning_rate(self) -> float:
        """The learning rate that is used."""
        if self.learning_rate is not None:
            return self.learning_rate
        return LEARNING_RATE_NEW_MODEL if self.model is None else LEARNING_RATE_GIVEN_MODEL


def changed_setting(old: Mapping[str, Any], new: TrainConfig) -> str | None:
    """The first setting in which a run that was written down differs from `new`, in words.

    A setting that did not exist then had its default. Where the run lies does not matter.
    """
    there = {**asdict(TrainConfig()), **old}
    for name, value in asdict(new.settled()).items():
        if name not in ("output_dir", "resume") and there[name] != value:
            return f"{name} was {there[name]!r} and is now {value!r}"
    return None
