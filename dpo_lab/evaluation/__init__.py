"""Numbers about trained models, each with its interval and what it may be read as."""

from __future__ import annotations

from dpo_lab.evaluation.answers import AnswerEvaluation, evaluate_answers
from dpo_lab.evaluation.calibration import Reliability, correlation, reliability
from dpo_lab.evaluation.intervals import (
    Interval,
    Proportion,
    bootstrap,
    proportion,
    rank_probability,
)
from dpo_lab.evaluation.pairs import PairEvaluation, evaluate_pairs, mean_pair_loss, pair_logps
from dpo_lab.evaluation.samples import (
    Diversity,
    Estimate,
    KLEstimates,
    WinRate,
    diversity,
    estimate,
    sampled_kl,
    win_rate,
)
from dpo_lab.evaluation.source import PairScores, score_source

__all__ = [
    "AnswerEvaluation",
    "Diversity",
    "Estimate",
    "Interval",
    "KLEstimates",
    "PairEvaluation",
    "PairScores",
    "Proportion",
    "Reliability",
    "WinRate",
    "bootstrap",
    "correlation",
    "diversity",
    "estimate",
    "evaluate_answers",
    "evaluate_pairs",
    "mean_pair_loss",
    "pair_logps",
    "proportion",
    "rank_probability",
    "reliability",
    "sampled_kl",
    "score_source",
    "win_rate",
]
