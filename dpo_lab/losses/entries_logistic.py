"""Entries of the table for the losses of the margin: `logistic.py` and `divergences.py`."""

from __future__ import annotations

from dpo_lab.losses import divergences, logistic
from dpo_lab.losses.types import Input, LossSpec, Option

KL_INPUTS = {
    side: Input("pairs", "[-1e-4, inf)", "sum over tokens of KL(pi_ref || pi) over the vocabulary")
    for side in ("chosen_kl", "rejected_kl")
}
WEIGHT_INPUTS = {
    side: Input("pairs", "[0, inf)", "exp of the mean over tokens of log pi(y_t) - log sum pi^2")
    for side in ("chosen_weights", "rejected_weights")
}

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
    "robust": LossSpec(
        function=logistic.robust,
        summary="DPO made unbiased under labels flipped at a known rate",
        paper="chowdhury2024",
        arxiv="2403.00409",
        equation="the robust loss",
        beta=0.1,
        optimum="m = logit((p - e) / (1 - 2 e)) for e < p < 1 - e, else unbounded below",
        options={"label_smoothing": Option(0.1, "[0, 0.5)", "the paper's, says TRL's list")},
        unconfirmed="the default e",
    ),
    "hinge": LossSpec(
        function=logistic.hinge,
        summary="pushes the margin to 1 and no further",
        paper="liu2023rso",
        arxiv="2309.06657",
        equation="the hinge loss",
        beta=0.05,
        optimum="m = sign(p - 1/2); any m >= 1 for p = 1",
        unconfirmed="the default beta, which is that of TRL's list of papers",
    ),
    "exo_pair": LossSpec(
        function=logistic.exo_pair,
        summary="reverse KL between implied and smoothed label probabilities",
        paper="ji2024",
        arxiv="2402.00856",
        equation="eq. 16",
        beta=0.1,
        optimum="m = (2 p - 1) log((1 - e) / e)",
        options={"label_smoothing": Option(1e-3, "(0, 0.5)", "the paper's, says TRL's list")},
        unconfirmed="eq. 16, beta and e, which are TRL's; the authors' code has log e = -10",
    ),
    "discopop": LossSpec(
        function=logistic.discopop,
        summary="mixture of logistic and exponential loss found by search; not convex",
        paper="lu2024",
        arxiv="2406.08414",
        equation="eq. 5",
        beta=0.05,
        optimum="no closed form; near -log((sqrt(1 + 4 (1 - p) / p) - 1) / 2) for m >> tau",
        options={"discopop_tau": Option(0.05, "(0, 1]", "the paper's, says TRL's list")},
        unconfirmed="eq. 5, beta and tau, which are TRL's",
    ),
    "rdpo": LossSpec(
        function=logistic.rdpo,
        summary="DPO with a price on length",
        paper="park2024",
        arxiv="2403.19159",
        equation="the length-regularised loss",
        beta=0.1,
        optimum="m = logit(p) - alpha (|y1| - |y2|)",
        options={"rdpo_alpha": Option(0.01, "[0, inf)", "chosen here; a sweep may start at 0.001")},
        needs=frozenset({"reference", "lengths"}),
        unconfirmed="the paper's alpha",
    ),
    "odpo": LossSpec(
        function=logistic.odpo,
        summary="DPO whose margin must exceed an offset from scores",
        paper="amini2024",
        arxiv="2402.10571",
        equation="the offset loss",
        beta=0.1,
        optimum="for a constant offset o: that of simpo with gamma = o and margin m",
        options={"odpo_alpha": Option(1.0, "[0, inf)", "the authors' repository")},
        inputs={
            "score_difference": Input("pairs", "(0, inf)", "score of chosen minus that of rejected")
        },
    ),
    "dpop": LossSpec(
        function=logistic.dpop,
        summary="DPO with a price for a chosen answer below the reference",
        paper="pal2024",
        arxiv="2402.13228",
        equation="eq. 3",
        beta=0.3,
        optimum="m = logit(p) where both log-ratios can be >= 0, else no closed form",
        options={"dpop_lambda": Option(50.0, "[0, inf)", "5 to 500 alike, say the authors")},
        unconfirmed="the formula and the defaults: from the authors' replies and others' notes",
    ),
    "fdpo_forward_kl": LossSpec(
        function=divergences.fdpo_forward_kl,
        summary="DPO with the forward KL as the price of moving",
        paper="wang2023",
        arxiv="2309.16240",
        equation="f-DPO with f'(w) = -1/w",
        beta=0.1,
        optimum="f'(w1) - f'(w2) = logit(p) / beta",
    ),
    "fdpo_js": LossSpec(
        function=divergences.fdpo_js,
        summary="DPO with the Jensen-Shannon divergence as the price of moving",
        paper="wang2023",
        arxiv="2309.16240",
        equation="f-DPO with f'(w) = log(2 w / (1 + w))",
        beta=0.1,
        optimum="f'(w1) - f'(w2) = logit(p) / beta",
    ),
    "fdpo_alpha": LossSpec(
        function=divergences.fdpo_alpha,
        summary="DPO with an alpha-divergence as the price of moving",
        paper="wang2023",
        arxiv="2309.16240",
        equation="f-DPO with f'(w) = (1 - w^-alpha) / alpha",
        beta=0.1,
        optimum="f'(w1) - f'(w2) = logit(p) / beta",
        options={"f_alpha": Option(0.5, "(0, 1)", "of the authors' scripts: 0.3, 0.5, 0.7")},
        unconfirmed="which alpha the paper recommends, if any",
    ),
    "tdpo1": LossSpec(
        function=logistic.tdpo1,
        summary="DPO with the difference of per-token KLs in the margin",
        paper="zeng2024",
        arxiv="2404.11999",
        equation="TDPO1",
        beta=0.1,
        optimum="m + beta (K1 - K2) = logit(p)",
        inputs=KL_INPUTS,
    ),
    "tdpo2": LossSpec(
        function=logistic.tdpo2,
        summary="TDPO1 with the chosen answer's KL held fixed in the gradient",
        paper="zeng2024",
        arxiv="2404.11999",
        equation="TDPO2",
        beta=0.1,
        optimum="none: the stopped gradient leaves a pull on both KLs",
        options={"tdpo_alpha": Option(0.5, "[0, inf)", "the authors' repository")},
        inputs=KL_INPUTS,
    ),
    "wpo": LossSpec(
        function=logistic.wpo,
        summary="DPO weighted by how likely the policy is to give these answers",
        paper="zhou2024",
        arxiv="2406.11827",
        equation="eq. 2",
        beta=0.01,
        optimum="m = logit(p)",
        inputs=WEIGHT_INPUTS,
        unconfirmed="the number of the equation",
    ),
}
