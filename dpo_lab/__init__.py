"""Direct Preference Optimization and implicit rewards, exact and small.

Importing the package loads floor 0 only: mathematics on tensors. Models, training,
figures and explorers are imported by name from their own modules.
"""

from __future__ import annotations

from dpo_lab import boltzmann, bradley_terry
from dpo_lab.errors import InputError
from dpo_lab.logprobs import sequence_logps, token_logps
from dpo_lab.losses import LOSSES, LossOutput, PairLogps, compute_loss

__version__ = "0.1.0"
__all__ = [
    "LOSSES",
    "InputError",
    "LossOutput",
    "PairLogps",
    "boltzmann",
    "bradley_terry",
    "compute_loss",
    "sequence_logps",
    "token_logps",
]
