"""Entries of the table for `lengthwise.py`."""

from __future__ import annotations

from dpo_lab.losses import lengthwise
from dpo_lab.losses.types import Input, LossSpec, Option

NEEDS_LENGTHS = frozenset({"reference", "lengths"})
NO_REFERENCE = frozenset({"lengths"})
TOKEN_TABLES = {
    f"{model}_{side}_tokens": Input("tokens", "(-inf, 1e-4]", f"{model} log-prob a {side} token")
    for model in ("policy", "ref")
    for side in ("chosen", "rejected")
}

LENGTHWISE: dict[str, LossSpec] = {
    "ipo_sum": LossSpec(
        function=lengthwise.ipo_sum,
        summary="regression of the difference of summed log-ratios on 1/(2 tau)",
        paper="azar2024",
        arxiv="2310.12036",
        equation="eq. 17",
        beta=0.1,
        optimum="u_w - u_l = (2 p - 1) / (2 tau)",
        unconfirmed="the default tau, which is that of HALOs",
    ),
    "ipo_avg": LossSpec(
        function=lengthwise.ipo_avg,
        summary="the same with log-ratios averaged over tokens, as in TRL",
        paper="azar2024",
        arxiv="2310.12036",
        equation="eq. 17 on averages",
        beta=0.1,
        optimum="u_w / |y_w| - u_l / |y_l| = (2 p - 1) / (2 tau)",
        needs=NEEDS_LENGTHS,
        unconfirmed="the average, and the default tau, which is that of HALOs",
    ),
    "sigmoid_norm": LossSpec(
        function=lengthwise.sigmoid_norm,
        summary="DPO on log-ratios averaged over tokens",
        paper="lambert2024tulu",
        arxiv="2411.15124",
        equation="length-normalised DPO",
        beta=5.0,
        optimum="beta (u1 / |y1| - u2 / |y2|) = logit(p)",
        needs=NEEDS_LENGTHS,
    ),
    "simpo": LossSpec(
        function=lengthwise.simpo,
        summary="averaged log-probabilities without a reference, with a target margin",
        paper="meng2024",
        arxiv="2405.14734",
        equation="the SimPO loss",
        beta=2.0,
        optimum="e^m = (q + sqrt(q^2 + 4 p (1 - p) e^(-2 gamma))) / (2 (1 - p) e^(-gamma)), "
        "q = 2 p - 1, m = beta times the difference of averages",
        options={"gamma_beta_ratio": Option(0.5, "[0, inf)", "within the authors' 0.1 to 0.8")},
        needs=NO_REFERENCE,
        option_as={"simpo_gamma": ("gamma_beta_ratio", lambda gamma, beta: gamma / beta)},
    ),
    "alphapo": LossSpec(
        function=lengthwise.alphapo,
        summary="SimPO on another function of the mean token probability",
        paper="gupta2025",
        arxiv="2501.03884",
        equation="the AlphaPO loss",
        beta=2.5,
        optimum="that of simpo with m = beta (r1 - r2)",
        options={
            "alphapo_alpha": Option(0.25, "(-inf, inf)", "Mistral-Instruct, in TRL's list"),
            "gamma_beta_ratio": Option(0.1, "[0, inf)", "Mistral-Instruct, in TRL's list"),
        },
        needs=NO_REFERENCE,
        option_as={"simpo_gamma": ("gamma_beta_ratio", lambda gamma, beta: gamma / beta)},
        unconfirmed="the defaults, which are those of TRL's list of papers",
    ),
    "rainbowpo": LossSpec(
        function=lengthwise.rainbowpo,
        summary="between length-normalised DPO and SimPO",
        paper="zhao2024rainbow",
        arxiv="2410.04203",
        equation="RainbowPO, as in the authors' repository",
        beta=10.0,
        optimum="that of simpo with m = beta phi (P - alpha R), gamma = beta phi (1 - alpha) gamma",
        options={
            "rainbow_alpha": Option(0.25, "[0, 1]", "the authors' repository"),
            "rainbow_gamma": Option(0.1, "[0, inf)", "the authors' repository: 0.1 to 0.3"),
        },
        inputs={
            "phi": Input("pairs", "[0, inf)", "weight of the prompt; 1 if left out", required=False)
        },
        needs=NEEDS_LENGTHS,
    ),
    "ld_dpo": LossSpec(
        function=lengthwise.ld_dpo,
        summary="DPO with less weight on tokens beyond the shorter answer's length",
        paper="liu2024ld",
        arxiv="2409.06411",
        equation="LD-DPO",
        beta=0.1,
        optimum="beta times the weighted difference of log-ratios = logit(p)",
        options={"ld_alpha": Option(0.5, "[0, 1]", "best for Llama-3-8B Instruct, say summaries")},
        inputs=TOKEN_TABLES,
        needs=NEEDS_LENGTHS,
        unconfirmed="the paper's alpha for each model",
    ),
    "orpo": LossSpec(
        function=lengthwise.orpo,
        summary="supervised loss plus a log-odds ratio, without a reference",
        paper="hong2024",
        arxiv="2403.07691",
        equation="eqs. 4 and 7",
        beta=0.1,
        optimum="of the odds term alone: difference of log-odds = logit(p)",
        needs=NO_REFERENCE,
        unconfirmed="the numbers of the equations, which are TRL's",
    ),
    "cpo": LossSpec(
        function=lengthwise.cpo,
        summary="DPO without a reference, plus the chosen answer's NLL",
        paper="xu2024cpo",
        arxiv="2401.08417",
        equation="L_prefer + L_NLL",
        beta=0.1,
        optimum="with alpha = 0: beta (log pi1 - log pi2) = logit(p)",
        options={"cpo_alpha": Option(1.0, "[0, inf)", "the paper; TRL's default too")},
        needs=frozenset(),
        unconfirmed="whether the NLL is a sum or a mean over tokens",
    ),
    "slic": LossSpec(
        function=lengthwise.slic,
        summary="hinge on log-probabilities, plus the chosen answer's NLL",
        paper="zhao2023slic",
        arxiv="2305.10425",
        equation="the SLiC-HF loss",
        beta=1.0,
        optimum="with lambda = 0: log pi1 - log pi2 = delta sign(p - 1/2)",
        options={"slic_lambda": Option(0.1, "[0, inf)", "HALOs")},
        needs=frozenset(),
        unconfirmed="the paper's delta and lambda; these are those of HALOs",
    ),
    "sft": LossSpec(
        function=lengthwise.sft,
        summary="the chosen answer's mean NLL, for weighted sums",
        paper="wang2024mpo",
        arxiv="2411.10442",
        equation="the generation loss of MPO, averaged per answer",
        beta=1.0,
        optimum="none: maximum likelihood has no log-ratio to settle at",
        needs=NO_REFERENCE,
        unconfirmed="MPO's weights, which TRL reports from section 7",
    ),
    "rpo": LossSpec(
        function=lengthwise.rpo,
        summary="DPO plus the chosen answer's mean NLL",
        paper="pang2024",
        arxiv="2404.19733",
        equation="DPO + NLL",
        beta=0.1,
        optimum="none in closed form",
        options={"rpo_alpha": Option(1.0, "[0, inf)", "the paper")},
        needs=NEEDS_LENGTHS,
    ),
}
