"""Reference log-probabilities, computed once and cached under what they depend on.

The reference never changes, so its log-probabilities are data. The cache's key is made of the
reference's weights and configuration, the way they are computed (precision, packed or padded) and
the exact token ids and spans; the tokenizer, the template and the length limit act only through
those ids.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from dpo_lab.batching import EncodedResponse
from dpo_lab.model_state import config_hash, model_hash
from dpo_lab.training.processes import from_main, is_main
from dpo_lab.training.write_failures import writing


def cache_folder() -> Path:
    """Where cached log-probabilities lie: $DPO_LAB_CACHE, else ~/.cache/dpo_lab."""
    return Path(os.environ.get("DPO_LAB_CACHE", "~/.cache/dpo_lab")).expanduser()


def reference_logps(
    model: PreTrainedModel,
    responses: Sequence[EncodedResponse],
    score: Callable[[], Float[Tensor, "rows"]],
    how: str = "",
) -> Float[Tensor, "rows"]:
    """Summed log-probabilities under the reference, from the cache where they are in it.

    score: computes them where they are not. how: the way it does, such as its precision: numbers
    that were made another way are not taken for these.
    """
    file = cache_folder() / f"reference-{cache_key(model, responses, how)}.safetensors"
    cached = from_main(_read(file) if is_main() else None)
    if cached is not None:
        return cached
    logps = score()
    if is_main():
        unfinished = file.with_name(f"{file.name}.{os.getpid()}.unfinished")
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file({"logps": logps}, unfinished)
            unfinished.replace(file)
    return logps


def _read(file: Path) -> Float[Tensor, "rows"] | None:
    if not file.is_file():
        return None
    try:
        return load_file(file)["logps"]
    except (SafetensorError, KeyError):
        file.unlink()  # a torn file of some other program's making: compute it again
        return None


def cache_key(model: PreTrainedModel, responses: Sequence[EncodedResponse], how: str = "") -> str:
    """SHA-256 over the model, the way, and every row's ids and span, hexadecimal."""
    digest = hashlib.sha256(f"{model_hash(model)} {config_hash(model)} {how}".encode())
    for row in responses:
        header = array("q", [len(row.input_ids), row.prompt_length])
        digest.update(header.tobytes() + array("q", row.input_ids).tobytes())
    return digest.hexdigest()
