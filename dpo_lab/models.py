"""Causal language models and tokenizers: small ones from a config, real ones from a folder or hub.

A small model is a real transformers Llama with its own byte-level tokenizer, so what is saved
here loads anywhere transformers runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from dpo_lab.adapters import base_of, is_adapter, load_merged
from dpo_lab.errors import InputError
from dpo_lab.model_state import best_device, disable_dropout, freeze_reference, model_hash

__all__ = [
    "SmallModelConfig",
    "best_device",
    "build_model",
    "check_same_vocabulary",
    "disable_dropout",
    "freeze_reference",
    "load_policy",
    "load_tokenizer",
    "model_hash",
    "train_tokenizer",
]

BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"


@dataclass(frozen=True)
class SmallModelConfig:
    """Size of a small Llama-type model; the defaults give about 0.55 M weights plus vocabulary."""

    hidden_size: int = 128
    num_hidden_layers: int = 3
    num_attention_heads: int = 4
    max_position_embeddings: int = 512

    def __post_init__(self) -> None:
        """Raise `InputError` unless heads of even width fit the hidden size (rotary positions)."""
        if self.hidden_size % (2 * self.num_attention_heads):
            raise InputError("hidden_size must be a multiple of 2 * num_attention_heads")


def train_tokenizer(texts: Iterable[str], vocab_size: int = 2048) -> PreTrainedTokenizerFast:
    """Byte-level BPE tokenizer learned from `texts`: any text can be encoded and decoded back.

    It puts one BOS in front of what it encodes and knows EOS and padding as tokens of their own.
    Raises `InputError` if `vocab_size` is below 259 (256 bytes and 3 special tokens).
    """
    if vocab_size < 259:
        raise InputError(f"vocab_size must be at least 259 for a byte-level one, got {vocab_size}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )


def build_model(
    tokenizer: PreTrainedTokenizerBase, config: SmallModelConfig, seed: int = 0
) -> LlamaForCausalLM:
    """A small Llama with random weights that fit `tokenizer`; the same seed gives the same one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=config.hidden_size,
                intermediate_size=3 * config.hidden_size,
                num_hidden_layers=config.num_hidden_layers,
                num_attention_heads=config.num_attention_heads,
                num_key_value_heads=config.num_attention_heads,
                max_position_embeddings=config.max_position_embeddings,
                tie_word_embeddings=True,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )


def load_tokenizer(name_or_path: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder or hub name.

    Raises `InputError` if there is none, or if it has no EOS token: without one the end of an
    answer has no probability. A folder of adapters without a tokenizer has that of their base.
    """
    name = _existing(name_or_path)
    if is_adapter(Path(name)) and not (Path(name) / "tokenizer_config.json").is_file():
        return load_tokenizer(base_of(Path(name)))
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{name}: no tokenizer could be loaded ({_first_line(error)})") from error
    if tokenizer.eos_token_id is None:
        raise InputError(f"{name}: the tokenizer has no EOS token, so no answer can end")
    return tokenizer


def load_policy(name_or_path: str | Path) -> PreTrainedModel:
    """A causal language model in float32 with dropout off, from a folder or a hub name.

    A folder of low-rank adapters gives their base model with the adapters merged into it. Never
    runs code that comes with a model and reads safetensors only, no pickle. Raises `InputError`
    if there is no such model, and for adapters that belong to another base.
    """
    name = _existing(name_or_path)
    if is_adapter(Path(name)):
        return disable_dropout(load_merged(Path(name), load_policy))
    try:
        model = AutoModelForCausalLM.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{name}: no model could be loaded ({_first_line(error)})") from error
    return disable_dropout(model)


def check_same_vocabulary(reference: str | Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `InputError` unless a reference model's tokenizer gives every token the policy's id.

    The reference is handed the policy's ids, so other ids would be other words to it.
    """
    ours, theirs = tokenizer.get_vocab(), load_tokenizer(reference).get_vocab()
    if ours == theirs:
        return
    differing = [token for token, index in ours.items() if theirs.get(token) != index]
    token = repr(min(differing, key=ours.__getitem__)) if differing else "one of its own"
    raise InputError(
        f"reference {reference}: another vocabulary ({len(theirs)} tokens) than the policy's "
        f"({len(ours)}); the first token that differs: {token}"
    )


def _existing(name_or_path: str | Path) -> str:
    """A string for transformers, after telling a mistyped folder from a name on the hub."""
    name = str(name_or_path)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file() and not is_adapter(path):
            raise InputError(f"{name}: not a model folder (it has no config.json)")
        return str(path)
    if path.exists():
        raise InputError(f"{name}: not a model folder but a file")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"{name}: no such folder")
    return name


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
