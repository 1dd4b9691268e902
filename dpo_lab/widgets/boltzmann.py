"""The Boltzmann explorer: beta, rewards and reference at the reader's fingertips."""

from __future__ import annotations

import math
from typing import Any

import anywidget
import traitlets

from dpo_lab.errors import InputError
from dpo_lab.widgets._bundle import bundle, stylesheet
from dpo_lab.widgets._traits import Checked, numbers, positive
from dpo_lab.worlds import t8

LETTERS = "ABCDEFGHIJKL"


class _PerAnswer(Checked):
    """A checked list with one entry an answer."""

    def validate(self, obj: BoltzmannExplorer, value: Any) -> Any:
        checked = super().validate(obj, value)
        if len(checked) != obj.answers:
            raise InputError(
                f"{self.name} has {len(checked)} entries, but the explorer has "
                f"{obj.answers} answers"
            )
        return checked


def _weights(name: str, values: Any) -> list[float]:
    weights = numbers(name, values)
    for index, weight in enumerate(weights):
        if weight < 0:
            raise InputError(f"{name}[{index}] must be at least 0, got {weight}")
    if not 0 < sum(weights) < math.inf:
        raise InputError(f"{name} must have a positive, finite sum, got {sum(weights)}")
    return weights


def _names(name: str, values: Any) -> list[str]:
    names = list(values)
    for index, each in enumerate(names):
        if not isinstance(each, str) or not each.strip():
            raise InputError(f"{name}[{index}] must be a text that is not empty, got {each!r:.80}")
    return names


class BoltzmannExplorer(anywidget.AnyWidget):
    """Sliders for beta, rewards and reference of the KL-regularised problem, solved in the browser.

        BoltzmannExplorer()                                    # the testbed of the book
        BoltzmannExplorer([0.7, 0.2, 0.1], [0, 1, 3], beta=0.5, labels=["safe", "good", "best"])

    It shows pi* proportional to pi_ref exp(r / beta) (Rafailov et al. 2023, eq. 4) beside pi_ref,
    E[r], KL, log Z, V* = beta log Z and entropy (nats), and the point on the reward-KL frontier.

    ref_probs: (answers,), at least 0; the browser divides by their sum. An answer of weight 0 is
    outside the support and stays at 0. rewards: (answers,), finite. 2 to 12 answers; lists, arrays
    and tensors are taken. The traits `beta`, `rewards`, `ref_probs` and `labels` follow the
    reader's hand and may be set from Python; the number of answers is fixed. Raises `InputError`
    naming the argument for beta <= 0, numbers that are not finite, negative or all-zero
    `ref_probs`, and lengths that differ.
    """

    _esm = bundle("boltzmann.js")
    _css = stylesheet("ui.css", "boltzmann.css")

    beta = Checked(positive).tag(sync=True)
    rewards = _PerAnswer(numbers).tag(sync=True)
    ref_probs = _PerAnswer(_weights).tag(sync=True)
    labels = _PerAnswer(_names).tag(sync=True)
    # What the reset button goes back to, and what the sliders' ranges follow.
    initial = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        ref_probs: Any = None,
        rewards: Any = None,
        *,
        beta: Any = 1.0,
        labels: Any = None,
        **widget_options: Any,
    ) -> None:
        world = t8()
        weights = _weights("ref_probs", world.ref_logps.exp() if ref_probs is None else ref_probs)
        self.answers = len(weights)
        if not 2 <= self.answers <= len(LETTERS):
            raise InputError(f"ref_probs must have 2 to {len(LETTERS)} entries, got {self.answers}")
        state = {
            "beta": positive("beta", beta),
            "rewards": numbers("rewards", world.rewards if rewards is None else rewards),
            "ref_probs": weights,
        }
        names = LETTERS[: self.answers] if labels is None else labels
        super().__init__(**state, labels=names, initial=state, **widget_options)
