"""Weighted sums of losses: the hand sum, where options and inputs go, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from loss_cases import MODERATE, random_pairs, vector

from dpo_lab.errors import InputError
from dpo_lab.losses import compute_loss, compute_weighted_loss

MPO = {"dpo": 0.8, "bco_pair": 0.2, "sft": 1.0}


def test_mpo_by_hand():
    """First pair of the fixture at beta = .5: .8 * .5333821554 + .2 * 1.2190959172 + 2 / 2."""
    losses = compute_weighted_loss(MPO, MODERATE, 0.5).losses
    assert losses[0].item() == pytest.approx(1.6705249078, abs=1e-9)


def test_one_loss_of_weight_1_is_that_loss():
    logps = random_pairs(5)
    alone, summed = compute_loss("nca_pair", logps), compute_weighted_loss({"nca_pair": 1.0}, logps)
    assert all(torch.equal(one, other) for one, other in zip(alone, summed, strict=True))


def test_each_loss_keeps_its_own_beta_unless_one_is_given():
    """The defaults are .1 for dpo and .01 for bco_pair; the rewards are those of the first."""
    logps = random_pairs(4)
    for beta, betas in ((None, (0.1, 0.01)), (0.3, (0.3, 0.3))):
        output = compute_weighted_loss({"dpo": 2.0, "bco_pair": 3.0}, logps, beta)
        parts = [compute_loss("dpo", logps, betas[0]), compute_loss("bco_pair", logps, betas[1])]
        torch.testing.assert_close(output.losses, 2 * parts[0].losses + 3 * parts[1].losses)
        torch.testing.assert_close(output.chosen_rewards, parts[0].chosen_rewards)
        torch.testing.assert_close(output.rejected_rewards, parts[0].rejected_rewards)


def test_an_option_goes_to_every_loss_that_has_it_and_to_no_other():
    logps = random_pairs(4)
    output = compute_weighted_loss(
        {"cdpo": 1.0, "aot": 0.5, "dpo": 0.25, "simpo": 2.0},
        logps,
        0.5,
        label_smoothing=0.2,
        simpo_gamma=0.7,
    )
    expected = (
        compute_loss("cdpo", logps, 0.5, label_smoothing=0.2).losses
        + 0.5 * compute_loss("aot", logps, 0.5, label_smoothing=0.2).losses
        + 0.25 * compute_loss("dpo", logps, 0.5).losses
        + 2 * compute_loss("simpo", logps, 0.5, simpo_gamma=0.7).losses
    )
    torch.testing.assert_close(output.losses, expected)


def test_a_gamma_is_divided_by_the_beta_of_its_own_loss():
    """SimPO's default beta is 2 and AlphaPO's 2.5, so one gamma is two ratios."""
    logps = random_pairs(4)
    output = compute_weighted_loss({"simpo": 1.0, "alphapo": 1.0}, logps, simpo_gamma=1.0)
    expected = (
        compute_loss("simpo", logps, gamma_beta_ratio=1 / 2).losses
        + compute_loss("alphapo", logps, gamma_beta_ratio=1 / 2.5).losses
    )
    torch.testing.assert_close(output.losses, expected)


def test_an_input_goes_to_every_loss_that_has_it_and_to_no_other():
    logps, kls = random_pairs(3), {"chosen_kl": vector(1, 2, 3), "rejected_kl": vector(3, 1, 2)}
    given = kls | {"score_difference": vector(2, 0.5, 1)}
    output = compute_weighted_loss(
        {"tdpo1": 1.0, "tdpo2": 2.0, "odpo": 3.0, "dpo": 4.0}, logps, 0.5, inputs=given
    )
    scores = {"score_difference": given["score_difference"]}
    expected = (
        compute_loss("tdpo1", logps, 0.5, inputs=kls).losses
        + 2 * compute_loss("tdpo2", logps, 0.5, inputs=kls).losses
        + 3 * compute_loss("odpo", logps, 0.5, inputs=scores).losses
        + 4 * compute_loss("dpo", logps, 0.5).losses
    )
    torch.testing.assert_close(output.losses, expected)


def test_the_gradient_is_the_weighted_sum_of_gradients():
    logps = random_pairs(4)
    slopes = []
    for weights in (MPO, {"dpo": 1.0}, {"bco_pair": 1.0}, {"sft": 1.0}):
        chosen = logps.policy_chosen.clone().requires_grad_()
        moved = logps._replace(policy_chosen=chosen)
        total = compute_weighted_loss(weights, moved, 0.5).losses.sum()
        slopes.append(torch.autograd.grad(total, chosen)[0])
    torch.testing.assert_close(slopes[0], 0.8 * slopes[1] + 0.2 * slopes[2] + slopes[3])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "weights is empty"),
        ({"dpo": 1.0, "sigmoid": 1.0}, "'dpo' and 'sigmoid' are one loss"),
        ({"sigmoid": 1.0, "fdpo_reverse_kl": 1.0}, "'sigmoid' and 'fdpo_reverse_kl' are one loss"),
        ({"dpo": 1.0, "dppo": 1.0}, "unknown loss 'dppo'"),
        ({"dpo": 1.0, "sft": 0.0}, "weight of 'sft' must be finite and above 0, got 0.0"),
        ({"dpo": -1.0}, "weight of 'dpo' must be finite and above 0"),
        ({"dpo": math.nan}, "weight of 'dpo' must be finite and above 0"),
        ({"dpo": math.inf}, "weight of 'dpo' must be finite and above 0"),
    ],
)
def test_bad_weights(weights, message):
    with pytest.raises(InputError, match=message):
        compute_weighted_loss(weights, MODERATE)


def test_what_none_of_the_losses_has_is_refused():
    with pytest.raises(InputError, match="has no option 'label_smoothing'"):
        compute_weighted_loss(MPO, MODERATE, label_smoothing=0.1)
    with pytest.raises(InputError, match="none of the losses dpo, bco_pair, sft has the input"):
        compute_weighted_loss(MPO, MODERATE, inputs={"phi": vector(1, 1, 1)})


def test_what_one_loss_refuses_the_sum_refuses():
    with pytest.raises(InputError, match=r"label_smoothing must lie in \(0, 0.5\)"):
        compute_weighted_loss({"cdpo": 1.0, "exo_pair": 1.0}, MODERATE, label_smoothing=0.0)
    with pytest.raises(InputError, match="loss 'odpo' needs the input score_difference"):
        compute_weighted_loss({"dpo": 1.0, "odpo": 1.0}, MODERATE)
    with pytest.raises(InputError, match="loss 'sft' needs chosen_lengths"):
        compute_weighted_loss(MPO, MODERATE._replace(chosen_lengths=None))
