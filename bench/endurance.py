"""Memory over a long run, and twenty kills at random moments.

    python bench/endurance.py --steps 10000 --kills 20

A tiny model trains for many steps while its resident memory and the time of each step are watched.
Then a run is killed again and again (SIGKILL, at a random moment) and resumed until it is through:
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
from pathlib import Path

from transformers import AutoTokenizer

from dpo_lab.models import load_policy

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 320}
TINY |= {"world_pairs": 160, "sft_epochs": 1, "sample_prompts": 0, "per_device_train_batch_size": 4}


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
        lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return 0
    whole = [json.loads(line) for line in lines if line.endswith("\n")]
    return max((row["step"] for row in whole), default=0)


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
    """Kill and resume; then compare with a run that was left alone."""
    settings = {"num_train_epochs": 12, "logging_steps": 1, "eval_steps": 1000, "save_steps": 5}
    alone, folder, chance = root / "alone", root / "killed", random.Random(seed)
    if start(alone, **settings).wait():
        raise SystemExit("the run that was left alone failed")
    lost, done, deaths = [], False, 0
    while not done:
        resume = ["--resume"] if (folder / "run.json").is_file() else []
        process, before = start(folder, *resume, **settings), last_step(folder)
        deadline = time.monotonic() + (chance.uniform(4, 14) if deaths < kills else 1e6)
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
            deaths += 1
            reached = last_step(folder)
            kept = check_whole(folder)
            lost.append(max(reached, before) - kept if reached else 0)
        elif process.returncode:
            raise SystemExit(f"a resumed run ended with status {process.returncode}")
        done = process.returncode == 0
    records = [json.loads((run / "run.json").read_text()) for run in (alone, folder)]
    same = records[0]["model_sha256"] == records[1]["model_sha256"]
    print(f"{deaths} kills, at most {max(lost, default=0)} steps lost; the same weights: {same}")
    if not same:
        raise SystemExit("the killed run ended elsewhere")


def check_whole(folder: Path) -> int:
    """Raise where a file is torn; the step of the newest whole checkpoint."""
    if (folder / "run.json").is_file():
        json.loads((folder / "run.json").read_text())
    for name in ("reference", "model"):
        if (folder / name).is_dir():
            load_policy(folder / name)
            AutoTokenizer.from_pretrained(folder / name)
    marked = folder.glob("checkpoints/checkpoint-*/dpo_lab_complete")
    steps = [0]
    for marker in marked:
        load_policy(marker.parent)
        steps.append(int(marker.parent.name.rpartition("-")[2]))
    return max(steps)


def main() -> None:
    """Both measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        if given.kills:
            killed(Path(root), given.kills, given.seed)
        if given.steps:
            flat(Path(root), given.steps)


if __name__ == "__main__":
    main()
