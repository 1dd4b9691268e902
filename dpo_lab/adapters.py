"""Low-rank adapters (LoRA): put on, switched off for the reference, saved, merged when loaded."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dpo_lab.errors import InputError
from dpo_lab.model_state import model_hash

CONFIG, WEIGHTS, BASE = "adapter_config.json", "adapter_model.safetensors", "dpo_lab_base.json"


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


def save_adapter(
    model: nn.Module,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    base_sha256: str,
    weights: dict[str, Tensor] | None = None,
) -> None:
    """Write the adapters alone, the tokenizer, and the hash of the base that they belong to.

    weights: of the whole model, where they lie in shards.
    """
    model.save_pretrained(folder, state_dict=weights)
    tokenizer.save_pretrained(folder)
    (folder / BASE).write_text(json.dumps({"model_sha256": base_sha256}) + "\n", encoding="utf-8")


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds adapters and no whole model."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def base_of(folder: Path) -> str:
    """Folder or hub name of the model that adapters were trained on."""
    try:
        return json.loads((folder / CONFIG).read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (ValueError, KeyError) as error:
        raise InputError(f"{folder / CONFIG}: names no base model ({error})") from error


def load_merged(folder: Path, load_base: Callable[[str], PreTrainedModel]) -> PreTrainedModel:
    """The base model with the adapters in `folder` merged into its weights.

    Raises `InputError` where the base is not the one that the adapters were trained on, and
    where there are no weights as safetensors.
    """
    from peft import PeftModel

    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder}: there is no {WEIGHTS} (pickled weights are not read)")
    name = base_of(folder)
    base = load_base(name)
    if (folder / BASE).is_file():
        trained_on = json.loads((folder / BASE).read_text(encoding="utf-8"))["model_sha256"]
        if model_hash(base) != trained_on:
            raise InputError(f"{folder}: an adapter for another base; {name} has other weights")
    try:
        return PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
    except (RuntimeError, ValueError) as error:  # other shapes; other names of layers
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{folder}: an adapter for another base than {name} ({first})") from error
