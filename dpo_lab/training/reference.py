"""Reference log-probabilities, computed once and cached under what they depend on.

The reference never changes, so its log-probabilities are data. The cache's key is made of the
reference's weights and of the exact token ids and spans; the tokenizer, the template and the
length limit act only through those ids.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from dpo_lab.batching import EncodedPair
from dpo_lab.models import model_hash
from dpo_lab.scoring import ScoredPairs, score_pairs


def cache_folder() -> Path:
    """Where cached log-probabilities lie: $DPO_LAB_CACHE, else ~/.cache/dpo_lab."""
    return Path(os.environ.get("DPO_LAB_CACHE", "~/.cache/dpo_lab")).expanduser()


def reference_logps(
    model: PreTrainedModel,
    pairs: Sequence[EncodedPair],
    pad_id: int,
    *,
    batch_size: int,
    description: str = "reference log-probs",
    progress: bool = True,
) -> ScoredPairs:
    """Log-probabilities of `pairs` under the reference, from the cache where they are in it."""
    file = cache_folder() / f"reference-{cache_key(model, pairs)}.safetensors"
    if file.is_file():
        try:
            cached = load_file(file)
            return ScoredPairs(cached["chosen"], cached["rejected"])
        except (SafetensorError, KeyError):
            file.unlink()  # a torn file of some other program's making: compute it again
    scored = score_pairs(
        model, pairs, pad_id, batch_size=batch_size, description=description, progress=progress
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.{os.getpid()}.unfinished")
    save_file({"chosen": scored.chosen, "rejected": scored.rejected}, unfinished)
    unfinished.replace(file)
    return scored


def cache_key(model: PreTrainedModel, pairs: Sequence[EncodedPair]) -> str:
    """SHA-256 over the model's weights and every pair's ids and spans, as hexadecimal."""
    digest = hashlib.sha256(model_hash(model).encode())
    for pair in pairs:
        for side in (pair.chosen, pair.rejected):
            header = array("q", [len(side.input_ids), side.prompt_length])
            digest.update(header.tobytes() + array("q", side.input_ids).tobytes())
    return digest.hexdigest()
