"""The curves explorer: scrub through the log of a real run, with the policy's own answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from dpo_lab.errors import InputError
from dpo_lab.widgets._bundle import bundle, stylesheet
from dpo_lab.widgets._traits import Checked, whole

PAIRED = ("loss", "rewards/margins", "rewards/accuracies")
RATIOS = ("logratios/chosen", "logratios/rejected")
LOGPS = ("logps/chosen", "logps/rejected")
OF_SAMPLES = ("kl/policy", "gold/reward", "kl/policy_error", "gold/reward_error", "lengths/policy")
MOST = 2**31

_count = whole(0, MOST)


def _number(name: str, value: Any) -> float | str:
    """Five digits; JSON has no word for what is not finite, so that travels as JavaScript's."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a number, got {value!r:.80}") from None
    if math.isfinite(number):
        return float(f"{number:.5g}")
    return "NaN" if math.isnan(number) else ("-Infinity" if number < 0 else "Infinity")


def _steps(name: str, rows: Any) -> list[tuple[str, int, Mapping[str, Any]]]:
    """Each row with the name and the step it has."""
    if isinstance(rows, (str, Mapping)) or not isinstance(rows, Sequence):
        raise InputError(f"{name} must be a list of rows, got {rows!r:.80}")
    found = []
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping) or "step" not in row:
            raise InputError(f"{name}[{index}] must be a mapping with a step, got {row!r:.80}")
        found.append((f"{name}[{index}]", _count(f"{name}[{index}].step", row["step"]), row))
    return found


def _table(rows: Any, columns: Mapping[str, str]) -> dict[str, list[Any]]:
    """`columns` ({its name: its name in the rows}) by step; None where a step has no such number.

    Of several rows of one step, each adds its columns, and the later number counts.
    """
    by_step: dict[int, dict[str, Any]] = {}
    for name, step, row in _steps("rows", rows):
        numbers = {
            column: _number(f"{name}.{source}", row[source])
            for column, source in columns.items()
            if row.get(source) is not None
        }
        if numbers:
            by_step.setdefault(step, {}).update(numbers)
    steps = sorted(by_step)
    used = [column for column in columns if any(column in row for row in by_step.values())]
    return {"step": steps} | {name: [by_step[s].get(name) for s in steps] for name in used}


def _tables(rows: Any) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """What is drawn of training and of held-out rows."""
    keys = set().union(*(row for _, _, row in _steps("rows", rows)))
    sides = RATIOS if keys & {*RATIOS, *(f"eval_{each}" for each in RATIOS)} else LOGPS
    both = (*sides, *PAIRED)
    training = _table(rows, {name: name for name in (*both, "grad_weight")})
    held_out = _table(
        rows, {name: f"eval_{name}" for name in both} | {name: name for name in OF_SAMPLES}
    )
    if not training["step"] and not held_out["step"]:
        raise InputError(f"rows hold none of the columns that are drawn: {', '.join(both)} ...")
    return training, held_out


def _prompt_text(name: str, prompt: Any) -> str:
    """A prompt as one text; of a conversation, a line for each (role, content)."""
    if isinstance(prompt, str):
        return prompt
    try:
        return "\n".join(f"{role}: {content}" for role, content in prompt)
    except (TypeError, ValueError):
        raise InputError(f"{name} must be a text or messages, got {prompt!r:.80}") from None


def _answers(samples: Any) -> list[dict[str, Any]]:
    """The answers of each prompt, as [step, text, log-ratio, true reward], by step."""
    prompts: dict[str, list[list[Any]]] = {}
    for name, step, row in _steps("samples", samples):
        if not isinstance(row.get("text"), str):
            raise InputError(f"{name}.text must be a text, got {row.get('text')!r:.80}")
        ratio, gold = (
            None if row.get(key) is None else _number(f"{name}.{key}", row[key])
            for key in ("logratio", "gold")
        )
        prompt = _prompt_text(f"{name}.prompt", row.get("prompt"))
        prompts.setdefault(prompt, []).append([step, row["text"], ratio, gold])
    return [
        {"prompt": prompt, "answers": sorted(answers, key=lambda answer: answer[0])}
        for prompt, answers in prompts.items()
    ]


class CurvesExplorer(anywidget.AnyWidget):
    """The log of a run, step by step: its curves, its numbers in words, and the policy's answers.

        CurvesExplorer.from_run("dpo-lab-run")
        CurvesExplorer(rows, samples, step=0)

    rows: of a run's metrics.jsonl under TRL's names, mappings with a `step` each. Of training rows
    it draws logratios/* (nats; logps/* where there is no reference), rewards/margins, loss and
    grad_weight; of held-out rows the same under eval_* as dots, and kl/policy and gold/reward with
    bars of two standard errors. samples: mappings of `step`, `prompt` (text or messages), `text`,
    and `logratio` (nats, summed over the answer) and `gold` (true reward) where they are known.
    step: where to start, the last one if None. prompt: number of the prompt shown first, from 0.

    Numbers are rounded to five digits; one that is not finite is said to be so and leaves a gap.
    Raises `InputError` naming the row and column for a row without a whole step, numbers and texts
    that are none, and rows without any drawn column.
    """

    _esm = bundle("curves_explorer.js")
    _css = stylesheet("ui.css", "fields.css", "curves_explorer.css")

    step = Checked(_count).tag(sync=True)
    prompt = Checked(_count).tag(sync=True)
    training = traitlets.Dict().tag(sync=True)
    held_out = traitlets.Dict().tag(sync=True)
    samples = traitlets.List().tag(sync=True)
    # What the reset button goes back to.
    initial = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        rows: Any,
        samples: Any = (),
        *,
        step: Any = None,
        prompt: Any = 0,
        **widget_options: Any,
    ) -> None:
        training, held_out = _tables(rows)
        last = max(training["step"] + held_out["step"])
        state = {
            "step": last if step is None else _count("step", step),
            "prompt": _count("prompt", prompt),
        }
        data = {"training": training, "held_out": held_out, "samples": _answers(samples)}
        super().__init__(**state, **data, initial=state, **widget_options)

    @classmethod
    def from_run(
        cls, folder: str | Path, *, prompts: int = 8, answers: int = 3, **options: Any
    ) -> CurvesExplorer:
        """The explorer of a run's folder, with up to `answers` answers to its first `prompts`.

        Raises `InputError` where the folder holds no metrics.jsonl.
        """
        from dpo_lab.training.run_folder import RunFolder  # heavy, and only this needs it

        run = RunFolder(folder)
        seen: dict[str, Counter[int]] = {}
        samples = []
        for row in run.read_samples():
            prompt = _prompt_text("samples.prompt", row["prompt"])
            if prompt in seen or len(seen) < prompts:
                drawn = seen.setdefault(prompt, Counter())
                drawn[row["step"]] += 1
                if drawn[row["step"]] <= answers:
                    samples.append({**row, "prompt": prompt})
        return cls(run.read_metrics(), samples, **options)
