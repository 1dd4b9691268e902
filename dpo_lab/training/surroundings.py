"""What a run ran on: versions, device, memory."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PRODUCT_FLAGS = ("fma", "avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16")


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


def processor() -> dict[str, str]:
    """The processor's name and its flags that matter to products, where the system says them."""
    file = Path("/proc/cpuinfo")
    if not file.is_file():
        return {}
    lines = (line.partition(":")[::2] for line in file.read_text().splitlines())
    said = {name.strip(): value.strip() for name, value in lines}
    flags = set(said.get("flags", "").split()) & set(PRODUCT_FLAGS)
    return {"processor": said.get("model name", ""), "cpu_flags": " ".join(sorted(flags))}


def peak_memory() -> int | None:
    """Peak bytes so far: allocated on the GPU where there is one, else resident in the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return None  # not measured there
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage's peak begins with that of the process that started this one
        return _status_bytes(status, "VmHWM")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def resident_memory() -> int | None:
    """Bytes of this process in memory now; None where the system does not say."""
    status = Path("/proc/self/status")
    return _status_bytes(status, "VmRSS") if status.is_file() else None


def keep_freed_memory() -> bool:
    """Ask glibc's malloc to keep freed memory for later; False where there is no glibc.

    Large tensors otherwise go back to the system when they are freed, and every page of the next
    one is cleared and mapped again. Changes no number; the process stays as large as it once was.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    m_mmap_max, m_trim_threshold, m_top_pad = -4, -1, -2  # malloc.h
    settings = ((m_mmap_max, 0), (m_trim_threshold, 2**31 - 1), (m_top_pad, 2**28))
    taken = [mallopt(*setting) for setting in settings]
    return all(taken)


def bound_kernel_caches(kernels: int = 64) -> None:
    """Let torch hold at most so many compiled 16-bit products of a CPU, unless told otherwise.

    Each new shape gets a kernel of its own, megabytes large, and 1024 of them are held: with rows
    of all lengths a run would grow for hundreds of steps. To be called before the first product.
    """
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(kernels))


def _status_bytes(status: Path, name: str) -> int:
    line = next(x for x in status.read_text().splitlines() if x.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])
