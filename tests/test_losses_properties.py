"""What each loss is made for: its minimisers, its identities, and its first step."""

from __future__ import annotations

import math

import pytest
import torch
from loss_cases import MODERATE, inputs_for, part, random_pairs, vector

from dpo_lab.losses import LOSSES, PairLogps, compute_loss
from dpo_lab.losses.pointwise import RunningShift


def free(chosen: torch.Tensor, rejected: torch.Tensor) -> PairLogps:
    """Pairs with these log-ratios, far below 0, all answers one token long."""
    base = torch.full_like(chosen, -50.0)
    ones = torch.ones(len(chosen), dtype=torch.long)
    return PairLogps(base + chosen, base + rejected, base, base, ones, ones)


def population(name: str, a: torch.Tensor, b: torch.Tensor, p: float, beta: float, **options):
    """Mean loss of a pair {1, 2} whose answer 1 wins with probability p."""
    won = compute_loss(name, free(a, b), beta, **options).losses
    lost = compute_loss(name, free(b, a), beta, **options).losses
    return p * won + (1 - p) * lost


def minimise(name: str, p: float, beta: float, **options) -> tuple[float, float]:
    """The log-ratios (a, b) at which the population loss is least, by Newton steps of LBFGS."""
    x = torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)
    steps = torch.optim.LBFGS(
        [x], max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        steps.zero_grad()
        loss = population(name, x[0], x[1], p, beta, **options).sum()
        loss.backward()
        return loss

    steps.step(closure)
    return x[0].item(), x[1].item()


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def simpo_margin(p: float, gamma: float) -> float:
    q, shrink = 2 * p - 1, math.exp(-gamma)
    root = math.sqrt(q * q + 4 * p * (1 - p) * shrink**2)
    return math.log((q + root) / (2 * (1 - p) * shrink))


@pytest.mark.parametrize("p", [0.3, 0.6, 0.8])
@pytest.mark.parametrize(
    ("name", "options", "margin"),
    [
        ("dpo", {}, logit),
        ("cdpo", {"label_smoothing": 0.1}, lambda p: logit(0.9 * p + 0.1 * (1 - p))),
        ("robust", {"label_smoothing": 0.1}, lambda p: logit((p - 0.1) / 0.8)),
        ("exo_pair", {"label_smoothing": 0.1}, lambda p: (2 * p - 1) * math.log(9)),
        ("nca_pair", {}, logit),
        ("bco_pair", {"shift": 0.3}, lambda p: 2 * logit(p)),
        ("sppo_hard", {}, lambda p: 2 * p - 1),
        ("ipo_sum", {}, lambda p: p - 0.5),
        ("ipo_avg", {}, lambda p: p - 0.5),
        ("sigmoid_norm", {}, logit),
        ("rdpo", {}, logit),
        ("cpo", {"cpo_alpha": 0.0}, logit),
        ("simpo", {"simpo_gamma": 0.7}, lambda p: simpo_margin(p, 0.7)),
    ],
)
def test_minimum_over_free_log_ratios(name, options, margin, p):
    """beta (a - b) at the minimum is what the table's `optimum` says."""
    beta = 0.5
    a, b = minimise(name, p, beta, **options)
    assert beta * (a - b) == pytest.approx(margin(p), abs=1e-5)


def test_nca_fixes_each_answer_and_bco_s_shift_only_the_level():
    p, beta = 0.7, 0.5
    a, b = minimise("nca_pair", p, beta)
    assert (beta * a, beta * b) == pytest.approx((math.log(2 * p), math.log(2 * (1 - p))), abs=1e-5)
    a, b = minimise("bco_pair", p, beta, shift=0.3)
    assert (beta * a - 0.3, beta * b - 0.3) == pytest.approx((logit(p), -logit(p)), abs=1e-5)
    a, b = minimise("sppo_hard", p, beta)
    assert (a, b) == pytest.approx((0.4 / (2 * beta), -0.4 / (2 * beta)), abs=1e-9)


@pytest.mark.parametrize("name", ["fdpo_forward_kl", "fdpo_js", "fdpo_alpha"])
def test_f_dpo_meets_its_first_order_condition(name):
    """f'(w1) - f'(w2) = logit(p) / beta, with f' written out again."""
    slope = {
        "fdpo_forward_kl": lambda u: -math.exp(-u),
        "fdpo_js": lambda u: math.log(2 / (1 + math.exp(-u))),
        "fdpo_alpha": lambda u: (1 - math.exp(-0.5 * u)) / 0.5,
    }[name]
    a, b = minimise(name, 0.6, 2.0)
    assert slope(a) - slope(b) == pytest.approx(logit(0.6) / 2.0, abs=1e-5)


def test_alpha_lies_between_the_two_kls():
    for alpha, other in [(1e-6, "dpo"), (1 - 1e-9, "fdpo_forward_kl")]:
        losses = compute_loss("fdpo_alpha", MODERATE, 0.5, f_alpha=alpha).losses
        expected = compute_loss(other, MODERATE, 0.5).losses
        torch.testing.assert_close(losses, expected, atol=1e-6, rtol=0)


def test_hinge_prefers_margin_one_to_all_others():
    grid = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    losses = population("hinge", grid, torch.zeros_like(grid), 0.7, 1.0)
    assert grid[losses.argmin()].item() == pytest.approx(1.0, abs=1e-3)


def test_robust_is_unbiased_and_unbounded_below():
    """(1 - e) l(m) + e l(-m) is the DPO loss of the clean label."""
    margins = torch.linspace(-8, 8, 33, dtype=torch.float64)
    zero = torch.zeros_like(margins)
    mean = population("robust", margins, zero, 1 - 0.2, 1.0, label_smoothing=0.2)
    torch.testing.assert_close(mean, compute_loss("dpo", free(margins, zero), 1.0).losses)
    far = compute_loss("robust", free(vector(49), vector(-900)), 1.0, label_smoothing=0.2).losses
    assert far.item() < -300


def first_step(name: str, **options: float) -> tuple[float, float]:
    """Gradient in (a, b) at the reference, per unit of beta."""
    a, b = vector(0).requires_grad_(), vector(0).requires_grad_()
    logps = PairLogps(a - 9, b - 9, vector(-9), vector(-9))
    loss = compute_loss(name, logps, 0.3, **options).losses.sum()
    return tuple(slope.item() / 0.3 for slope in torch.autograd.grad(loss, (a, b)))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("dpo", {}, (-0.5, 0.5)),
        ("robust", {"label_smoothing": 0.1}, (-0.625, 0.625)),
        ("exo_pair", {"label_smoothing": 0.1}, (-math.log(9) / 4, math.log(9) / 4)),
        ("nca_pair", {}, (-0.25, 0.25)),
        ("bco_pair", {}, (-0.5, 0.5)),
        ("apo_zero", {}, (-0.25, 0.25)),
        ("apo_down", {}, (0.0, 0.25)),
        ("discopop", {}, ((1 - math.log(2)) / 0.2 - 0.75, 0.75 - (1 - math.log(2)) / 0.2)),
        ("dpop", {}, (-0.5, 0.5)),  # relu: the penalty has no slope at the kink
        ("hinge", {}, (-1.0, 1.0)),
    ],
)
def test_first_step_from_the_reference(name, options, expected):
    assert first_step(name, **options) == pytest.approx(expected, abs=1e-12)


