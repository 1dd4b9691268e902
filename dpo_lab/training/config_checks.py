"""What a run's settings must satisfy, found out before anything is read or computed."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers.integrations import get_available_reporting_integrations

from dpo_lab.checks import check_beta
from dpo_lab.errors import InputError
from dpo_lab.losses import settle_shared_options
from dpo_lab.training.config import TrainConfig
from dpo_lab.training.objective import LossConfig
from dpo_lab.training.processes import sharded

_POSITIVE = (
    "world_pairs",
    "learning_rate",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "max_length",
    "max_new_tokens",
    "token_budget",
    "lora_r",
    "lora_alpha",
    "ref_model_sync_steps",
    "logging_steps",
    "eval_steps",
    "save_steps",
    "sft_epochs",
    "sft_learning_rate",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
)


def check_config(config: TrainConfig) -> None:
    """Raise `InputError` naming the first setting that cannot be right."""
    _check_loss(config)
    _check_sources(config)
    if not 0 < config.eval_fraction < 1:
        raise InputError(f"eval_fraction must lie in (0, 1), got {config.eval_fraction}")
    if config.max_steps == 0 or config.max_steps < -1:
        raise InputError(f"max_steps must be -1 or at least 1, got {config.max_steps}")
    prompts = config.sample_prompts
    if prompts is not None and (prompts < 0 or prompts == 1):
        raise InputError(f"sample_prompts must be 0 or at least 2, got {prompts}")
    if prompts and sharded():
        raise InputError("sample_prompts: under FSDP no process has all weights to answer with")
    for name in _POSITIVE:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise InputError(f"{name} must be greater than 0, got {value}")
    _check_precision(config)
    _check_tracker(config.report_to)
    config.model_size()


def _check_sources(config: TrainConfig) -> None:
    if config.pairs is None and config.eval_pairs is not None:
        raise InputError("eval_pairs: needs --pairs as well")
    default = TrainConfig()
    for name in ("pairs", "eval_pairs"):
        source, split = getattr(config, name), getattr(config, f"{name}_split")
        if split == getattr(default, f"{name}_split"):
            continue
        if source is None:
            raise InputError(f"{name}_split: {split!r} cannot be taken, {name} is not given")
        if Path(source).exists() and not Path(source, "dataset_dict.json").is_file():
            raise InputError(f"{name}_split: {split!r} cannot be taken, {source} has no splits")


def _check_loss(config: TrainConfig) -> None:
    """Raise `InputError` for losses, a beta or options that this run cannot have."""
    losses = config.loss_config()
    if config.beta is not None:
        check_beta(config.beta)
    settle_shared_options(losses.weights, config.beta, losses.options)
    if config.reference is not None and not losses.needs_reference:
        names = ", ".join(losses.weights)
        raise InputError(f"reference: {names} has none, so it cannot be given one")
    if config.reference is not None and config.model is None:
        raise InputError("reference: needs --model; a model made here is its own reference")
    if config.sync_ref_model:
        _check_moving_reference(config, losses)
    if losses.has("kto") and config.per_device_train_batch_size < 2:
        raise InputError(
            "per_device_train_batch_size: kto measures its reference point as a mean over the "
            "micro-batch and needs at least 2, got 1"
        )


def _check_moving_reference(config: TrainConfig, losses: LossConfig) -> None:
    if config.use_peft:
        raise InputError("sync_ref_model: with --use_peft the reference is the fixed base")
    if not losses.needs_reference or losses.has("kto"):
        names = ", ".join(losses.weights)
        raise InputError(
            f"sync_ref_model: not for {names}: kto measures against a fixed "
            "reference, and a loss without one has nothing to move"
        )
    if not 0 < config.ref_model_mixup_alpha <= 1:
        raise InputError(
            f"ref_model_mixup_alpha must lie in (0, 1], got {config.ref_model_mixup_alpha}"
        )


def _check_precision(config: TrainConfig) -> None:
    if config.bf16 and config.fp16:
        raise InputError("fp16: bf16 is given too; choose one")
    if config.fp16 and not torch.cuda.is_available():
        raise InputError("fp16: needs a CUDA device, and there is none; bf16 runs on CPUs")
    if config.bf16 and torch.cuda.is_available() and not torch.cuda.is_bf16_supported(False):
        raise InputError("bf16: this card has none in hardware; use --fp16")


def _check_tracker(name: str) -> None:
    """transformers would find out only when training begins."""
    known = ["none", "all", *get_available_reporting_integrations()]
    if name not in known:
        raise InputError(
            f"report_to: {name!r} is not installed, or no tracker of transformers'; "
            f"here are: {', '.join(known)}"
        )
