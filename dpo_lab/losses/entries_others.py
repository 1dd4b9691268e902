"""Entries of the table for `pointwise.py` and `batchwise.py`."""

from __future__ import annotations

from dpo_lab.losses import batchwise, pointwise
from dpo_lab.losses.types import Input, LossSpec, Option

SMOOTHING = {"label_smoothing": Option(0.0, "[0, 0.5)", "none, as in TRL")}
WEIGHTS = {
    name: Option(1.0, "[0, inf)", "the paper's setting for as many good as bad answers")
    for name in ("desirable_weight", "undesirable_weight")
}

POINTWISE: dict[str, LossSpec] = {
    "nca_pair": LossSpec(
        function=pointwise.nca_pair,
        summary="each answer's log-ratio to its own finite value",
        paper="chen2024nca",
        arxiv="2402.05369",
        equation="NCA for two answers",
        beta=0.01,
        optimum="beta a = log(2 p), beta b = log(2 (1 - p)), so m = logit(p)",
    ),
    "bco_pair": LossSpec(
        function=pointwise.bco_pair,
        answers=pointwise.bco_answers,
        summary="a classifier of chosen and rejected answers with a given shift",
        paper="jung2024",
        arxiv="2404.04656",
        equation="the BCO loss",
        beta=0.01,
        optimum="beta a - d = logit(p), beta b - d = -logit(p), so m = 2 logit(p)",
        options={"shift": Option(0.0, "(-inf, inf)", "TRL; the paper's follows the rewards")},
        unconfirmed="the default beta, which is that of TRL's list of papers",
    ),
    "sppo_hard": LossSpec(
        function=pointwise.sppo_hard,
        summary="regression of each log-ratio on plus or minus 1/(2 beta)",
        paper="wu2024sppo",
        arxiv="2405.00675",
        equation="eq. 4.7 with hard probabilities",
        beta=1e-3,
        optimum="a = (2 p - 1) / (2 beta), b = -a",
    ),
    "apo_zero": LossSpec(
        function=pointwise.apo_zero,
        answers=pointwise.apo_zero_answers,
        summary="chosen up, rejected down, bounded",
        paper="doosterlinck2024",
        arxiv="2408.06266",
        equation="eq. 7",
        beta=0.1,
        optimum="none finite: the majority's answer goes up, the other down, without end",
        unconfirmed="the default beta, which is that of TRL's list of papers",
    ),
    "apo_down": LossSpec(
        function=pointwise.apo_down,
        summary="both down, the rejected answer further",
        paper="doosterlinck2024",
        arxiv="2408.06266",
        equation="eq. 8",
        beta=0.1,
        optimum="none finite: both log-ratios fall while their difference grows",
        unconfirmed="eq. 8 and the default beta, which are TRL's",
    ),
    "kto": LossSpec(
        function=pointwise.kto,
        answers=pointwise.kto_answers,
        summary="good and bad answers each against a measured KL",
        paper="ethayarajh2024",
        arxiv="2402.01306",
        equation="eq. 7",
        beta=0.1,
        optimum="none finite: the sign of p wd - (1 - p) wu decides",
        options=WEIGHTS,
        inputs={
            "mismatched_logratios": Input(
                "list", "(-inf, inf)", "log pi/pi_ref of answers under other answers' prompts"
            )
        },
        accumulation_invariant=False,
        unconfirmed="the number of the equation, which is TRL's",
    ),
    "kto_simplified": LossSpec(
        function=pointwise.kto_simplified,
        answers=pointwise.kto_simplified_answers,
        summary="KTO with its reference point at 0, for teaching",
        paper="ethayarajh2024",
        arxiv="2402.01306",
        equation="eq. 7 with z0 = 0",
        beta=0.1,
        optimum="none finite: the sign of p wd - (1 - p) wu decides",
        options=WEIGHTS,
        unconfirmed="the number of the equation, which is TRL's",
    ),
}

BATCHWISE: dict[str, LossSpec] = {
    "aot": LossSpec(
        function=batchwise.aot,
        summary="sorted margins of the policy above those of the reference",
        paper="melnyk2024",
        arxiv="2406.05882",
        equation="AOT, paired",
        beta=0.01,
        optimum="none a pair: the batch's sorted margins are matched",
        options=SMOOTHING,
        accumulation_invariant=False,
        unconfirmed="the default beta, which is that of TRL's list of papers",
    ),
    "aot_unpaired": LossSpec(
        function=batchwise.aot_unpaired,
        summary="sorted chosen log-ratios above sorted rejected ones",
        paper="melnyk2024",
        arxiv="2406.05882",
        equation="AOT, unpaired",
        beta=0.01,
        optimum="none a pair: the batch's sorted log-ratios are matched",
        options=SMOOTHING,
        accumulation_invariant=False,
        unconfirmed="the default beta, which is that of TRL's list of papers",
    ),
    "beta_dpo": LossSpec(
        function=batchwise.beta_dpo,
        summary="DPO with a beta that follows the batch's mean margin",
        paper="wu2024beta",
        arxiv="2407.08639",
        equation="the batch-level beta; RunningMargin filters pairs",
        beta=0.1,
        optimum="none: beta moves with the batch",
        options={
            "beta_dpo_alpha": Option(0.6, "[0, inf)", "the authors' repository"),
            "margin_threshold": Option(0.0, "(-inf, inf)", "where the authors' average starts"),
        },
        accumulation_invariant=False,
    ),
}
