"""Many runs of one recipe over a grid of beta, loss, learning rate and seed.

Every point is a run folder of its own, made by `dpo-lab train` in a process of its own: a point
that fails, or is killed, takes nothing else with it. A sweep that was interrupted goes on when the
same command is given again: finished points are read, the others start or resume.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

from dpo_lab.checks import check_beta
from dpo_lab.errors import InputError
from dpo_lab.training.config import SAMPLE_PROMPTS, TrainConfig, changed_setting, option
from dpo_lab.training.config_checks import check_config
from dpo_lab.training.run_folder import RunFolder

GRID = {"sweep_beta": "beta", "sweep_loss": "loss", "sweep_learning_rate": "learning_rate"}
GRID["sweep_seed"] = "seed"
LOG = "train.log"


@dataclass(frozen=True)
class SweepConfig(TrainConfig):
    """Everything that `dpo-lab sweep` can be told: all of `train`'s settings, and the grid."""

    output_dir: str = option("dpo-lab-sweep", "folder with a folder for each point")
    sweep_beta: list[float] | None = option(None, "values of beta")  # noqa: RUF009 (a field)
    sweep_loss: list[str] | None = option(None, "losses, one a point")  # noqa: RUF009 (a field)
    sweep_learning_rate: list[float] | None = option(None, "learning rates")  # noqa: RUF009 (a field)
    sweep_seed: list[int] | None = option(None, "seeds")  # noqa: RUF009 (a field)
    workers: int = option(1, "points trained at the same time on this machine")
    dask: str | None = option(None, "address of a Dask scheduler, where one machine is not enough")

    def check(self) -> None:
        """Raise `InputError` naming the first setting that cannot be right, of any point."""
        if self.resume:
            raise InputError("resume: a sweep goes on by itself; leave it out")
        if self.workers < 1:
            raise InputError(f"workers must be at least 1, got {self.workers}")
        if not any(getattr(self, name) for name in GRID):
            raise InputError(f"nothing to sweep over: give one of {', '.join(GRID)}")
        for name in GRID:
            values = getattr(self, name) or []
            for place, value in enumerate(values):
                if value in values[:place]:
                    raise InputError(f"{name}: {value} is given twice")
        for value in self.sweep_beta or []:
            check_beta(value, "sweep_beta")
        for point in self.points():
            check_config(point)

    def points(self) -> list[TrainConfig]:
        """One `TrainConfig` a point, in the order of the grid; its folder is named by its place."""
        given = {name: getattr(self, name) for name in GRID if getattr(self, name)}
        plain = {f.name: getattr(self, f.name) for f in fields(TrainConfig)}
        base = TrainConfig(**plain)
        if base.sample_prompts is None:  # a sweep is read on the plane of KL and reward
            base = replace(base, sample_prompts=SAMPLE_PROMPTS)
        points = []
        for values in product(*given.values()):
            chosen = {GRID[name]: value for name, value in zip(given, values, strict=True)}
            folder = ",".join(f"{name}={value}" for name, value in chosen.items())
            if "loss" in chosen:
                chosen["loss"] = [chosen["loss"]]
            points.append(replace(base, output_dir=str(Path(self.output_dir, folder)), **chosen))
        return points

    def settings_of(self, point: TrainConfig) -> dict[str, Any]:
        """The point's place in the grid: the swept settings and their values."""
        settings = {GRID[n]: getattr(point, GRID[n]) for n in GRID if getattr(self, n)}
        return {n: v[0] if isinstance(v, list) else v for n, v in settings.items()}


@dataclass(frozen=True)
class PointResult:
    """What became of one point: its run's record and last measurements, or what went wrong.

    settings: its place in the grid.
    """

    name: str
    settings: dict[str, Any]
    record: dict[str, Any] | None
    last: dict[str, float]
    error: str | None = None


def run_sweep(
    config: SweepConfig,
    say: Callable[[str], None] = print,
    executor: Executor | None = None,
) -> list[PointResult]:
    """Train every point and return their results in the grid's order; reports each as it ends.

    executor: any that has `submit` and gives futures; default: as many processes as `workers`, or
    a Dask cluster. Raises `InputError` for a setting that cannot be right, and for a folder that
    holds points of another sweep.
    """
    config.check()
    points = config.points()
    for point in points:
        _check_same(point)
    results: dict[str, PointResult] = {}
    with _executor(config, executor) as pool:
        waiting = {pool.submit(run_point, point): point for point in points}
        for future in as_completed(waiting):
            point = waiting[future]
            try:
                error = future.result()
            except Exception as failure:  # a worker of a cluster that was lost
                error = f"{type(failure).__name__}: {failure}"
            result = _result(point, config.settings_of(point), error)
            results[result.name] = result
            said = "done" if error is None else f"failed: {error}"
            say(f"{len(results)} of {len(points)}: {result.name}: {said}")
    return [results[Path(point.output_dir).name] for point in points]


