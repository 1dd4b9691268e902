"""The command `dpo-lab`: train, sweep, start, score, evaluate, diagnose, landscape, inspect, bench.

Each command is a frozen dataclass of settings and one function; the options are made from the
dataclass. A mistake of the user's ends with one message and exit code 2, never with a traceback.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from dpo_lab import __version__, commands
from dpo_lab.errors import InputError


class Command(NamedTuple):
    """One command. settings: module and class of its dataclass, imported when it is called."""

    help: str
    settings: str
    run: Callable[[Any], None]


COMMANDS = {
    "train": Command(
        "train a model on preference pairs, from pairs to curves",
        "training.config:TrainConfig",
        commands.train,
    ),
    "sweep": Command(
        "train over a grid of beta, loss, learning rate and seed; a table and a figure",
        "training.sweep:SweepConfig",
        commands.sweep,
    ),
    "start": Command(
        "a small model tuned on tiny reviews, to start experiments from; kept in the cache",
        "training.starting_model:StartConfig",
        commands.start,
    ),
    "score": Command(
        "log-probabilities and implicit rewards of pairs under any policy and reference",
        "commands:ScoreConfig",
        commands.score,
    ),
    "evaluate": Command(
        "two models beside each other: ranking, calibration, KL, length, variety, wins",
        "evaluation.compare:EvaluateConfig",
        commands.evaluate,
    ),
    "diagnose": Command(
        "read a run's curves and say in words what they show",
        "commands:DiagnoseConfig",
        commands.diagnose,
    ),
    "landscape": Command(
        "the loss on a plane through a finished run's weights, and what it cost",
        "training.run_landscape:LandscapeConfig",
        commands.landscape,
    ),
    "inspect": Command(
        "show one pair's tokens: prompt, response, BOS and EOS",
        "commands:InspectConfig",
        commands.inspect,
    ),
    "bench": Command(
        "this trainer beside TRL's: equal losses first, then speed and memory",
        "bench.command:BenchConfig",
        commands.bench,
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, or 2 for a mistake in what was given."""
    parser = argparse.ArgumentParser(
        prog="dpo-lab", description="Direct Preference Optimization, exact and small."
    )
    parser.add_argument("--version", action="version", version=f"dpo-lab {__version__}")
    listed = "\n".join(f"{name:10}{command.help}" for name, command in COMMANDS.items())
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"commands:\n{listed}\n\ndpo-lab COMMAND --help lists a command's options."
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="...")
    given = parser.parse_args(arguments)
    try:
        COMMANDS[given.command].run(_parse(given.command, given.options))
    except InputError as error:
        print(f"dpo-lab {given.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"dpo-lab {given.command}: interrupted", file=sys.stderr)
        return 130
    return 0


def _parse(name: str, options: Sequence[str]) -> Any:
    from transformers.hf_argparser import HfArgumentParser

    command = COMMANDS[name]
    module, _, settings = command.settings.partition(":")
    parser = HfArgumentParser(
        getattr(import_module(f"dpo_lab.{module}"), settings),
        prog=f"dpo-lab {name}",
        description=command.help,
        allow_abbrev=False,
    )
    (config,) = parser.parse_args_into_dataclasses(list(options))
    return config
