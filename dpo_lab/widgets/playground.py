"""The playground: voters, a loss and a policy, all in the reader's hands."""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets

from dpo_lab.errors import InputError
from dpo_lab.losses import LOSSES
from dpo_lab.widgets._bundle import bundle, stylesheet
from dpo_lab.widgets._traits import Checked, numbers, one_of, positive, probability, whole
from dpo_lab.widgets.beta import RATES
from dpo_lab.widgets.losses import GROUPS
from dpo_lab.widgets.tables import TABLE_LOSSES
from dpo_lab.worlds import t8

COVERAGES = ("all", "reference", "first", "blocks")


def _grouped() -> list[list[Any]]:
    """[heading, names] of the losses that a table can hold, by the module of the formula."""
    modules = {name: LOSSES[name].function.__module__.rpartition(".")[2] for name in TABLE_LOSSES}
    return [
        [heading, [name for name in TABLE_LOSSES if modules[name] == module]]
        for module, heading in GROUPS.items()
    ]


def _rewards(name: str, values: Any) -> list[float]:
    found = numbers(name, values)
    if len(found) != 8 or max(map(abs, found)) > 4:
        raise InputError(f"{name} must be eight numbers between -4 and 4, got {found!r:.80}")
    return found


class Playground(anywidget.AnyWidget):
    """Voters compare eight answers, and a policy follows their votes, step by step, in the browser.

        Playground()
        Playground(loss="ipo_sum", beta=0.2, coverage="blocks", flip_rate=0.1, pairs=200)

    The answers have the reference probabilities of the testbed T8. `pairs` votes are drawn:
    a pair by `coverage`, its label by Bradley-Terry on `rewards`, turned round with probability
    `flip_rate`. The mean loss over the votes so far is descended on free logits from the
    reference, with all votes in each step. It shows pi_ref, pi and pi* proportional to
    pi_ref exp(r / beta), implicit against true rewards, the mean log-ratios of chosen and rejected
    answers, and E[r] over KL (nats). In the plain page the address holds the settings.

    loss: one of `TABLE_LOSSES`, at its default options; every answer is one token long. coverage:
    "all" pairs alike, two draws from the "reference", the `first` answers alone, or two "blocks"
    of four. pairs: 1 to 1000. arrival: votes that come with each step, 1 or 10; 0 for all at once.
    speed: steps a frame, 1, 10 or 100. seed: of the votes. rewards: eight numbers in [-4, 4]; None
    for those of T8. learning_rate: None for 1 (sgd) or 0.01 (adam). Raises `InputError` naming
    the argument that is none of these.
    """

    _esm = bundle("playground.js")
    _css = stylesheet("ui.css", "fields.css", "playground.css")

    loss = Checked(one_of(TABLE_LOSSES)).tag(sync=True)
    beta = Checked(positive).tag(sync=True)
    optimiser = Checked(one_of(RATES)).tag(sync=True)
    learning_rate = Checked(positive).tag(sync=True)
    coverage = Checked(one_of(COVERAGES)).tag(sync=True)
    first = Checked(whole(2, 8)).tag(sync=True)
    flip_rate = Checked(probability).tag(sync=True)
    pairs = Checked(whole(1, 1000)).tag(sync=True)
    arrival = Checked(one_of((0, 1, 10))).tag(sync=True)
    speed = Checked(one_of((1, 10, 100))).tag(sync=True)
    seed = Checked(whole(0, 2**32 - 1)).tag(sync=True)
    rewards = Checked(_rewards).tag(sync=True)
    ref_probs = traitlets.List().tag(sync=True)
    labels = traitlets.List().tag(sync=True)
    # What the reset button goes back to, and the losses to choose from.
    initial = traitlets.Dict().tag(sync=True)
    names = traitlets.List().tag(sync=True)

    def __init__(self, *, rewards: Any = None, learning_rate: Any = None, **settings: Any) -> None:
        world = t8()
        own = {name: settings.pop(name, value) for name, value in DEFAULTS.items()}
        rate = RATES.get(own["optimiser"]) if learning_rate is None else learning_rate
        state = {
            **own,
            "rewards": world.rewards.tolist() if rewards is None else rewards,
            "learning_rate": 1.0 if rate is None else rate,
        }
        fixed = {"ref_probs": world.ref_logps.exp().tolist(), "labels": list(world.names)}
        super().__init__(**state, **fixed, names=_grouped(), **settings)
        self.initial = {name: getattr(self, name) for name in state}


DEFAULTS = {
    "loss": "dpo",
    "beta": 0.5,
    "optimiser": "sgd",
    "coverage": "all",
    "first": 4,
    "flip_rate": 0.0,
    "pairs": 1000,
    "arrival": 0,
    "speed": 1,
    "seed": 1,
}
