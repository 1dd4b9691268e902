"""`dpo-lab bench`: first whether all train alike, then how fast."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch

from dpo_lab.bench import jobs
from dpo_lab.bench.contenders import CONTENDERS, LADDER, Job
from dpo_lab.bench.floors import needed_flops
from dpo_lab.bench.report import terminal_report, write_report
from dpo_lab.bench.shapes import SHAPES, make_pairs
from dpo_lab.errors import InputError
from dpo_lab.packing import packed_size
from dpo_lab.training.config import option
from dpo_lab.training.surroundings import processor, surroundings

TOLERANCE, CHECKED_STEPS = 1e-4, 5
HALF_TOLERANCE = 0.2  # rounding of long sums, times beta, is some 0.02; another batch is more
CHECKED = ("trl-best", "plain", "ours", "loop")
GPU_CHECKED = ("trl-best", "ours")
# (contender, in half precision)
ROWS = [(name, True) for name in ("trl-default", "trl-precomputed", "trl-best", "ours", "loop")]
ROWS += [("trl-best", False), ("ours", False)]
GPU_ROWS = [(name, True) for name in ("trl-default", "trl-precomputed", "trl-best", "ours")]
LADDER_ROWS = [(name, name in ("ladder-half", "ladder-kept")) for name in LADDER]

Start = Callable[[str, Job], dict[str, Any]]


@dataclass(frozen=True)
class BenchConfig:
    """Everything that `dpo-lab bench` can be told."""

    device: Literal["cpu", "cuda"] = option(
        "cpu", "where: cuda takes a model of Qwen2.5-0.5B's size"
    )
    ladder: bool = option(False, "the fast path one technique at a time, in place of TRL")
    shapes: list[str] | None = option(  # noqa: RUF009 (a field, like all others)
        None, f"models: {', '.join(SHAPES)}; default: by device"
    )
    rounds: int = option(3, "times that every contender runs, in turn")
    steps: int | None = option(None, "timed steps a run; default: by model")
    warm: int | None = option(None, "steps before that; default: by model")
    threads: int | None = option(None, "threads; default: torch's")
    minutes: float | None = option(None, "start no round that would end later; 7 on cuda")
    output: str | None = option(None, "file.json of the results; file.md and file.png beside it")

    def __post_init__(self) -> None:
        """Raise `InputError` for what cannot be run."""
        for name in self.chosen_shapes:
            if name not in SHAPES:
                raise InputError(f"shapes: unknown {name!r}; known: {', '.join(SHAPES)}")
        for name in ("rounds", "steps", "warm", "threads"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("device cuda: there is none here")

    @property
    def chosen_shapes(self) -> list[str]:
        """The models that run."""
        return self.shapes or (["qwen2.5-0.5b"] if self.device == "cuda" else ["tiny", "small"])

    @property
    def rows(self) -> list[tuple[str, bool]]:
        """Who runs, each with whether in half precision."""
        if self.ladder:
            return LADDER_ROWS
        return ROWS if self.device == "cpu" else GPU_ROWS

    def job(self, shape: str, contender: str, half: bool) -> Job:
        """One run of one contender."""
        sizes = SHAPES[shape]
        steps = sizes.steps if self.steps is None else self.steps
        warm = sizes.warm if self.warm is None else self.warm
        return Job(contender, shape, half, steps, warm, sizes.pairs, self.device, self.threads)


def bench(
    config: BenchConfig,
    start: Start | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure, print, and write where `output` says. Raises `InputError` where losses differ.

    start: runs a task of a job; default: in a process of its own.
    """
    start = start or jobs.start
    if config.output is not None:
        _check_replaceable(Path(config.output))
    minutes = 7.0 if config.minutes is None and config.device == "cuda" else config.minutes
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    results = {
        "device": config.device,
        "ladder": config.ladder,
        "surroundings": _surroundings(config),
        "shapes": {},
    }
    for shape in config.chosen_shapes:
        differences = check_alike(config, shape, start, say)
        entry = _facts(config, shape, start) | differences
        entry["rows"] = _rounds(config, shape, start, say, deadline)
        if not config.ladder:
            entry["profiles"] = {
                name: start("profile", config.job(shape, "loop", half))
                for name, half in _precisions(config.rows).items()
            }
        results["shapes"][shape] = entry
    say(terminal_report(results))
    if config.output is not None:
        write_report(results, Path(config.output))
    return results


