"""The landscape explorer: a loss over the two log-ratios of a pair, and the way downhill."""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets

from dpo_lab.errors import InputError
from dpo_lab.losses import LOSSES
from dpo_lab.widgets._bundle import bundle, stylesheet
from dpo_lab.widgets._traits import (
    Checked,
    numbers,
    positive_or_none,
    probability,
    two_numbers,
)
from dpo_lab.widgets.losses import catalogue, loss_name

# Two log-ratios alone decide these: no lengths, likelihoods or further inputs.
NAMES = [
    name for name in catalogue() if LOSSES[name].needs == {"reference"} and not LOSSES[name].inputs
]


def _loss(name: str, value: Any) -> str:
    found = loss_name(name, value)
    if found not in NAMES:
        raise InputError(f"{name} {found!r} reads more than two log-ratios; use {', '.join(NAMES)}")
    return found


def _strength(name: str, value: Any) -> float:
    (number,) = numbers(name, [value])
    if number < 0:
        raise InputError(f"{name} must be at least 0, got {number}")
    return number


class LandscapeExplorer(anywidget.AnyWidget):
    """A loss over the log-ratios (u1, u2) of two answers, with the gradient and the way downhill.

        LandscapeExplorer()                                  # DPO, four of five labels say y1
        LandscapeExplorer("ipo_sum", win_probability=1.0)
        LandscapeExplorer(penalised=True, c=0.05)            # plus c u1, the "KL on chosen answers"

    The height is p l(u1, u2) + (1 - p) l(u2, u1), where p is the probability that the first answer
    is labelled chosen, at the default options of the loss, plus c u1 if `penalised`. It shows the
    loss and its derivatives at a point that the reader moves, the direction (1, 1), and the path of
    steepest descent over free log-ratios. All is computed in the browser by the formulas of
    `dpo_lab.losses`; u in nats.

    loss: one of `NAMES`. beta: None for its default. point: (u1, u2). half_width: the picture
    shows log-ratios up to this size; None to follow beta. Raises `InputError` naming the argument
    for a loss that reads more than log-ratios, beta or half_width <= 0, c < 0, a probability
    outside [0, 1] and numbers that are not finite.
    """

    _esm = bundle("landscape_explorer.js")
    _css = stylesheet("ui.css", "fields.css", "landscape_explorer.css")

    loss = Checked(_loss).tag(sync=True)
    beta = Checked(positive_or_none).tag(sync=True)
    point = Checked(two_numbers).tag(sync=True)
    win_probability = Checked(probability).tag(sync=True)
    penalised = traitlets.Bool().tag(sync=True)
    c = Checked(_strength).tag(sync=True)
    half_width = Checked(positive_or_none).tag(sync=True)
    # What the reset button goes back to, and the losses to choose from.
    initial = traitlets.Dict().tag(sync=True)
    names = traitlets.List().tag(sync=True)

    def __init__(
        self,
        loss: str = "dpo",
        *,
        beta: Any = None,
        point: Any = (-10.0, 10.0),
        win_probability: Any = 0.8,
        penalised: bool = False,
        c: Any = 0.05,
        half_width: Any = None,
        **widget_options: Any,
    ) -> None:
        state = {
            "loss": _loss("loss", loss),
            "beta": positive_or_none("beta", beta),
            "point": two_numbers("point", point),
            "win_probability": probability("win_probability", win_probability),
            "penalised": penalised,
            "c": _strength("c", c),
            "half_width": positive_or_none("half_width", half_width),
        }
        super().__init__(**state, initial=state, names=NAMES, **widget_options)
