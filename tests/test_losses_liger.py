"""Liger's chunked losses as a third implementation, fed with sums or averages an answer.

Only their loss functions are called, which are plain torch: nothing here needs a graphics card.
"""

from __future__ import annotations

import importlib

import pytest
import torch
from loss_cases import random_pairs

from dpo_lab.losses import AnswerLogps, compute_answer_loss, compute_loss

pytestmark = pytest.mark.slow
E = {"label_smoothing": 0.1}
PAIRS = (1, 2, 3, 8, 33)
# Liger computes EXO's epsilon in float32, and bfloat16 has 8 bits; sums of it differ by order.
TOLERANCE = {torch.float64: 1e-7, torch.float32: 2e-5, torch.bfloat16: 5e-2}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)
BETAS = pytest.mark.parametrize("beta", [0.1, 0.5])
# our name, our options
WITH_REFERENCE = [
    ("sigmoid", {}),
    ("hinge", {}),
    ("exo_pair", E),
    ("nca_pair", {}),
    ("robust", E),
    ("bco_pair", {}),
    ("sppo_hard", {}),
    ("apo_zero", {}),
    ("apo_down", {}),
    ("discopop", {}),
]


def liger(name: str):
    """The loss function of one of Liger's modules."""
    module = f"liger_kernel.chunked_loss.{name.lower()}_loss"
    pytest.importorskip(module, reason="Liger is not installed")
    function = getattr(importlib.import_module(module), f"LigerFusedLinear{name}Function")
    return function.preference_loss_fn


@DTYPES
@BETAS
@pytest.mark.parametrize(("name", "options"), WITH_REFERENCE)
def test_losses_with_a_reference_agree(name, options, beta, dtype):
    near = {"abs": TOLERANCE[dtype], "rel": TOLERANCE[dtype]}
    theirs = liger("DPO")
    for pairs in PAIRS:
        logps = random_pairs(pairs, seed=pairs, dtype=dtype)
        loss, chosen, rejected = theirs(
            logps.policy_chosen,
            logps.policy_rejected,
            torch.zeros(2 * pairs, 1),
            logps.ref_chosen,
            logps.ref_rejected,
            beta=beta,
            loss_type=name,
            **options,
        )
        ours = compute_loss(name, logps, beta, **options)
        assert ours.losses.mean().item() == pytest.approx(loss.item(), **near)
        torch.testing.assert_close(ours.chosen_rewards, chosen)
        torch.testing.assert_close(ours.rejected_rewards, rejected)


@DTYPES
@BETAS
@pytest.mark.parametrize("name", ["CPO", "SimPO", "ORPO"])
def test_losses_without_a_reference_agree(name, beta, dtype):
    """Liger adds likelihood terms elsewhere, as TRL does; these are the preference terms alone."""
    near = {"abs": TOLERANCE[dtype], "rel": TOLERANCE[dtype]}
    theirs = liger(name)
    for pairs in PAIRS:
        logps = random_pairs(pairs, seed=pairs, dtype=dtype)
        means = (
            logps.policy_chosen / logps.chosen_lengths,
            logps.policy_rejected / logps.rejected_lengths,
        )
        full = torch.zeros(2 * pairs, 1)
        if name == "CPO":
            loss, *_ = theirs(logps.policy_chosen, logps.policy_rejected, full, beta=beta)
            ours = compute_loss("cpo", logps, beta, cpo_alpha=0.0).losses
        elif name == "SimPO":
            loss, *_ = theirs(*means, full, beta=beta, gamma=0.5)
            ours = compute_loss("simpo", logps, beta, simpo_gamma=0.5).losses
        else:
            loss, *_ = theirs(*means, full, beta=beta)
            ours = compute_loss("orpo", logps, beta).losses + means[0]
        assert ours.mean().item() == pytest.approx(loss.item(), **near)


@DTYPES
@BETAS
@pytest.mark.parametrize("shift", [-1.0, 1.0])
def test_kto_agrees(shift, beta, dtype):
    """Liger takes a finished z0; it knows no weights."""
    near = {"abs": TOLERANCE[dtype], "rel": TOLERANCE[dtype]}
    theirs = liger("KTO")
    for answers in PAIRS:
        logps = random_pairs(answers, seed=answers, dtype=dtype)
        labels = torch.arange(answers) % 3 > 0
        single = AnswerLogps(logps.policy_chosen, logps.ref_chosen, labels)
        mismatched = logps.rejected_logratios + shift
        ours = compute_answer_loss(
            "kto", single, beta, inputs={"mismatched_logratios": mismatched}
        ).losses
        loss, *_ = theirs(
            single.policy,
            labels,
            torch.zeros(answers, 1),
            single.reference,
            beta=beta,
            kl=mismatched.mean().clamp(min=0),
        )
        assert ours.mean().item() == pytest.approx(loss.item(), **near)
