"""Memory of `dpo-lab train` on a data set and on one that is four times as large.

    python bench/large_data.py [--pairs 2500] [--loss simpo]

A tiny model trains for three steps on generated pairs of about 4 kB of text. Meanwhile the
anonymous memory of its process (RssAnon: what the system cannot let go of) is watched. Text and
token ids lie in files, so it must grow by less than 15 % and by less than 2000 bytes a pair. A loss
with a reference adds the pass that scores all pairs, which takes longest. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dpo_lab.models import SmallModelConfig, build_model, train_tokenizer

LARGEST_SHARE, LARGEST_BYTES = 1.15, 2000  # growth of the whole; growth by each pair more
TIMES = 4
WORDS = 1000  # of the vocabulary that text is drawn from; each becomes a token


def write_pairs(file: Path, count: int, seed: int) -> int:
    """Pairs of random words, no two alike; the bytes written."""
    chance, words = random.Random(seed), vocabulary()

    def text(length: int) -> str:
        return "".join(chance.choices(words, k=length))

    with file.open("w", encoding="utf-8") as lines:
        for number in range(count):
            row = {"prompt": f"{number:08}{text(80)}"}
            row |= {"chosen": text(250), "rejected": text(250)}
            lines.write(json.dumps(row) + "\n")
    return file.stat().st_size


def vocabulary() -> list[str]:
    """The same words each time."""
    chance = random.Random(0)
    return [f" {''.join(chance.choices('abcdefgh', k=6))}" for _ in range(WORDS)]


def make_model(folder: Path) -> None:
    """A saved model that costs next to nothing; its tokenizer has learned the words."""
    tokenizer = train_tokenizer(2 * vocabulary(), 8192)
    build_model(tokenizer, SmallModelConfig(16, 1, 2, 1024)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def anonymous(process: int) -> int:
    """Bytes of anonymous memory of a process, 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(x.split()[1]) for x in lines if x.startswith("RssAnon:")), 0)


def peak_of(root: Path, file: Path, loss: str) -> tuple[int, float]:
    """Largest anonymous memory of a real run in bytes, and its seconds."""
    settings = {
        "pairs": file,
        "model": root / "model",
        "output_dir": root / f"run-{file.stem}",
        "loss": loss,
        "max_steps": 3,
        "max_length": 1000,
        "eval_fraction": 0.01,
        "per_device_train_batch_size": 4,
    }
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    log = file.with_suffix(".log")
    began, peak = time.monotonic(), 0
    with log.open("w") as out:
        run = subprocess.Popen(
            [sys.executable, "-m", "dpo_lab", "train", *words],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | {"DPO_LAB_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1"},
        )
        while run.poll() is None:
            peak = max(peak, anonymous(run.pid))
            time.sleep(0.02)
    if run.returncode:
        raise SystemExit(f"the run ended with status {run.returncode}:\n{log.read_text()[-3000:]}")
    return peak, time.monotonic() - began


def main() -> None:
    """Measure both sizes and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2500)
    parser.add_argument("--loss", default="simpo")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root, peaks = Path(name), []
        make_model(root / "model")
        for count in (given.pairs, TIMES * given.pairs):
            file = root / f"{count}.jsonl"
            size = write_pairs(file, count, seed=count)
            peak, seconds = peak_of(root, file, given.loss)
            peaks.append(peak)
            print(
                f"{count:>7} pairs, {size / 2**20:4.0f} MiB of text: "
                f"{peak / 2**20:6.1f} MiB of anonymous memory at most, {seconds:.0f} s",
                flush=True,
            )
    by_pair = (peaks[1] - peaks[0]) / ((TIMES - 1) * given.pairs)
    share = peaks[1] / peaks[0]
    print(f"{TIMES} times the pairs: {share:.3f} times the memory, {by_pair:.0f} bytes a pair more")
    if share > LARGEST_SHARE or by_pair > LARGEST_BYTES:
        raise SystemExit("memory grows with the data")


if __name__ == "__main__":
    main()
