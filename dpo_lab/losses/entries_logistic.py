"""Entries of the table for `logistic.py`."""

from __future__ import annotations

from dpo_lab.losses import logistic
from dpo_lab.losses.types import LossSpec, Option

LOGISTIC: dict[str, LossSpec] = {
    "dpo": LossSpec(
        function=logistic.dpo,
        summary="logistic loss on the difference of implicit rewards",
        paper="rafailov2023",
        arxiv="2305.18290",
        equation="eq. 7",
        beta=0.1,
        optimum="m = logit(p)",
    ),
    "cdpo": LossSpec(
        function=logistic.cdpo,
        summary="DPO against labels assumed wrong at a known rate",
        paper="mitchell2023",
        arxiv="https://ericmitchell.ai/cdpo.pdf",
        equation="eq. 3",
        beta=0.1,
        optimum="m = logit((1 - e) p + e (1 - p))",
        options={"label_smoothing": Option(0.1, "[0, 0.5)", "the note's suggestion")},
    ),
}
