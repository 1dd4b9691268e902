"""Numbers, tables and verdicts out of what `dpo-lab bench` measured; nothing is measured here."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dpo_lab.plotting.bench import save_speeds
from dpo_lab.training.run_folder import write_atomically

# What was set out to be reached on a CPU: speed beside the fastest TRL row of the same precision.
SPEED = {("tiny", "half"): 3.5, ("small", "half"): 6.0}
SPEED |= {("tiny", "float32"): 2.0, ("small", "float32"): 3.0}
FLOOR = {"half": 0.45, "float32": 0.75}
MEMORY = 0.7


class Line(NamedTuple):
    """One contender's numbers: seconds of a step over the rounds, ratios to the yardstick.

    faster, faster_epoch: the yardstick's time over its own. memory: its own peak over the
    yardstick's. floor: the time that the needed products take at this machine's rate over its own.
    """

    name: str
    label: str
    precision: str
    median: float
    low: float
    high: float
    pairs_per_second: float
    faster: float
    faster_epoch: float
    peak: float
    base: float
    memory: float
    floor: float


def lines(entry: Mapping[str, Any]) -> list[Line]:
    """The rows of one model's results, each beside its yardstick.

    That is the fastest of TRL's rows of the same precision; of a ladder, its first row.
    """
    result = []
    for row in entry["rows"]:
        yardstick = _yardstick(entry["rows"], row["half"])
        kind = "half" if row["half"] else "float32"
        seconds, steps = statistics.median(row["seconds"]), entry["steps"]
        floor = entry["needed_flops"] / entry["rates"][kind]["flops_per_second"]
        peak, rival = (statistics.median(r["peak_bytes"]) for r in (row, yardstick))
        result.append(
            Line(
                row["contender"],
                f"{row['label']} ({row['remark']})" if row["remark"] else row["label"],
                entry["half"] if row["half"] else "float32",
                seconds / steps,
                min(row["seconds"]) / steps,
                max(row["seconds"]) / steps,
                entry["pairs"] * steps / seconds,
                statistics.median(yardstick["seconds"]) / seconds,
                _epoch(yardstick, entry) / _epoch(row, entry),
                peak / 2**20,
                statistics.median(row["base_bytes"]) / 2**20,
                peak / rival,
                floor / seconds,
            )
        )
    return result


def _yardstick(rows: Sequence[Mapping[str, Any]], half: bool) -> Mapping[str, Any]:
    rivals = [r for r in rows if r["contender"].startswith("trl") and r["half"] == half]
    return min(rivals, key=lambda r: statistics.median(r["seconds"])) if rivals else rows[0]


def _epoch(row: Mapping[str, Any], entry: Mapping[str, Any]) -> float:
    """Seconds of the timed steps and of what comes before them, for as many pairs."""
    timed = entry["steps"] / (entry["steps"] + entry["warm"])
    return statistics.median(row["seconds"]) + timed * statistics.median(row["setup"])


def verdicts(name: str, entry: Mapping[str, Any]) -> list[str]:
    """One sentence a target: reached, or by how much not; then the reasons that are known."""
    said, short = [], set()
    for line in (line for line in lines(entry) if line.name == "ours"):
        kind = "float32" if line.precision == "float32" else "half"
        for what, found, wanted, reached in (
            ("speed beside TRL's best", line.faster, SPEED.get((name, kind)), True),
            ("peak memory beside it", line.memory, MEMORY, False),
            ("share of the floor", line.floor, FLOOR[kind], True),
        ):
            if wanted is None:
                continue
            good = found >= wanted if reached else found <= wanted
            sign = "at least" if reached else "at most"
            verdict = "reached" if good else "**falls short**"
            said.append(
                f"{line.precision}, {what}: {found:.2f}, wanted {sign} {wanted:g}: {verdict}."
            )
            if not good:
                short.add((kind, "memory" if not reached else "time"))
    return said + [_reason(entry, *each) for each in sorted(short)]


def _reason(entry: Mapping[str, Any], kind: str, what: str) -> str:
    (line,) = [
        line
        for line in lines(entry)
        if line.name == "ours" and (line.precision == "float32") == (kind == "float32")
    ]
    if what == "memory":
        return (
            f"Why, in {line.precision}: {line.base:.0f} of the {line.peak:.0f} MB are libraries "
            "and weights, there before anything is trained and the same for all."
        )
    rates, profile = entry["rates"][kind], entry["profiles"][kind]
    own = rates["own_flops"] / rates["own_seconds"] / rates["flops_per_second"]
    shares = ", ".join(f"{name} {share:.0%}" for name, share in profile["kinds"].items())
    return (
        f"Why, in {line.precision}: a profile of the bare loop gives {shares} of the time; and "
        f"the model's own products, alone, run at {own:.0%} of the rate that the floor is "
        "computed with."
    )


def markdown(results: Mapping[str, Any]) -> str:
    """Where it was measured; then for each model the conditions, the table and the verdicts."""
    parts = [describe_surroundings(results)]
    for name, entry in results["shapes"].items():
        parts.append(f"**{name}**: {_facts(entry)}")
        parts.append(_table(results, entry))
        if results["device"] == "cpu" and not results["ladder"]:
            parts.append("\n".join(f"- {sentence}" for sentence in verdicts(name, entry)))
    return "\n\n".join(parts) + "\n"


def page_markdown(results: Mapping[str, Any] | None, stem: str) -> str:
    """The same for a page of the book beside a folder `results`, with the figure `stem`.png.

    None: says that nothing was measured yet.
    """
    if results is None:
        return "| model | result |\n| --- | --- |\n| all | not yet measured |\n"
    bars = "; ".join(
        f"{name}: " + ", ".join(f"{label} {speed:.3g}" for label, speed, _ in panel)
        for name, panel in _panels(results).items()
    )
    figure = (
        f"```{{figure}} results/{stem}.png\n:name: fig-{stem.replace('_', '-')}\n"
        f":alt: Bars of pairs a second. {bars}.\n\n"
        "Pairs a second, the median over rounds. Longer is faster.\n```\n"
    )
    return f"{figure}\n{markdown(results)}"


def terminal_report(results: Mapping[str, Any]) -> str:
    """The same for a terminal."""
    return "\n" + markdown(results).replace("**", "")


def _facts(entry: Mapping[str, Any]) -> str:
    rates = ", ".join(
        f"{'float32' if kind == 'float32' else entry['half']} "
        f"{rate['flops_per_second'] / 1e9:.0f} GFLOP/s"
        for kind, rate in entry["rates"].items()
    )
    rounds, needed = len(entry["rows"][0]["seconds"]), entry["needed_flops"] / entry["steps"]
    return (
        f"{entry['pairs']} pairs a step, steps: {entry['steps']} timed after {entry['warm']}, "
        f"{rounds} round{'s' * (rounds > 1)}; needed: {needed / 1e9:.0f} "
        f"GFLOP a step; fastest product: {rates}; losses of {entry['checked_steps']} steps in "
        f"float32 at most {entry['largest_difference']:.0e} apart."
    )


def describe_surroundings(results: Mapping[str, Any]) -> str:
    """Processor or card, threads and versions, in one sentence."""
    facts = results["surroundings"]
    versions = [f"{p} {facts[p]}" for p in ("torch", "transformers", "trl") if facts.get(p)]
    where = facts.get("processor") or facts["device"]
    flags = f" ({facts['cpu_flags'].replace(' ', ', ')})" if facts.get("cpu_flags") else ""
    threads = f"{facts['threads']} thread{'s' * (facts['threads'] > 1)}"
    return f"{where}{flags}, {threads}; {', '.join(versions)}."


def _table(results: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    found = lines(entry)
    if results["ladder"]:
        header = ["technique added", "precision", "s a step", "min–max", "× the row above"]
        before = [found[0], *found[:-1]]
        rows = [
            [line.label, line.precision, *_spread(line), f"{above.median / line.median:.2f}",
             f"{found[0].median / line.median:.2f}", f"{line.peak:.0f}"]
            for above, line in zip(before, found, strict=True)
        ]  # fmt: skip
        return markdown_table([*header, "× the first", "peak MB"], rows)
    header = ["", "precision", "s a step", "min–max", "× TRL's best", "× with set-up", "peak MB"]
    rows = [
        [line.label, line.precision, *_spread(line), f"{line.faster:.2f}",
         f"{line.faster_epoch:.2f}", f"{line.peak:.0f}", f"{line.floor:.0%}"]
        for line in found
    ]  # fmt: skip
    return markdown_table([*header, "of floor"], rows)


def _spread(line: Line) -> tuple[str, str]:
    return f"{line.median:.3g}", f"{line.low:.3g}–{line.high:.3g}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table: the first column to the left, the others to the right."""
    marks = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, marks, *rows))


def _panels(results: Mapping[str, Any]) -> dict[str, list[tuple[str, float, str]]]:
    return {
        name: [(f"{x.label}, {x.precision}", x.pairs_per_second, x.name) for x in lines(entry)]
        for name, entry in results["shapes"].items()
    }


def write_report(results: Mapping[str, Any], file: Path) -> None:
    """The results as JSON in `file`; beside it the same as Markdown, and as a figure."""
    write_atomically(file, json.dumps(results, indent=1) + "\n")
    write_atomically(file.with_suffix(".md"), page_markdown(results, file.stem))
    save_speeds(_panels(results), file.with_suffix(".png"))