def run_point(point: TrainConfig) -> str | None:
    """Train one point in a process of its own, or go on with it. None, or what went wrong.

    What it prints goes to `train.log` beside its folder's other files.
    """
    run = RunFolder(point.output_dir)
    started = run.run_file.is_file()
    if started and run.open_existing().get("status") == "complete":
        return None
    words = to_words(replace(point, resume=started))
    log = run.root.with_name(f"{run.root.name}.{LOG}")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        command = [sys.executable, "-m", "dpo_lab", "train", *words]
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode == 0:
        return None
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    return (
        f"exit status {done.returncode}; {log.name} ends with: {lines[-1] if lines else 'nothing'}"
    )


def to_words(config: TrainConfig) -> list[str]:
    """The command line that gives these settings to `dpo-lab train`."""
    words = []
    for setting in fields(TrainConfig):
        value = getattr(config, setting.name)
        if value is None:
            continue
        values = value if isinstance(value, list) else [value]
        words += [f"--{setting.name}", *map(str, values)]
    return words


@contextmanager
def _executor(config: SweepConfig, given: Executor | None) -> Any:
    if given is not None:
        yield given
    elif config.dask is not None:
        with _dask_client(config.dask) as client:
            yield client.get_executor()
    else:
        # Threads only wait here: each point is a process.
        with ThreadPoolExecutor(config.workers) as pool:
            try:
                yield pool
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _dask_client(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError("dask: is not installed (pip install 'dpo_lab[dask]')") from error
    try:
        return Client(address, timeout=20)
    except (OSError, ValueError) as error:
        raise InputError(f"dask: no scheduler answers at {address} ({error})") from error


def _check_same(point: TrainConfig) -> None:
    """Raise `InputError` if the point's folder holds a run with other settings."""
    run = RunFolder(point.output_dir)
    if not run.run_file.is_file():
        return
    if changed := changed_setting(run.open_existing()["config"], point):
        raise InputError(f"{run.root}: holds a point of another sweep: {changed}")


def _result(point: TrainConfig, settings: dict[str, Any], error: str | None) -> PointResult:
    run = RunFolder(point.output_dir)
    record, last = None, {}
    if error is None:
        record = run.open_existing()
        for row in run.read_metrics():
            last.update(row)
    return PointResult(run.root.name, settings, record, last, error)


def table(results: Sequence[PointResult]) -> str:
    """The sweep as plain text, a line a point; a number that was not measured is a dash."""
    width = max(len("point"), *(len(result.name) for result in results))
    lines = [f"{'point':<{width}}  accuracy  margin  KL              true reward      seconds"]
    for result in results:
        if result.error is not None:
            lines.append(f"{result.name:<{width}}  failed: {result.error}")
            continue
        judged = result.record["evaluation"]
        share = judged.get("accuracy") or judged.get("rank")
        margin = result.last.get("eval_rewards/margins")
        columns = [
            f"{share['value']:<8.3f}",
            f"{'-' if margin is None else f'{margin:.3f}':<6}",
            f"{_measured(result.last, 'kl/policy'):<14}",
            f"{_measured(result.last, 'gold/reward'):<15}",
            f"{result.record['seconds']:.0f}",
        ]
        lines.append("  ".join([f"{result.name:<{width}}", *columns]))
    return "\n".join(lines)


def _measured(row: dict[str, float], name: str) -> str:
    return f"{row[name]:.2f} ± {row[f'{name}_error']:.2f}" if name in row else "-"


def plane(results: Sequence[PointResult]) -> tuple[str, list[dict[str, Any]]]:
    """The name of the reward, and what `plotting.sweep` draws: the points whose KL was measured.

    The reward is the true one where it is known, else the share of held-out pairs ranked right.
    """
    measured = [r for r in results if r.error is None and "kl/policy" in r.last]
    gold = all("gold/reward" in result.last for result in measured)
    points = []
    for result in measured:
        last, judged = result.last, result.record["evaluation"]
        share = judged.get("accuracy") or judged.get("rank")
        # A quarter of a 95 % interval is about one standard error.
        reward = (share["value"], (share["high"] - share["low"]) / 4)
        if gold:
            reward = (last["gold/reward"], last["gold/reward_error"])
        kl = {"kl": last["kl/policy"], "kl_error": last["kl/policy_error"]}
        values = dict(zip(("reward", "reward_error"), reward, strict=True))
        points.append({"settings": result.settings, **kl, **values})
    return ("true reward" if gold else "held-out accuracy"), points
