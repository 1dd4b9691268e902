"""The explorers: anywidgets that compute in the browser, so they live on in the plain page."""

from __future__ import annotations

from dpo_lab.widgets.beta import BetaExplorer
from dpo_lab.widgets.boltzmann import BoltzmannExplorer
from dpo_lab.widgets.curves import CurvesExplorer
from dpo_lab.widgets.implicit_reward import ImplicitRewardExplorer
from dpo_lab.widgets.landscape import LandscapeExplorer
from dpo_lab.widgets.losses import LossExplorer
from dpo_lab.widgets.playground import Playground

__all__ = [
    "BetaExplorer",
    "BoltzmannExplorer",
    "CurvesExplorer",
    "ImplicitRewardExplorer",
    "LandscapeExplorer",
    "LossExplorer",
    "Playground",
]
