"""What the first cell of every chapter calls: a quiet kernel, one look, live explorers."""

from __future__ import annotations

import os
import sys

import torch

from dpo_lab.plotting import use_style

# Bars and notices would stand in the stored outputs of a chapter, other ones at each run.
QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
MOST_THREADS = 4


def setup() -> None:
    """Prepare the kernel for a chapter; whatever the reader has set in the environment stays.

    It silences progress bars, gives figures the book's look, lets Colab show explorers, says there
    whether a GPU was found, and keeps torch to at most 4 threads: the chapters' tensors are small,
    and more threads than that only wait for each other.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    use_style()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(MOST_THREADS, torch.get_num_threads()))
    if "google.colab" in sys.modules:
        from google.colab import output

        output.enable_custom_widget_manager()
        found = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        print(f"GPU: {found}" if found else "no GPU: Runtime > Change runtime type adds one")
