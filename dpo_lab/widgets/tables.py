"""Which losses an explorer can follow on a table of preferences."""

from __future__ import annotations

from dpo_lab.losses import LOSSES
from dpo_lab.tabular import OWN_INPUTS


def _fits(name: str) -> bool:
    """No batch, no scores, no tokens: the answers' log-probabilities say everything."""
    spec = LOSSES[name]
    if spec.function.__name__ in OWN_INPUTS:
        return True
    needed = [key for key, each in spec.inputs.items() if each.required]
    return spec.accumulation_invariant and not needed


TABLE_LOSSES = [name for name in LOSSES if _fits(name)]