def test_discopop_s_first_step_turns_at_tau_1023():
    """Below (1 - log 2) / 3 = .1023 the first step lowers the margin."""
    assert first_step("discopop", discopop_tau=0.102)[0] > 0
    assert first_step("discopop", discopop_tau=0.1025)[0] < 0


def test_hinges_are_flat_at_their_kinks():
    chosen = vector(-9).requires_grad_()
    at_one = PairLogps(chosen, vector(-9), vector(-10), vector(-9))  # margin exactly 1
    assert torch.autograd.grad(compute_loss("hinge", at_one, 1.0).losses.sum(), chosen)[0] == 0


def test_a_longer_chosen_answer_has_a_smaller_loss_under_rdpo():
    longer = random_pairs(6)._replace(
        chosen_lengths=torch.full((6,), 9), rejected_lengths=torch.full((6,), 3)
    )
    rdpo = compute_loss("rdpo", longer, 0.1, rdpo_alpha=0.05).losses
    assert (rdpo < compute_loss("dpo", longer, 0.1).losses).all()


def test_dpop_s_penalty_only_raises_the_loss_and_only_below_the_reference():
    dpo, dpop = (compute_loss(name, MODERATE, 0.5).losses for name in ("dpo", "dpop"))
    fallen = MODERATE.chosen_logratios < 0
    assert torch.equal(dpop > dpo, fallen)
    assert torch.equal(dpop[~fallen], dpo[~fallen])


