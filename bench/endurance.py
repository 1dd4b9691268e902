"""Memory over a long run, and twenty kills at random moments.

    python bench/endurance.py --steps 10000 --kills 20

A tiny model trains for many steps while its resident memory and the time of each step are watched.
A run is killed again and again (SIGKILL, at a random moment) and resumed, and at last left to end:
every file must be whole after each kill, no more than the steps since the last checkpoint may be
lost, and the end must be that of a run which was never killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from dpo_lab.models import load_policy

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 320}
TINY |= {"world_pairs": 160, "sft_epochs": 1, "sample_prompts": 0, "per_device_train_batch_size": 4}
SAVE = 5  # steps between two checkpoints of the run that is killed
LIFE, SPARE = 60, 20  # steps between two kills: at most drawn, and what it may run on until it dies


def start(folder: Path, *more: str, **settings: object) -> subprocess.Popen:
    """A real `dpo-lab train` in a process of its own."""
    words = [word for k, v in (TINY | settings).items() for word in (f"--{k}", str(v))]
    return subprocess.Popen(
        [sys.executable, "-m", "dpo_lab", "train", "--output_dir", str(folder), *words, *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"DPO_LAB_CACHE": str(folder.parent / "cache"), "OMP_NUM_THREADS": "1"},
    )


def last_step(folder: Path) -> int:
    """The newest logged step; a line that is being written does not count."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 10_000))  # a row has about 1000
            *whole, _ = file.read().split(b"\n")
    except FileNotFoundError:
        return 0
    return json.loads(whole[-1])["step"] if whole else 0


def flat(root: Path, steps: int) -> None:
    """Resident memory and pace in the second and in the last tenth of a long run."""
    folder = root / "long"
    process = start(folder, max_steps=steps, logging_steps=50, eval_steps=steps, save_steps=steps)
    seen: list[tuple[int, float, int]] = []
    while process.poll() is None:
        step = last_step(folder)
        if step and (not seen or step > seen[-1][0]):
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            seen.append((step, time.monotonic(), pages * os.sysconf("SC_PAGE_SIZE") // 2**20))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"the long run ended with status {process.returncode}")
    for name, low, high in (("second tenth", 0.1, 0.2), ("last tenth", 0.9, 1.0)):
        part = [row for row in seen if low * steps <= row[0] <= high * steps]
        pace = 1000 * (part[-1][1] - part[0][1]) / (part[-1][0] - part[0][0])
        memory = statistics.median(row[2] for row in part)
        print(f"{steps} steps, {name}: {memory:.0f} MiB resident, {pace:.1f} ms a step")


def killed(root: Path, kills: int, seed: int) -> None:
    """Kill and resume, `kills` times; then compare with a run that was left alone.

    The run is so long, and each life so short in steps, that it cannot end before the last kill.
    """
    steps = (kills + 1) * (LIFE + SPARE)
    settings = {"max_steps": steps, "logging_steps": 1, "eval_steps": steps, "save_steps": SAVE}
    alone, folder, chance = root / "alone", root / "killed", random.Random(seed)
    if start(alone, **settings).wait():
        raise SystemExit("the run that was left alone failed")
    lost, torn = [], []
    for number in range(kills):
        process, before = start(folder, *again(folder), **settings), last_step(folder)
        wait(process, folder, chance.uniform(1, 25), before + chance.randint(1, LIFE))
        time.sleep(chance.uniform(0, 0.05))  # anywhere in a step, or in a checkpoint
        if process.poll() is not None:
            raise SystemExit(f"the run ended with status {process.returncode} before a kill")
        process.send_signal(signal.SIGKILL)
        process.wait()
        reached = max(last_step(folder), before)
        kept, damaged = whole_files(folder)
        lost.append(reached - kept)
        torn += damaged
        print(f"kill {number + 1}: at step {reached}, {kept} are kept", flush=True)
    if start(folder, *again(folder), **settings).wait():
        raise SystemExit("the run that was killed does not go on")
    records = [json.loads((run / "run.json").read_text()) for run in (alone, folder)]
    same = records[0]["model_sha256"] == records[1]["model_sha256"]
    print(
        f"{len(lost)} kills of a run of {steps} steps, at most {max(lost)} steps lost of "
        f"{SAVE} between checkpoints; torn files: {', '.join(torn) or 'none'}; "
        f"the same weights: {same}"
    )
    if torn or not same or max(lost) > SAVE:
        raise SystemExit("the killed run is not what it should be")


def again(folder: Path) -> list[str]:
    """What to add to the command where there is a run to go on with."""
    return ["--resume"] if (folder / "run.json").is_file() else []


def wait(process: subprocess.Popen, folder: Path, seconds: float, step: int) -> None:
    """Until so many seconds are over, or the run has logged this step, or has ended."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline and last_step(folder) < step:
        time.sleep(0.01)


def whole_files(folder: Path) -> tuple[int, list[str]]:
    """The step of the newest whole checkpoint, and the files that are torn.

    A checkpoint without its marker does not count: nothing resumes from it. The logs may end in
    half a line, which a resumed run writes again.
    """
    torn, steps = [], [0]
    if (folder / "run.json").is_file() and not is_whole(
        lambda: json.loads((folder / "run.json").read_text())
    ):
        torn.append("run.json")
    for name in ("reference", "model"):
        path = folder / name
        if path.is_dir() and not is_whole(lambda path=path: (load_policy(path), tokens(path))):
            torn.append(name)
    for marker in folder.glob("checkpoints/checkpoint-*/dpo_lab_complete"):
        steps.append(int(marker.parent.name.rpartition("-")[2]))
        if not is_whole(lambda path=marker.parent: (load_policy(path), states(path))):
            torn.append(marker.parent.name)
    return max(steps), torn


def is_whole(read: Callable[[], object]) -> bool:
    """Whether reading works."""
    try:
        read()
    except Exception as error:
        print(f"torn: {error!r}")
        return False
    return True


def tokens(folder: Path) -> object:
    """The tokenizer of a model's folder."""
    return AutoTokenizer.from_pretrained(folder)


def states(checkpoint: Path) -> object:
    """Everything that a checkpoint has beside the weights."""
    for file in checkpoint.glob("*.json"):
        json.loads(file.read_text())
    return [torch.load(file, weights_only=False) for file in checkpoint.glob("*.pt*")]


def main() -> None:
    """Both measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as root:
        if given.kills:
            killed(Path(root), given.kills, given.seed)
        if given.steps:
            flat(Path(root), given.steps)


if __name__ == "__main__":
    main()