def check_alike(
    config: BenchConfig,
    shape: str,
    start: Start,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train a few steps in float32 and compare every step's loss.

    Raises `InputError` where two contenders differ by more than `TOLERANCE`.
    """
    names = CHECKED if config.device == "cpu" else GPU_CHECKED
    if config.ladder:
        names = [name for name, half in LADDER_ROWS if not half]
    losses = {}
    for name in names:
        job = config.job(shape, name, False)._replace(steps=CHECKED_STEPS, warm=0)
        losses[name] = start("train", job)["losses"]
        say(f"{shape}: {CONTENDERS[name].label}: {', '.join(f'{x:.5f}' for x in losses[name])}")
    worst = largest_difference(losses)
    if not worst <= TOLERANCE:
        raise InputError(
            f"{shape}: the losses of the same {CHECKED_STEPS} steps differ by {worst:.1e}, more "
            f"than {TOLERANCE:.0e}: nothing was timed"
        )
    say(f"{shape}: equal losses in float32: {worst:.1e} apart at most\n")
    return {"checked_steps": CHECKED_STEPS, "largest_difference": worst}


def largest_difference(losses: Mapping[str, Sequence[float]]) -> float:
    """Between any two contenders in any step; nan where a loss is."""
    steps = torch.tensor(list(losses.values()), dtype=torch.float64)
    return (steps.amax(0) - steps.amin(0)).max().item()


def _rounds(
    config: BenchConfig,
    shape: str,
    start: Start,
    say: Callable[[str], None],
    deadline: float | None,
) -> list[dict[str, Any]]:
    """Every contender in turn, round by round."""
    rows = [_empty_row(name, half) for name, half in config.rows]
    longest = 0.0
    for number in range(config.rounds):
        begin = time.monotonic()
        if number and deadline is not None and begin + longest > deadline:
            say(f"{shape}: {number} rounds, for more there is no time")
            break
        losses = {}
        for row in rows:
            job = config.job(shape, row["contender"], row["half"])
            measured = start("train", job)
            losses[f"{row['contender']} {row['half']}"] = measured["losses"]
            row["seconds"].append(sum(measured["seconds"][job.warm :]))
            row["remark"] = measured["remark"]
            for name in ("setup", "peak_bytes", "base_bytes"):
                row[name].append(measured[name])
            took = row["seconds"][-1] / job.steps
            say(f"{shape}, round {number + 1}: {row['label']}, {_name(job)}: {took:.3f} s a step")
        if not largest_difference(losses) <= HALF_TOLERANCE:
            raise InputError(f"{shape}: losses differ by {largest_difference(losses):.2g}")
        longest = max(longest, time.monotonic() - begin)
    return rows


def _empty_row(name: str, half: bool) -> dict[str, Any]:
    lists = {key: [] for key in ("seconds", "setup", "peak_bytes", "base_bytes")}
    return {"contender": name, "label": CONTENDERS[name].label, "half": half, **lists}


def _facts(config: BenchConfig, shape: str, start: Start) -> dict[str, Any]:
    """Sizes of what is trained, and this machine's rates."""
    job, sizes = config.job(shape, "loop", True), SHAPES[shape]
    timed = make_pairs(job.pairs * (job.steps + job.warm), sizes.vocab)[job.pairs * job.warm :]
    return {
        "steps": job.steps,
        "warm": job.warm,
        "pairs": job.pairs,
        "tokens": sum(map(packed_size, timed)),
        "needed_flops": needed_flops(sizes, timed),
        "half": _name(job),
        "rates": {
            name: start("rates", job._replace(half=half))
            for name, half in _precisions(config.rows).items()
        },
    }


def _precisions(rows: Sequence[tuple[str, bool]]) -> dict[str, bool]:
    return {"half" if half else "float32": half for half in sorted({half for _, half in rows})}


def _name(job: Job) -> str:
    return str(job.precision or torch.float32).removeprefix("torch.")


def _surroundings(config: BenchConfig) -> dict[str, Any]:
    facts = surroundings()
    try:
        facts["trl"] = version("trl")
    except PackageNotFoundError:
        facts["trl"] = None
    facts["threads"] = config.threads or facts["threads"]
    if config.device == "cpu":
        facts["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
        facts |= processor()
    return facts


def _check_replaceable(file: Path) -> None:
    """Raise `InputError` for a file that no benchmark wrote."""
    if not file.exists():
        return
    try:
        if "surroundings" in json.loads(file.read_text(encoding="utf-8")):
            return
    except (OSError, ValueError):
        pass
    raise InputError(f"output {file}: exists and holds no benchmark; nothing was changed")
