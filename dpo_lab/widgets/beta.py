"""The beta explorer: descent at three values of beta at once, live in the page."""

from __future__ import annotations

from typing import Any

import anywidget
import traitlets

from dpo_lab.errors import InputError
from dpo_lab.widgets._bundle import bundle, stylesheet
from dpo_lab.widgets._traits import Checked, one_of, positive, probability
from dpo_lab.worlds import t8

RATES = {"sgd": 1.0, "adam": 0.01}
LOSSES = ("dpo", "ipo_sum")
LABELS = ("bradley-terry", "certain")


def _betas(name: str, values: Any) -> list[float]:
    found = [positive(f"{name}[{i}]", each) for i, each in enumerate(values)]
    if len(found) != 3:
        raise InputError(f"{name} must be three numbers, got {len(found)}")
    return found


class BetaExplorer(anywidget.AnyWidget):
    """Gradient descent on the testbed T8 at three values of beta at once, run in the browser.

        BetaExplorer()                                            # DPO, Bradley-Terry labels
        BetaExplorer(labels="certain")                            # no beta stops DPO
        BetaExplorer([0.1, 0.5, 1.0], optimiser="adam")

    All 28 pairs of the eight answers are shown equally often. It draws KL(pi || pi_ref) in nats
    and the mean margin beta (u_chosen - u_rejected) against 1 to 10 000 full-batch steps, and
    dashed the policy of lowest loss where one exists: pi_ref exp(r / beta) with the rewards that
    Bradley-Terry fits to the labels for DPO (Rafailov et al. 2023, eq. 4), pi_ref exp(h) with
    h the mean over opponents of (2 P(win) - 1) / (2 tau) for IPO (Azar et al. 2024).

    betas: three numbers above 0; tau for IPO. loss: "dpo" or "ipo_sum". labels: "bradley-terry",
    sigmoid(r_i - r_j), or "certain", where the better answer always wins. flip_rate in [0, 1]:
    the share of labels turned round. optimiser: "sgd" or "adam". learning_rate: None for 1 (sgd)
    or 0.01 (adam). Raises `InputError` naming the argument that is none of these.
    """

    _esm = bundle("beta_explorer.js")
    _css = stylesheet("ui.css", "fields.css", "beta_explorer.css")

    betas = Checked(_betas).tag(sync=True)
    loss = Checked(one_of(LOSSES)).tag(sync=True)
    labels = Checked(one_of(LABELS)).tag(sync=True)
    flip_rate = Checked(probability).tag(sync=True)
    optimiser = Checked(one_of(RATES)).tag(sync=True)
    learning_rate = Checked(positive).tag(sync=True)
    ref_probs = traitlets.List().tag(sync=True)
    rewards = traitlets.List().tag(sync=True)
    # What the reset button goes back to.
    initial = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        betas: Any = (0.05, 0.5, 2.0),
        *,
        loss: str = "dpo",
        labels: str = "bradley-terry",
        flip_rate: float = 0.0,
        optimiser: str = "sgd",
        learning_rate: Any = None,
        **widget_options: Any,
    ) -> None:
        world = t8()
        optimiser = one_of(RATES)("optimiser", optimiser)
        rate = RATES[optimiser] if learning_rate is None else learning_rate
        state = {
            "betas": _betas("betas", betas),
            "loss": one_of(LOSSES)("loss", loss),
            "labels": one_of(LABELS)("labels", labels),
            "flip_rate": probability("flip_rate", flip_rate),
            "optimiser": optimiser,
            "learning_rate": positive("learning_rate", rate),
        }
        arms = {"ref_probs": world.ref_logps.exp().tolist(), "rewards": world.rewards.tolist()}
        super().__init__(**state, **arms, initial=state, **widget_options)
