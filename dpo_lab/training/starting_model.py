"""A small model tuned on tiny reviews, made once and kept: what experiments start from."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from dpo_lab import reviews
from dpo_lab.batching import encode_pairs, padding_id
from dpo_lab.models import SmallModelConfig, build_model, train_tokenizer
from dpo_lab.pairs import data_hash
from dpo_lab.training.config import option
from dpo_lab.training.reference import cache_folder
from dpo_lab.training.run_folder import RunFolder
from dpo_lab.training.sft import SFTConfig, train_sft

MAX_LENGTH = 64


@dataclass(frozen=True)
class StartConfig:
    """Everything that `dpo-lab start` can be told."""

    world_pairs: int = option(2000, "pairs of tiny reviews whose chosen answers are learned")
    num_train_epochs: float = option(3.0, "passes over them")
    learning_rate: float = option(2e-3, "learning rate")
    per_device_train_batch_size: int = option(32, "answers per device and step")
    vocab_size: int = option(2048, "tokens of the tokenizer that is learned")
    hidden_size: int = option(128, "width of the model")
    num_hidden_layers: int = option(3, "layers")
    num_attention_heads: int = option(4, "attention heads")
    seed: int = option(0, "seed of everything random")


def starting_model(config: StartConfig, say: Callable[[str], None] = print) -> Path:
    """The folder of the tuned model and its tokenizer; made where the cache has none yet.

    It lies under `cache_folder`, by a hash of the configuration and the texts, and appears there
    only when it is complete. Raises `InputError` for sizes that make no model.
    """
    pairs = reviews.sample_pairs(config.world_pairs, seed=config.seed)
    size = SmallModelConfig(
        config.hidden_size, config.num_hidden_layers, config.num_attention_heads, MAX_LENGTH
    )
    content = json.dumps([asdict(config), data_hash(pairs)]).encode()
    folder = cache_folder() / f"start-{hashlib.sha256(content).hexdigest()[:24]}"
    if folder.is_dir():
        return folder
    tokenizer = train_tokenizer(
        [text for p in pairs for text in (p.prompt + p.chosen, p.rejected)], config.vocab_size
    )
    model = build_model(tokenizer, size, config.seed)
    say(f"a new model of {model.num_parameters():,} parameters learns {len(pairs)} answers")
    encoded, _ = encode_pairs(tokenizer, pairs, MAX_LENGTH)
    settings = SFTConfig(
        config.num_train_epochs,
        config.learning_rate,
        config.per_device_train_batch_size,
        config.seed,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as checkpoints:
        chosen = [pair.chosen for pair in encoded]
        train_sft(model, chosen, padding_id(tokenizer), settings, Path(checkpoints))
    RunFolder(folder.parent).save_model(folder, model.cpu(), tokenizer)
    return folder