def test_kto_simplified_is_kto_at_0_and_half_of_apo_zero():
    logps = random_pairs(7)
    simplified = compute_loss("kto_simplified", logps, 0.2).losses
    zero = compute_loss("kto", logps, 0.2, inputs={"mismatched_logratios": vector(-3, 1)}).losses
    torch.testing.assert_close(simplified, zero)
    torch.testing.assert_close(simplified, compute_loss("apo_zero", logps, 0.2).losses / 2)


@pytest.mark.parametrize(("name", "key"), [("kto", "mismatched_logratios"), ("tdpo2", "chosen_kl")])
def test_what_is_detached_carries_no_gradient(name, key):
    logps = MODERATE._replace(policy_chosen=MODERATE.policy_chosen.clone().requires_grad_())
    inputs = inputs_for(LOSSES[name], logps)
    inputs[key] = inputs[key].requires_grad_()
    losses = compute_loss(name, logps, inputs=inputs).losses.sum()
    assert torch.autograd.grad(losses, inputs[key], allow_unused=True) == (None,)


@pytest.mark.parametrize("name", ["aot", "aot_unpaired"])
def test_sorted_losses_of_one_pair_are_dpo(name):
    for row in range(3):
        one = part(MODERATE, slice(row, row + 1))
        expected = compute_loss("dpo", one, 0.5).losses
        torch.testing.assert_close(compute_loss(name, one, 0.5).losses, expected)


def test_rainbow_s_ends_are_sigmoid_norm_and_simpo():
    ends = {"rainbow_gamma": 0.3}
    one = compute_loss("rainbowpo", MODERATE, 2.0, rainbow_alpha=1.0, **ends).losses
    torch.testing.assert_close(one, compute_loss("sigmoid_norm", MODERATE, 2.0).losses)
    zero = compute_loss("rainbowpo", MODERATE, 2.0, rainbow_alpha=0.0, **ends).losses
    simpo = compute_loss("simpo", MODERATE, 2.0, gamma_beta_ratio=0.3).losses
    torch.testing.assert_close(zero, simpo)


def test_ld_dpo_with_full_weight_is_dpo():
    inputs = inputs_for(LOSSES["ld_dpo"], MODERATE)
    losses = compute_loss("ld_dpo", MODERATE, 0.5, inputs=inputs, ld_alpha=1.0).losses
    torch.testing.assert_close(losses, compute_loss("dpo", MODERATE, 0.5).losses)


def test_running_shift_counts_each_reward_once_and_resumes():
    """Rewards of a batch of three pairs that add up to .2, then two more that add up to .05."""
    shift = RunningShift()
    assert shift.update(0.2, 6.0) == pytest.approx(0.2 / 6)
    resumed = RunningShift(**shift.state_dict())
    assert shift.update(0.05, 2.0) == resumed.update(0.05, 2.0) == pytest.approx(0.25 / 8)
