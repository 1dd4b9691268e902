"""One contender in a process of its own: `python -m dpo_lab.bench.jobs` with a job on stdin."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
import warnings
from typing import Any

import torch

from dpo_lab.bench.contenders import CONTENDERS, Job
from dpo_lab.bench.floors import profile_loop, rates
from dpo_lab.bench.ours import train_in_a_loop, train_with_trainer
from dpo_lab.bench.shapes import SHAPES, build, make_pairs
from dpo_lab.errors import InputError
from dpo_lab.training.surroundings import (
    bound_kernel_caches,
    keep_freed_memory,
    peak_memory,
    resident_memory,
)

MARK = "MEASURED "
QUIET = {
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
}


def start(task: str, job: Job) -> dict[str, Any]:
    """Run a task in a fresh process and return what it measured.

    Raises `InputError` with the end of its error where it fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "dpo_lab.bench.jobs"],
        input=json.dumps([task, job]),
        capture_output=True,
        text=True,
        env=os.environ | QUIET | _visible_cards(job.device),
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not lines:
        end = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise InputError(f"{job.contender} on {job.shape}: {end[0]}")
    return json.loads(lines[-1].removeprefix(MARK))


def _visible_cards(device: str) -> dict[str, str]:
    """One card at most: transformers would spread a batch over several, and count their memory."""
    cards = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")
    return {"CUDA_VISIBLE_DEVICES": cards[0] if device == "cuda" else ""}


def run(task: str, job: Job) -> dict[str, Any]:
    """The same in this process. task: train, profile or rates."""
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    shape = SHAPES[job.shape]
    pairs = make_pairs(job.pairs * (job.steps + job.warm), shape.vocab)
    if task == "rates":
        return rates(shape, pairs[: job.pairs], job)
    contender = CONTENDERS[job.contender]
    model = build(shape, job.device)
    if task == "profile":
        return profile_loop(lambda watch: train_in_a_loop(job, model, pairs, watch), job)
    gc.collect()
    base = torch.cuda.memory_allocated() if job.device == "cuda" else resident_memory()
    if contender.side == "trl":
        from dpo_lab.bench.rival import train_with_trl as train
    else:
        train = {"trainer": train_with_trainer, "loop": train_in_a_loop}[contender.side]
    measured = train(job, model, pairs)
    return measured._asdict() | {"peak_bytes": peak_memory(), "base_bytes": base}


def main() -> None:
    """Read a task and its job, run it, print one line of JSON."""
    task, fields = json.load(sys.stdin)
    job = Job(*fields)
    if CONTENDERS[job.contender].kept and job.device == "cpu":
        keep_freed_memory()
        bound_kernel_caches()
    warnings.filterwarnings("ignore")
    with contextlib.redirect_stdout(sys.stderr):
        result = run(task, job)
    print(MARK + json.dumps(result))


if __name__ == "__main__":
    main()
