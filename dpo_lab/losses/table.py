"""The table of all losses, and second names for some."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dpo_lab.losses.entries_lengthwise import LENGTHWISE
from dpo_lab.losses.entries_logistic import LOGISTIC
from dpo_lab.losses.entries_others import BATCHWISE, POINTWISE
from dpo_lab.losses.types import LossSpec

# Two names for one loss. TRL calls DPO "sigmoid", and its "ipo" averages over tokens; the sum of
# the paper's equation 17 is "ipo_sum". DPO is f-DPO with the reverse KL.
ALIASES: Mapping[str, str] = MappingProxyType(
    {"sigmoid": "dpo", "ipo": "ipo_avg", "fdpo_reverse_kl": "dpo"}
)

LOSSES: Mapping[str, LossSpec] = MappingProxyType(
    {**LOGISTIC, **POINTWISE, **LENGTHWISE, **BATCHWISE}
)
