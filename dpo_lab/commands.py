"""What each command of `dpo-lab` does once its settings are read; the small ones' settings, too.

What a command needs is imported inside it: only `train` and `sweep` pay for the Trainer.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import fill
from typing import Any, Literal

from dpo_lab.checks import check_beta
from dpo_lab.errors import InputError


def train(config: Any) -> None:
    """Train, then draw the curves and say in a paragraph what they show."""
    from dpo_lab import diagnosis
    from dpo_lab.plotting.curves import save_curves
    from dpo_lab.training import recipe
    from dpo_lab.training.checkpoints import complete_checkpoints
    from dpo_lab.training.processes import is_lost_process, leave, on_cpu
    from dpo_lab.training.run_folder import RunFolder
    from dpo_lab.training.surroundings import keep_freed_memory
    from dpo_lab.training.write_failures import (
        after_write_failure,
        is_write_failure,
        what_is_left,
        writing,
    )

    run = RunFolder(config.output_dir)
    if on_cpu():
        keep_freed_memory()
    try:
        evaluation = recipe.train(config)
        leave()
        if evaluation is None:  # one of several processes, and not the one that reports
            return
        rows, record = run.read_metrics(), run.open_existing()
        with writing(run.curves_file):
            save_curves(rows, run.curves_file)
    except Exception as error:
        complete = complete_checkpoints(run.checkpoints).values()
        if is_lost_process(error):
            left = what_is_left(run.root, complete)
            raise InputError(f"another process of this run has ended; {left}") from error
        if is_write_failure(error):
            raise InputError(after_write_failure(run.root, complete, error)) from error
        raise
    print(f"\n{fill(diagnosis.summary(rows, record, diagnosis.diagnose(rows, record)), 88)}")
    print(f"\nmodel, metrics and curves: {run.root} (more: dpo-lab diagnose --run {run.root})")


def sweep(config: Any) -> None:
    """Train every point, then print the table and draw the plane of KL and reward."""
    from dpo_lab.plotting.sweep import save_sweep
    from dpo_lab.training.run_folder import write_atomically
    from dpo_lab.training.sweep import plane, run_sweep, table

    results = run_sweep(config)
    root = Path(config.output_dir)
    content = [asdict(result) for result in results]
    write_atomically(root / "sweep.json", json.dumps(content, indent=2) + "\n")
    print(f"\n{table(results)}")
    reward, points = plane(results)
    if points:
        save_sweep(points, next(iter(points[0]["settings"])), reward, root / "sweep.png")
        print(f"\n{root / 'sweep.png'}")
    if failed := [result.name for result in results if result.error is not None]:
        raise InputError(f"{len(failed)} of {len(results)} points failed: {', '.join(failed)}")


def evaluate(config: Any) -> None:
    """Print two models beside each other; write the numbers as JSON where asked."""
    from dpo_lab.evaluation.compare import evaluate_models
    from dpo_lab.training.run_folder import write_atomically

    target = None if config.output is None else Path(config.output)
    _check_free(target)
    report = evaluate_models(config)
    if target is not None:
        write_atomically(target, json.dumps(report.to_dict(), indent=2) + "\n")
    print(report.table())


def bench(config: Any) -> None:
    """Time the trainer beside TRL's, after both were seen to give the same losses."""
    from dpo_lab.bench.command import bench as run_bench

    run_bench(config)


@dataclass(frozen=True)
class DiagnoseConfig:
    """Everything that `dpo-lab diagnose` can be told."""

    run: str = "dpo-lab-run"


def diagnose(config: DiagnoseConfig) -> None:
    """Print what the run in a folder shows, each finding with its numbers."""
    from dpo_lab import diagnosis
    from dpo_lab.training.run_folder import RunFolder

    run = RunFolder(config.run)
    record = run.open_existing()
    rows = run.read_metrics()
    if not rows:
        raise InputError(f"{run.metrics_file}: is empty; the run has logged nothing yet")
    findings = diagnosis.diagnose(rows, record)
    print(f"{fill(diagnosis.summary(rows, record, findings), 88)}\n")
    for finding in findings:
        print(f"{finding}\n")
    unfinished = "" if record.get("status") == "complete" else "; the run is not finished"
    print(f"{len(rows)} logged rows, {len(findings) or 'no'} findings{unfinished}")


