"""The table of all losses."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dpo_lab.losses.entries_logistic import LOGISTIC
from dpo_lab.losses.types import LossSpec

# Two names for one loss. TRL calls DPO "sigmoid".
ALIASES: Mapping[str, str] = MappingProxyType({"sigmoid": "dpo"})

LOSSES: Mapping[str, LossSpec] = MappingProxyType({**LOGISTIC})
