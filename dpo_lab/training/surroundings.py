"""What a run ran on: versions, device, memory."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import version
from typing import Any

import torch


def surroundings() -> dict[str, Any]:
    """Versions of what computes, and the device's name."""
    packages = ("dpo_lab", "torch", "transformers", "tokenizers", "accelerate", "datasets")
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "device": torch.cuda.get_device_name() if cuda else f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
    }


def peak_memory() -> int | None:
    """Peak bytes so far: allocated on the GPU where there is one, else resident in the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return None  # not measured there
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
