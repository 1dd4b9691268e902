"""Reference log-probabilities, computed once and cached under what they depend on.

The reference never changes, so its log-probabilities are data. The cache's key is made of the
reference's weights, the precision it runs in and the exact token ids and spans; the tokenizer, the
template and the length limit act only through those ids.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from dpo_lab.batching import EncodedResponse
from dpo_lab.models import model_hash
from dpo_lab.scoring import score_responses


def cache_folder() -> Path:
    """Where cached log-probabilities lie: $DPO_LAB_CACHE, else ~/.cache/dpo_lab."""
    return Path(os.environ.get("DPO_LAB_CACHE", "~/.cache/dpo_lab")).expanduser()


def reference_logps(
    model: PreTrainedModel,
    responses: Sequence[EncodedResponse],
    pad_id: int,
    *,
    batch_size: int,
    description: str = "reference log-probs",
    progress: bool = True,
    precision: torch.dtype | None = None,
) -> Float[Tensor, "rows"]:
    """Summed log-probabilities under the reference, from the cache where they are in it."""
    key = cache_key(model, responses, precision)
    file = cache_folder() / f"reference-{key}.safetensors"
    if file.is_file():
        try:
            return load_file(file)["logps"]
        except (SafetensorError, KeyError):
            file.unlink()  # a torn file of some other program's making: compute it again
    logps = score_responses(
        model,
        responses,
        pad_id,
        batch_size=batch_size,
        description=description,
        progress=progress,
        precision=precision,
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.{os.getpid()}.unfinished")
    save_file({"logps": logps}, unfinished)
    unfinished.replace(file)
    return logps


def cache_key(
    model: PreTrainedModel,
    responses: Sequence[EncodedResponse],
    precision: torch.dtype | None = None,
) -> str:
    """SHA-256 over the model's weights, the precision and every row's ids and span, hexadecimal."""
    digest = hashlib.sha256(f"{model_hash(model)} {precision}".encode())
    for row in responses:
        header = array("q", [len(row.input_ids), row.prompt_length])
        digest.update(header.tobytes() + array("q", row.input_ids).tobytes())
    return digest.hexdigest()
