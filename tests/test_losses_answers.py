"""Losses of single answers: the same as on pairs, their gradient, their limits, and refusals."""

from __future__ import annotations

import math

import pytest
import torch
from loss_cases import random_pairs, vector

from dpo_lab.errors import InputError
from dpo_lab.losses import LOSSES, AnswerLogps, PairLogps, compute_answer_loss, compute_loss

ABLE = [name for name, spec in LOSSES.items() if spec.answers]
MISMATCHED = {"kto": {"mismatched_logratios": vector(0.3, -0.1, 0.25)}}
# How much of a pair's loss the mean over its two answers is: kto halves, the others sum.
SHARE = {"bco_pair": 2.0, "apo_zero": 2.0, "kto": 1.0, "kto_simplified": 1.0}
OPTIONS = {
    "bco_pair": {"shift": 0.1},
    "kto": {"desirable_weight": 1.5, "undesirable_weight": 0.5},
    "kto_simplified": {"desirable_weight": 1.5, "undesirable_weight": 0.5},
}


def answers_of(logps: PairLogps) -> AnswerLogps:
    """Both answers of every pair: the chosen ones first, as good, then the rejected, as bad."""
    labels = torch.arange(2 * len(logps.policy_chosen)) < len(logps.policy_chosen)
    return AnswerLogps(
        torch.cat([logps.policy_chosen, logps.policy_rejected]),
        torch.cat([logps.ref_chosen, logps.ref_rejected]),
        labels,
    )


def test_which_losses_can_do_without_pairs():
    assert set(ABLE) == set(SHARE)


@pytest.mark.parametrize("name", ABLE)
def test_pairs_taken_apart_have_the_same_mean_and_rewards(name):
    logps, options = random_pairs(6, seed=2), OPTIONS.get(name, {})
    settings = {"inputs": MISMATCHED.get(name), **options}
    paired = compute_loss(name, logps, 0.3, **settings)
    single = compute_answer_loss(name, answers_of(logps), 0.3, **settings)
    assert single.losses.shape == (12,)
    torch.testing.assert_close(paired.losses.mean(), SHARE[name] * single.losses.mean())
    both = single.losses[:6] + single.losses[6:]
    torch.testing.assert_close(paired.losses, SHARE[name] / 2 * both)
    torch.testing.assert_close(single.rewards[:6], paired.chosen_rewards)
    torch.testing.assert_close(single.rewards[6:], paired.rejected_rewards)


def test_kto_by_hand():
    """u = .4 good and u = -.3 bad at beta = .5, z0 = .15: sigmoid(-.125) and sigmoid(-.225)."""
    logps = AnswerLogps(vector(-2, -3), vector(-2.4, -2.7), torch.tensor([True, False]))
    losses = compute_answer_loss("kto", logps, 0.5, inputs=MISMATCHED["kto"]).losses
    torch.testing.assert_close(losses, vector(0.4687906266, 0.4439861095), atol=1e-9, rtol=0)


def test_bco_by_hand():
    """The same answers with d = .1: softplus(-.1) = .644397 and softplus(-.25) = .575939."""
    logps = AnswerLogps(vector(-2, -3), vector(-2.4, -2.7), torch.tensor([True, False]))
    losses = compute_answer_loss("bco_pair", logps, 0.5, shift=0.1).losses
    torch.testing.assert_close(losses, vector(0.644397, 0.575939), atol=1e-6, rtol=0)


def test_kto_s_reference_point_is_never_below_0_and_carries_no_gradient():
    logps = answers_of(random_pairs(3))
    below = compute_answer_loss("kto", logps, inputs={"mismatched_logratios": vector(-3, 1)})
    assert torch.equal(below.losses, compute_answer_loss("kto_simplified", logps).losses)
    others = vector(1, 3).requires_grad_()
    policy = logps.policy.clone().requires_grad_()
    losses = compute_answer_loss(
        "kto", logps._replace(policy=policy), inputs={"mismatched_logratios": others}
    ).losses
    losses.sum().backward()
    assert others.grad is None
    assert policy.grad.abs().sum() > 0


def test_kto_simplified_with_weights_1_is_apo_zero():
    logps = answers_of(random_pairs(5))
    simple, apo = (compute_answer_loss(n, logps, 0.2) for n in ("kto_simplified", "apo_zero"))
    torch.testing.assert_close(simple.losses, apo.losses)


