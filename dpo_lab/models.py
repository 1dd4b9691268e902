"""Causal language models and tokenizers: small ones from a config, real ones from a folder or hub.

A small model is a real transformers Llama with its own byte-level tokenizer, so what is saved
here loads anywhere transformers runs.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from dpo_lab.errors import InputError

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
    answer has no probability.
    """
    name = _existing(name_or_path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{name}: no tokenizer could be loaded ({_first_line(error)})") from error
    if tokenizer.eos_token_id is None:
        raise InputError(f"{name}: the tokenizer has no EOS token, so no answer can end")
    return tokenizer


def load_policy(name_or_path: str | Path) -> PreTrainedModel:
    """A causal language model in float32 with dropout off, from a folder or a hub name.

    Never runs code that comes with a model and reads safetensors only, no pickle. Raises
    `InputError` if there is no such model.
    """
    name = _existing(name_or_path)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{name}: no model could be loaded ({_first_line(error)})") from error
    return disable_dropout(model)


def add_adapter(model: PreTrainedModel, r: int, alpha: float, seed: int = 0) -> nn.Module:
    """`model` with low-rank adapters on all its linear layers (LoRA, Hu et al. 2022), in place.

    Only the adapters are trained; they start at zero, so the model starts as it was. Switched
    off (`reference_mode`), it is the reference. alpha / r scales what the adapters add.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=r, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, config)


@contextlib.contextmanager
def reference_mode(model: nn.Module) -> Iterator[nn.Module]:
    """Inside, a model with an adapter is its base, without gradient: the reference of a LoRA run.

    Raises `InputError` for a model without an adapter, which has no reference in it.
    """
    if not hasattr(model, "disable_adapter"):
        raise InputError("a model without an adapter cannot be its own reference")
    with model.disable_adapter(), torch.no_grad():
        yield model


def disable_dropout(model: nn.Module) -> nn.Module:
    """Set every dropout rate in `model` to 0, in place, and return it.

    With dropout on, policy and reference differ at step 0 although their weights are equal.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):  # attention keeps its rate as a number
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
    return model


def freeze_reference(model: nn.Module) -> nn.Module:
    """Make `model` a reference: no gradients, evaluation mode, no dropout; in place."""
    return disable_dropout(model).requires_grad_(False).eval()


def model_hash(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers (names, dtypes, shapes, bytes), as hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _existing(name_or_path: str | Path) -> str:
    """A string for transformers, after telling a mistyped folder from a name on the hub."""
    name = str(name_or_path)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(f"{name}: not a model folder (it has no config.json)")
        return str(path)
    if path.exists():
        raise InputError(f"{name}: not a model folder but a file")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise InputError(f"{name}: no such folder")
    return name


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
