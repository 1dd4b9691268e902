"""The loss around the weights that a run ended with: what `dpo-lab landscape` computes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from dpo_lab.batching import EncodedPair, encode_pairs, padding_id
from dpo_lab.errors import InputError
from dpo_lab.evaluation import mean_pair_loss
from dpo_lab.landscape import WeightSurface, pca_directions, random_directions, weight_surface
from dpo_lab.models import best_device, load_policy, load_tokenizer
from dpo_lab.pairs import read_pairs
from dpo_lab.reviews import sample_pairs
from dpo_lab.scoring import score_pairs
from dpo_lab.training.config import option
from dpo_lab.training.run_folder import RunFolder


@dataclass(frozen=True)
class LandscapeConfig:
    """Everything that `dpo-lab landscape` can be told."""

    run: str = option("dpo-lab-run", "folder of a finished run")
    pairs: str | None = option(None, "pairs to evaluate on; default: those the run trained on")
    max_pairs: int = option(200, "pairs that each grid point is evaluated on, from the first on")
    points: int = option(11, "grid points a side; an odd number puts the run's weights on the grid")
    span: float = option(1.0, "how far each direction goes, both ways")
    directions: Literal["random", "pca"] = option(
        "random", "random: filter-normalised; pca: where the run moved most"
    )
    batch_size: int = option(32, "pairs in a forward pass")
    seed: int = option(0, "seed of the random directions")

    def check(self) -> None:
        """Raise `InputError` naming the first setting that cannot be right."""
        for name in ("max_pairs", "points", "span", "batch_size"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be greater than 0, got {getattr(self, name)}")
        if self.points < 2:
            raise InputError(f"points must be at least 2, got {self.points}")


@dataclass(frozen=True)
class RunSurface:
    """The surface and what it cost.

    seconds_a_point: mean over the grid. seconds_a_pass: one forward pass over the same pairs,
    measured before. Where nothing else costs time, the two are equal.
    """

    surface: WeightSurface
    pairs: int
    seconds_a_point: float
    seconds_a_pass: float

    def table(self) -> str:
        """Size and cost as plain text."""
        points = self.surface.losses.numel()
        return (
            f"{points} grid points on {self.pairs} pairs: {self.seconds_a_point:.3g} s a point; "
            f"one forward pass over the pairs: {self.seconds_a_pass:.3g} s "
            f"(ratio {self.seconds_a_point / self.seconds_a_pass:.2f})"
        )


def run_landscape(config: LandscapeConfig, say: Callable[[str], None] = print) -> RunSurface:
    """Evaluate a finished run's own loss on a plane through its weights.

    Raises `InputError` for a folder without a finished run on pairs, and for a loss that needs
    more than log-probabilities and lengths.
    """
    config.check()
    run = RunFolder(config.run)
    record = run.open_existing()
    loss = _loss_of(record, run)
    tokenizer = load_tokenizer(run.model)
    encoded = _pairs(config, record["config"], tokenizer, say)
    policy = load_policy(run.model).to(best_device())
    reference, pad_id = None, padding_id(tokenizer)
    start = record["config"]["reference"] or record["config"]["model"] or str(run.reference)
    if "reference_sha256" in record:
        reference = score_pairs(load_policy(start), encoded, pad_id, batch_size=config.batch_size)

    def evaluate() -> float:
        return mean_pair_loss(
            policy, encoded, reference, pad_id, batch_size=config.batch_size, **loss
        )

    weights = dict(policy.named_parameters())
    directions = _directions(config, run, start, policy)
    seconds_a_pass = _timed(evaluate)[0]
    axis = torch.linspace(-config.span, config.span, config.points, dtype=torch.float64)
    seconds, surface = _timed(
        lambda: weight_surface(weights, evaluate, directions, axis, axis, progress=tqdm)
    )
    result = RunSurface(surface, len(encoded), seconds / surface.losses.numel(), seconds_a_pass)
    say(result.table())
    return result


def _loss_of(record: Mapping[str, Any], run: RunFolder) -> dict[str, Any]:
    if record.get("status") != "complete":
        raise InputError(f"run {run.root}: is not finished")
    if record["data"]["kind"] != "pairs":
        raise InputError(f"run {run.root}: was trained on labelled answers; this needs pairs")
    settings = record["config"]
    weights = settings["loss_weights"] or [1.0] * len(settings["loss"])
    options = dict(word.partition("=")[::2] for word in settings["loss_options"] or [])
    if settings["label_smoothing"] is not None:
        options["label_smoothing"] = settings["label_smoothing"]
    return {
        "loss": dict(zip(settings["loss"], weights, strict=True)),
        "beta": settings["beta"],
        **{name: float(value) for name, value in options.items()},
    }


def _pairs(
    config: LandscapeConfig, settings: Mapping[str, Any], tokenizer: Any, say: Callable
) -> list[EncodedPair]:
    source = config.pairs or settings["pairs"]
    if source is None:
        pairs = sample_pairs(settings["world_pairs"], seed=settings["seed"])
    else:
        pairs, report = read_pairs(source, odd="report")
        if report.odd:
            say(report.table())
    encoded, report = encode_pairs(tokenizer, pairs[: config.max_pairs], settings["max_length"])
    if report.dropped:
        say(report.table())
    if not encoded:
        raise InputError(f"{source}: no pair is left to evaluate on")
    return encoded


def _directions(
    config: LandscapeConfig, run: RunFolder, start: str, policy: PreTrainedModel
) -> tuple[dict, dict]:
    weights = dict(policy.named_parameters())
    if config.directions == "random":
        return random_directions(weights, config.seed)
    passed = sorted(run.checkpoints.glob("checkpoint-*"), key=_step)
    trajectory = [start, *passed, run.model]
    visited = [dict(load_policy(folder).named_parameters()) for folder in trajectory]
    return pca_directions([{k: v.to(policy.device) for k, v in each.items()} for each in visited])


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = function()
    return time.perf_counter() - began, result