@pytest.mark.parametrize("name", ABLE)
@pytest.mark.parametrize("label", [True, False])
def test_answers_of_one_kind_alone(name, label):
    """A batch may hold good answers only; each then pushes up, and a bad one down."""
    logps = answers_of(random_pairs(4))
    policy = logps.policy.clone().requires_grad_()
    logps = logps._replace(policy=policy, labels=torch.full_like(logps.labels, label))
    compute_answer_loss(name, logps, inputs=MISMATCHED.get(name)).losses.sum().backward()
    assert bool(((policy.grad < 0) == label).all())


@pytest.mark.parametrize("name", ABLE)
def test_gradient_equals_finite_differences(name):
    logps, step = answers_of(random_pairs(4, seed=5)), 1e-6
    settings = {"inputs": MISMATCHED.get(name), **OPTIONS.get(name, {})}
    policy = logps.policy.clone().requires_grad_()
    losses = compute_answer_loss(name, logps._replace(policy=policy), 0.3, **settings).losses
    (slopes,) = torch.autograd.grad(losses.sum(), policy)
    up, down = (
        compute_answer_loss(name, logps._replace(policy=logps.policy + d), 0.3, **settings).losses
        for d in (step, -step)
    )
    torch.testing.assert_close(slopes, (up - down) / (2 * step), atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("name", ABLE)
@pytest.mark.parametrize("size", [1.0, 100.0, 1e4])
def test_far_log_ratios_stay_finite_in_float32(name, size):
    ratios = size * torch.tensor([-1.0, 0.0, 1.0, -1.0, 0.0, 1.0])
    policy = (-torch.relu(-ratios)).requires_grad_()
    logps = AnswerLogps(policy, -torch.relu(ratios), torch.arange(6) < 3)
    inputs = {key: value.float() for key, value in MISMATCHED.get(name, {}).items()}
    losses = compute_answer_loss(name, logps, inputs=inputs).losses
    losses.sum().backward()
    assert losses.dtype == torch.float32
    assert losses.isfinite().all()
    assert policy.grad.isfinite().all()


@pytest.mark.parametrize("name", ["dpo", "sigmoid", "ipo", "simpo", "aot", "apo_down"])
def test_a_loss_that_compares_is_refused(name):
    with pytest.raises(InputError, match=rf"'{name}' compares two answers.*{', '.join(ABLE)}"):
        compute_answer_loss(name, answers_of(random_pairs(2)))


GOOD = AnswerLogps(vector(-1, -2), vector(-2, -1), torch.tensor([True, False]))


@pytest.mark.parametrize("field", ["policy", "reference"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [(math.nan, "holds NaN"), (0.5, "above 0"), (math.inf, "above 0"), (-math.inf, "holds -inf")],
)
@pytest.mark.parametrize("name", ABLE)
def test_bad_log_probabilities_are_named(name, field, value, reason):
    bad = GOOD._replace(**{field: vector(-1, value)})
    with pytest.raises(InputError, match=f"{field} .*{reason}"):
        compute_answer_loss(name, bad, inputs=MISMATCHED.get(name))


@pytest.mark.parametrize("field", ["reference", "labels"])
def test_a_vector_of_another_length_is_named(field):
    other = GOOD._replace(**{field: torch.zeros(3, dtype=getattr(GOOD, field).dtype)})
    with pytest.raises(InputError, match=rf"{field} has shape \(3,\) but policy has \(2,\)"):
        compute_answer_loss("apo_zero", other)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("kto", {}, "loss 'kto' needs the input mismatched_logratios"),
        ("kto", {"inputs": {"mismatched_logratios": vector()}}, "a vector with an entry"),
        ("kto", {"inputs": {"mismatched_logratios": vector(math.nan)}}, "must be finite"),
        ("kto", {"inputs": MISMATCHED["kto"], "desirable_weight": -1.0}, "desirable_weight must"),
        ("apo_zero", {"inputs": MISMATCHED["kto"]}, "'apo_zero' has no input"),
        ("apo_zero", {"beta": 0.0}, "beta must be finite and greater than 0"),
        ("bco_pair", {"delta": 0.1}, "'bco_pair' has no option 'delta'; its options: shift"),
        ("ktoo", {}, "unknown loss 'ktoo'"),
    ],
)
def test_bad_settings(name, settings, message):
    with pytest.raises(InputError, match=message):
        compute_answer_loss(name, GOOD, **settings)
