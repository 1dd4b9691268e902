"""The loss explorer: any loss of one pair, its forces and its optimum, at the reader's hand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import anywidget
import traitlets

from dpo_lab.errors import InputError
from dpo_lab.losses import ALIASES, LOSSES, LossSpec
from dpo_lab.losses.checking import settle_options
from dpo_lab.losses.entries_others import BATCHWISE
from dpo_lab.widgets._bundle import bundle, stylesheet
from dpo_lab.widgets._traits import (
    Checked,
    numbers,
    positive_or_none,
    probability,
    two_numbers,
)

# How the list of losses is grouped: by the module that holds the formula.
GROUPS = {
    "logistic": "of the margin",
    "divergences": "with another divergence",
    "lengthwise": "with lengths or likelihoods",
    "pointwise": "each answer on its own",
}
PAIR_SETTINGS = ("refChosen", "refRejected", "chosenLength", "rejectedLength")


def loss_name(name: str, value: Any) -> str:
    """A loss of one pair under its name in `LOSSES`; an alias is resolved."""
    found = ALIASES.get(value, value) if isinstance(value, str) else value
    if found in BATCHWISE:
        raise InputError(f"{name} {found!r} mixes the pairs of a batch; one pair has no such loss")
    if found not in LOSSES:
        raise InputError(f"{name} must be one of {', '.join(catalogue())}, got {value!r:.80}")
    return found


def catalogue() -> dict[str, dict[str, str]]:
    """What the explorers say about each loss of one pair, from the library's table."""
    return {name: _entry(spec) for name, spec in LOSSES.items() if name not in BATCHWISE}


def _entry(spec: LossSpec) -> dict[str, str]:
    module = spec.function.__module__.rpartition(".")[2]
    author, year = re.findall(r"[a-z]+|\d{4}", spec.paper)[:2]
    web = spec.arxiv.startswith("http")
    what = {"reference": "a reference", "lengths": "lengths"}
    needs = [what[need] for need in sorted(spec.needs, reverse=True)]
    needs += [f"{key} ({each.meaning})" for key, each in spec.inputs.items() if each.required]
    return {
        "group": GROUPS[module],
        "formula": (spec.function.__doc__ or "").partition("\n")[0].rstrip("."),
        "summary": spec.summary,
        "source": f"{author.capitalize()} {year}, {spec.equation}",
        "address": spec.arxiv if web else f"https://arxiv.org/abs/{spec.arxiv}",
        "needs": ", ".join(needs) or "log-probabilities of the policy alone",
        "optimum": spec.optimum,
    }


def _versus(name: str, value: Any) -> str:
    return loss_name(name, value) if value else ""


def _settings(loss: str, given: Mapping[str, Any]) -> dict[str, float]:
    """Options, inputs and facts of the pair for one loss, each inside its interval."""
    spec = LOSSES[loss]
    known = [*spec.options, *spec.inputs, *PAIR_SETTINGS]
    for key in given:
        if key not in known:
            raise InputError(f"loss {loss!r} has no setting {key!r}; known: {', '.join(known)}")
    settled = _finite("settings", given)
    options = {key: value for key, value in settled.items() if key in spec.options}
    settle_options(loss, spec, spec.beta, options)
    for key, value in settled.items():
        if key.startswith("ref") and value > 0:
            raise InputError(f"{key} is a log-probability and must be at most 0, got {value}")
        if key.endswith("Length") and value < 1:
            raise InputError(f"{key} must be at least 1: a response holds its EOS, got {value}")
    return settled


def _finite(name: str, given: Mapping[str, Any]) -> dict[str, float]:
    return {key: numbers(f"{name}.{key}", [value])[0] for key, value in given.items()}


class LossExplorer(anywidget.AnyWidget):
    """Any loss of one pair over the difference of log-ratios, with its forces and its optimum.

        LossExplorer()                                        # DPO
        LossExplorer("ipo_sum", versus="dpo", beta=0.5)       # two losses at one beta
        LossExplorer("cdpo", settings={"label_smoothing": 0.2})

    It shows the loss, the force on the chosen (-dl/du_w) and on the rejected (dl/du_l) log-ratio
    in nats, and the mean loss p l(u1, u2) + (1 - p) l(u2, u1) with its lowest point, where p is
    the probability that the first answer is labelled chosen. All is computed in the browser by the
    formulas of `dpo_lab.losses`. aot, aot_unpaired and beta_dpo mix the pairs of a batch and are
    left out; for one pair AOT is cdpo.

    loss: a name or alias of `LOSSES`. versus: a second loss at the same beta with its own default
    options, or "". beta: None for the default of the loss. settings: options and inputs of the
    loss by name, and `refChosen`, `refRejected` (nats), `chosenLength`, `rejectedLength` (tokens)
    where the loss reads them. point: the log-ratios (u1, u2). Raises `InputError` naming the
    argument for an unknown or batch loss, beta <= 0, an unknown setting, numbers that are not
    finite, and a probability outside [0, 1].
    """

    _esm = bundle("loss_explorer.js")
    _css = stylesheet("ui.css", "fields.css", "loss_explorer.css")

    loss = Checked(loss_name).tag(sync=True)
    versus = Checked(_versus).tag(sync=True)
    beta = Checked(positive_or_none).tag(sync=True)
    settings = Checked(_finite).tag(sync=True)
    point = Checked(two_numbers).tag(sync=True)
    win_probability = Checked(probability).tag(sync=True)
    # What the reset button goes back to, and what is said about each loss.
    initial = traitlets.Dict().tag(sync=True)
    catalogue = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        loss: str = "dpo",
        *,
        versus: str = "",
        beta: Any = None,
        settings: Mapping[str, Any] | None = None,
        point: Any = (1.0, -1.0),
        win_probability: Any = 0.8,
        **widget_options: Any,
    ) -> None:
        loss = loss_name("loss", loss)
        state = {
            "loss": loss,
            "versus": _versus("versus", versus),
            "beta": positive_or_none("beta", beta),
            "settings": _settings(loss, settings or {}),
            "point": two_numbers("point", point),
            "win_probability": probability("win_probability", win_probability),
        }
        super().__init__(**state, initial=state, catalogue=catalogue(), **widget_options)
