"""Direct Preference Optimization and implicit rewards, exact and small.

Importing the package loads floor 0 only: mathematics on tensors. Models, training,
figures and explorers are imported by name from their own modules.
"""

from __future__ import annotations

from dpo_lab.errors import InputError

__version__ = "0.1.0"
__all__ = ["InputError"]
