"""The losses against hand-worked numbers, closed forms, autograd and TRL's own loss block."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.errors import InputError
from dpo_lab.losses import PairLogps, compute_loss

LOG_2 = math.log(2)


def pairs(policy_chosen, policy_rejected, ref_chosen, ref_rejected, **dtype) -> PairLogps:
    """Four lists of log-probabilities as a float64 `PairLogps`."""
    columns = (policy_chosen, policy_rejected, ref_chosen, ref_rejected)
    return PairLogps(*(torch.tensor(c, **{"dtype": torch.float64, **dtype}) for c in columns))


def with_margins(margins: torch.Tensor, beta: float = 1.0) -> PairLogps:
    """Pairs whose margin is `margins`, with every log-probability at most 0."""
    u = margins / beta
    floor = torch.zeros_like(u)
    return PairLogps(-F.relu(-u), -F.relu(u), floor, floor)


def random_pairs(size: int, seed: int = 0, **options) -> PairLogps:
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(4, size, generator=generator, dtype=torch.float64)
    return PairLogps(*(-20 * draw).to(**options))


# Log-probabilities chosen so that the margins at beta = .1 are 0, 1 and 2 (beta * 0, 10, 20).
# softplus(0) = log 2 = .693147, softplus(-1) = log(1 + e^-1) = .313262, softplus(-2) = .126928.
SATURATED = pairs([-0.5, -10, -1], [-0.1, -30, -21], [-0.5, -10.1, -0.1], [-0.1, -20.1, -0.1])
# Log-ratios a = .4, -.4, .9 and b = -.3, .6, -.8, so the margins at beta = .5 are .35, -.5, .85.
MODERATE = pairs([-2, -7.5, -4], [-3, -6, -9], [-2.4, -7.1, -4.9], [-2.7, -6.6, -8.2])

GOLDEN = [
    ("dpo", SATURATED, 0.1, {}, [0.6931471806, 0.3132616875, 0.1269280110]),
    ("cdpo", SATURATED, 0.1, {}, [0.6931471806, 0.4132616875, 0.3269280110]),
    ("dpo", MODERATE, 0.5, {}, [0.5333821554, 0.9740769842, 0.3558650684]),
    ("cdpo", MODERATE, 0.5, {}, [0.5683821554, 0.9240769842, 0.4408650684]),
]


@pytest.mark.parametrize(("name", "logps", "beta", "options", "expected"), GOLDEN)
def test_golden_numbers(name, logps, beta, options, expected):
    """Cross-executed once against TRL 1.16 and the original DPO repository; cdpo with e = .1."""
    losses = compute_loss(name, logps, beta=beta, **options).losses
    torch.testing.assert_close(
        losses, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0
    )


def test_rewards_by_hand():
    """beta (log pi - log pi_ref): .5 * (.4, -.4, .9) and .5 * (-.3, .6, -.8)."""
    output = compute_loss("dpo", MODERATE, beta=0.5)
    chosen, rejected = torch.tensor([0.2, -0.2, 0.45]), torch.tensor([-0.15, 0.3, -0.4])
    torch.testing.assert_close(output.chosen_rewards, chosen.double())
    torch.testing.assert_close(output.rejected_rewards, rejected.double())


LOGISTIC = ["dpo", "cdpo"]


@pytest.mark.parametrize("name", LOGISTIC)
@pytest.mark.parametrize("beta", [0.01, 0.1, 3.0])
def test_loss_is_log_2_where_the_policy_is_the_reference(name, beta):
    logps = random_pairs(7)
    same = logps._replace(ref_chosen=logps.policy_chosen, ref_rejected=logps.policy_rejected)
    output = compute_loss(name, same, beta=beta)
    torch.testing.assert_close(output.losses, torch.full((7,), LOG_2).double())
    assert not output.chosen_rewards.any()
    assert not output.rejected_rewards.any()


@given(st.floats(-300, 300))
def test_swapping_the_labels_changes_the_loss_by_the_margin(margin):
    """-log sigmoid(m) - (-log sigmoid(-m)) = -m."""
    logps = with_margins(torch.tensor([margin, -margin], dtype=torch.float64))
    loss, swapped = compute_loss("dpo", logps, beta=1.0).losses.tolist()
    assert loss - swapped == pytest.approx(-margin, abs=1e-9)


@given(st.floats(-40, 40), st.floats(0.01, 10), st.floats(-50, 0), st.floats(-50, 0))
def test_the_loss_sees_only_the_difference_of_log_ratios(shift, beta, chosen, rejected):
    """Moving both references and both policies by their own constant leaves every loss alone."""
    before = pairs([chosen], [rejected], [-60.0], [-70.0])
    after = pairs([chosen - 50], [rejected - 50], [-100.0 + shift], [-110.0 + shift])
    for name in LOGISTIC:
        one, other = (compute_loss(name, logps, beta=beta).losses for logps in (before, after))
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


def test_gradient_is_beta_times_the_chance_of_being_wrong():
    """grad L = -beta sigmoid(-m) (grad log pi_w - grad log pi_l), through a softmax policy."""
    beta, generator = 0.7, torch.Generator().manual_seed(1)
    logits = torch.randn(6, generator=generator, dtype=torch.float64, requires_grad=True)
    ref = torch.log_softmax(torch.randn(6, generator=generator, dtype=torch.float64), -1)
    for chosen, rejected in [(0, 1), (3, 2), (5, 0)]:
        policy = torch.log_softmax(logits, -1)
        logps = PairLogps(*(x[[i]] for x in (policy, ref) for i in (chosen, rejected)))
        margin = beta * (logps.chosen_logratios - logps.rejected_logratios).detach()
        rise = torch.autograd.grad(policy[chosen] - policy[rejected], logits, retain_graph=True)[0]
        loss = compute_loss("dpo", logps, beta=beta).losses.sum()
        gradient = torch.autograd.grad(loss, logits)[0]
        assert (gradient + beta * torch.sigmoid(-margin) * rise).abs().max() < 1e-10


def test_rewards_carry_no_gradient():
    logps = random_pairs(3)
    logps = logps._replace(policy_chosen=logps.policy_chosen.requires_grad_())
    output = compute_loss("dpo", logps)
    assert output.losses.requires_grad
    assert not output.chosen_rewards.requires_grad
    assert not output.rejected_rewards.requires_grad


@pytest.mark.parametrize(
    ("win_rate", "smoothing"), [(1.0, 0.1), (0.9, 0.2), (0.6, 0.3), (0.5, 0.0)]
)
def test_cdpo_is_least_at_its_smoothed_log_odds(win_rate, smoothing):
    """The optimum that `LOSSES` states: m = logit((1 - e) p + e (1 - p))."""
    grid = torch.linspace(-4, 4, 8001, dtype=torch.float64)
    won, lost = (
        compute_loss("cdpo", with_margins(m), beta=1.0, label_smoothing=smoothing).losses
        for m in (grid, -grid)
    )
    best = grid[(win_rate * won + (1 - win_rate) * lost).argmin()].item()
    target = (1 - smoothing) * win_rate + smoothing * (1 - win_rate)
    assert best == pytest.approx(math.log(target / (1 - target)), abs=1e-3)


def test_cdpo_without_smoothing_is_dpo():
    logps = random_pairs(9)
    plain, smooth = compute_loss("dpo", logps), compute_loss("cdpo", logps, label_smoothing=0.0)
    assert torch.equal(plain.losses, smooth.losses)


@pytest.mark.parametrize("name", LOGISTIC)
def test_extreme_margins_stay_finite_in_float32(name):
    """At m = -1e5 the loss is 1e5 and the slope -beta; a naive log(sigmoid(m)) is infinite."""
    margins = torch.tensor([-1e5, -100.0, 0.0, 100.0, 1e5])
    logps = with_margins(margins)
    logps = logps._replace(policy_chosen=logps.policy_chosen.requires_grad_())
    losses = compute_loss(name, logps, beta=1.0).losses
    (slope,) = torch.autograd.grad(losses.sum(), logps.policy_chosen)
    assert losses.dtype == torch.float32
    e = {"cdpo": 0.1}.get(name, 0.0)
    expected = (1 - e) * F.relu(-margins) + e * F.relu(margins)
    expected[2] = LOG_2
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(slope, torch.tensor([e - 1, e - 1, e - 0.5, e, e]))


GOOD = pairs([-1.0, -2.0], [-3.0, -4.0], [-1.5, -2.5], [-2.5, -3.5])


@pytest.mark.parametrize("beta", [0.0, -0.1, math.nan, math.inf])
def test_bad_beta(beta):
    with pytest.raises(InputError, match="beta must be finite and greater than 0"):
        compute_loss("dpo", GOOD, beta=beta)


@pytest.mark.parametrize("smoothing", [-0.01, 0.5, 1.0, math.nan])
def test_bad_label_smoothing(smoothing):
    with pytest.raises(InputError, match=r"label_smoothing must lie in \[0, 0.5\)"):
        compute_loss("cdpo", GOOD, label_smoothing=smoothing)


@pytest.mark.parametrize(
    "field", ["policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected"]
)
@pytest.mark.parametrize(
    ("value", "reason"),
    [(math.nan, "holds NaN"), (0.5, "above 0"), (math.inf, "above 0"), (-math.inf, "holds -inf")],
)
def test_bad_log_probabilities_are_named(field, value, reason):
    bad = GOOD._replace(**{field: torch.tensor([-1.0, value], dtype=torch.float64)})
    with pytest.raises(InputError, match=f"{field} .*{reason}"):
        compute_loss("dpo", bad)


def test_a_log_probability_a_rounding_error_above_0_passes():
    compute_loss("dpo", GOOD._replace(policy_chosen=torch.tensor([3e-7, -1.0]).double()))


@pytest.mark.parametrize("field", ["policy_rejected", "ref_chosen", "chosen_lengths"])
def test_a_vector_of_another_length_is_named(field):
    other = torch.ones(3, dtype=torch.long) if "lengths" in field else -torch.ones(3).double()
    with pytest.raises(InputError, match=rf"{field} has shape \(3,\) but policy_chosen has \(2,\)"):
        compute_loss("dpo", GOOD._replace(**{field: other}))


@pytest.mark.parametrize("shape", [(), (2, 8)])
def test_token_log_probabilities_are_not_taken_for_sequences(shape):
    """A loss of each token on its own is another loss: mean -log sigmoid(d_t) is not
    -log sigmoid(sum d_t)."""
    tokens = PairLogps(*(-torch.ones(shape) for _ in range(4)))
    with pytest.raises(InputError, match="policy_chosen must be a vector, one sum a pair"):
        compute_loss("dpo", tokens)


@pytest.mark.parametrize("field", ["ref_chosen", "ref_rejected"])
def test_a_missing_reference_is_named(field):
    with pytest.raises(InputError, match=f"loss 'dpo' needs {field}"):
        compute_loss("dpo", GOOD._replace(**{field: None}))


def test_unknown_names_are_named():
    with pytest.raises(InputError, match="unknown loss 'sigmoidal'; known: dpo, cdpo"):
        compute_loss("sigmoidal", GOOD)
    with pytest.raises(InputError, match=r"'dpo' has no option 'label_smoothing'.*: none"):
        compute_loss("dpo", GOOD, label_smoothing=0.1)
    with pytest.raises(InputError, match=r"'cdpo' has no option 'tau'.*: label_smoothing"):
        compute_loss("cdpo", GOOD, tau=0.1)