def start(config: Any) -> None:
    """Print the folder of the small tuned model, made where the cache has none."""
    from dpo_lab.training.starting_model import starting_model

    print(starting_model(config, _to_stderr))


def landscape(config: Any) -> None:
    """Draw the run's loss on a plane through its weights."""
    from dpo_lab.plotting.landscape import save_weight_surface
    from dpo_lab.training.run_folder import RunFolder, write_atomically
    from dpo_lab.training.run_landscape import run_landscape

    result = run_landscape(config)
    run = RunFolder(config.run)
    columns = {name: column.tolist() for name, column in result.surface._asdict().items()}
    write_atomically(run.landscape_data, json.dumps(columns) + "\n")
    save_weight_surface(result.surface, run.landscape_file)
    print(f"{run.landscape_file} and {run.landscape_data.name}")


@dataclass(frozen=True)
class ScoreConfig:
    """Everything that `dpo-lab score` can be told."""

    pairs: str
    policy: str
    reference: str
    beta: float = 0.1
    output: str | None = None
    max_length: int = 512
    batch_size: int = 16
    odd_rows: Literal["strict", "report"] = "report"


def score(config: ScoreConfig) -> None:
    """Write one JSON line a usable pair: log-probabilities, implicit rewards, margin, lengths.

    The lines go to `output`, or to standard output; the summary goes to standard error.
    """
    from dpo_lab.evaluation import evaluate_pairs, score_source
    from dpo_lab.training.run_folder import write_atomically

    check_beta(config.beta)
    target = None if config.output is None else Path(config.output)
    _check_free(target)
    scores = score_source(
        config.pairs,
        config.policy,
        config.reference,
        max_length=config.max_length,
        batch_size=config.batch_size,
        odd_rows=config.odd_rows,
        say=_to_stderr,
    )
    text = "".join(json.dumps(row) + "\n" for row in scores.rows(config.beta))
    if target is None:
        sys.stdout.write(text)
    else:
        write_atomically(target, text)
    summary = evaluate_pairs(scores.pairs, scores.logps, config.beta)
    _to_stderr(summary.table())


@dataclass(frozen=True)
class InspectConfig:
    """Everything that `dpo-lab inspect` can be told; rows count from 1 among the usable pairs."""

    pairs: str
    model: str
    row: int = 1
    max_length: int = 512
    odd_rows: Literal["strict", "report"] = "report"


def inspect(config: InspectConfig) -> None:
    """Print the tokens of one pair's two answers as the trainer sees them."""
    from dpo_lab.batching import encode_pairs, render_tokens
    from dpo_lab.models import load_tokenizer
    from dpo_lab.pairs import read_pairs

    pairs, report = read_pairs(config.pairs, odd=config.odd_rows)
    if report.odd:
        _to_stderr(report.table())
    if not 1 <= config.row <= len(pairs):
        raise InputError(f"row must lie in 1..{len(pairs)}, got {config.row}")
    tokenizer = load_tokenizer(config.model)
    encoded, encoding = encode_pairs(tokenizer, [pairs[config.row - 1]], config.max_length)
    if not encoded:
        raise InputError(f"row {config.row}: {encoding.table()}")
    for side in ("chosen", "rejected"):
        print(f"{side}\n{render_tokens(getattr(encoded[0], side), tokenizer)}\n")


def _check_free(target: Path | None) -> None:
    if target is None:
        return
    from dpo_lab.training.run_folder import check_writable

    if target.exists():
        raise InputError(f"output {target}: exists already; nothing was changed")
    if not target.parent.is_dir():
        raise InputError(f"output {target}: there is no folder {target.parent}")
    check_writable(target.parent, f"output {target}")


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)
