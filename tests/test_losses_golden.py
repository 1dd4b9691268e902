"""Every loss against numbers that were worked out once from the formulas, to 1e-9.

They were compared with TRL, Liger and the original DPO repository where those have the loss.
"""

from __future__ import annotations

import pytest
import torch
from loss_cases import LENGTHS, MODERATE, SATURATED, vector

from dpo_lab.losses import LOSSES, compute_loss

E = {"label_smoothing": 0.1}
TAU = {"discopop_tau": 0.05}
KLS = {"chosen_kl": vector(0.2, 0.1, 0.4), "rejected_kl": vector(0.3, 0.6, 0.1)}
MISMATCHED = {"mismatched_logratios": vector(0.3, -0.1, 0.25)}  # z0 = .15
# The mean of all six log-ratios is below 0, so z0 = 0.
ALL_SIX = {"mismatched_logratios": vector(0, 0.1, -0.9, 0, -9.9, -20.9)}
GOOD, BAD = {"undesirable_weight": 0.0}, {"desirable_weight": 0.0}

SATURATED_ROWS = [
    ("dpo", {}, {}, [0.6931471806, 0.3132616875, 0.1269280110]),
    ("cdpo", E, {}, [0.6931471806, 0.4132616875, 0.3269280110]),
    ("robust", E, {}, [0.6931471806, 0.1882616875, -0.1230719890]),
    ("hinge", {}, {}, [1.0, 0.0, 0.0]),
    ("ipo_sum", {}, {}, [25.0, 25.0, 225.0]),
    ("ipo_avg", {}, {}, [25.0, 11.0889, 5.0144005102]),
    ("exo_pair", E, {}, [0.5108256238, 0.1140821077, 0.0019422505]),
    ("nca_pair", {}, {}, [1.3862943611, 1.1952199945, 1.1220466904]),
    ("bco_pair", {}, {}, [1.3862943611, 1.0041206280, 0.8557747028]),
    ("sppo_hard", {}, {}, [50.0, 48.02, 287.62]),
    ("apo_zero", {}, {}, [1.0, 0.7684120985, 0.6325573992]),
    ("apo_down", {}, {}, [1.0, 0.7714414005, 0.5967180972]),
    ("discopop", TAU, {}, [0.8465735903, 0.3678794411, 0.1353352832]),
    ("sigmoid_norm", {}, {}, [0.6931471806, 0.6131292621, 0.5646082942]),
    ("aot", {}, {}, [0.6931471806, 0.1269280110, 0.3132616875]),
    ("aot_unpaired", {}, {}, [0.1269280110, 0.3159609475, 0.6881596805]),
    ("fdpo_forward_kl", {}, {}, [0.6931471806, 0.0, 0.0]),
    ("fdpo_js", {}, {}, [0.6931471806, 0.3338311111, 0.1310562951]),
    ("fdpo_alpha", {"f_alpha": 0.3}, {}, [0.6931471806, 0.0020810860, 0.0]),
    ("dpop", {"dpop_lambda": 5.0}, {}, [0.6931471806, 0.3132616875, 0.1924764656]),
    ("rdpo", {"rdpo_alpha": 0.01}, {}, [0.6981596805, 0.3159609475, 0.1305517070]),
    ("cpo", {"cpo_alpha": 0.0}, {}, [0.7133471672, 0.1269280110, 0.1269280110]),
]

MODERATE_ROWS = [
    ("dpo", {}, {}, [0.5333821554, 0.9740769842, 0.3558650684]),
    ("cdpo", E, {}, [0.5683821554, 0.9240769842, 0.4408650684]),
    ("robust", E, {}, [0.4896321554, 1.0365769842, 0.2496150684]),
    ("hinge", {}, {}, [0.65, 1.5, 0.15]),
    ("ipo_sum", {}, {}, [0.09, 4.0, 0.49]),
    ("ipo_avg", {}, {}, [0.49, 1.3924, 0.4365433673]),
    ("exo_pair", E, {}, [0.3355885283, 0.8101961380, 0.1528987521]),
    ("nca_pair", {}, {}, [1.3076868280, 1.5243859263, 1.2213810452]),
    ("bco_pair", {}, {}, [1.2190959172, 1.6524941139, 1.0062641984]),
    ("bco_pair", {"shift": 0.1}, {}, [1.2203360800, 1.6524941139, 1.0074591396]),
    ("sppo_hard", {}, {}, [0.85, 4.52, 0.05]),
    ("apo_zero", {}, {}, [0.9127361573, 1.1242765141, 0.7906731059]),
    ("apo_down", {}, {}, [0.9632164184, 1.0726253339, 0.9100720915]),
    ("discopop", TAU, {}, [0.7045320212, 0.9741076116, 0.4274149290]),
    ("sigmoid_norm", {}, {}, [0.6209570478, 0.7391593390, 0.6119187840]),
    ("aot", {}, {}, [0.9740769842, 0.5333821554, 0.3558650684]),
    ("aot_unpaired", {}, {}, [0.5981388694, 0.5333821554, 0.6209570478]),
    ("fdpo_forward_kl", {}, {}, [0.5376240116, 0.9564365748, 0.3384212802]),
    ("fdpo_js", {}, {}, [0.6114488030, 0.8190788678, 0.5070331508]),
    ("fdpo_alpha", {"f_alpha": 0.3}, {}, [0.5352767150, 0.9660323934, 0.3569295497]),
    ("cpo", {"cpo_alpha": 0.0}, {}, [0.4740769842, 1.1368710061, 0.0788897343]),
    ("dpop", {"dpop_lambda": 5.0}, {}, [0.5333821554, 1.7014132780, 0.3558650684]),
    ("rdpo", {"rdpo_alpha": 0.01}, {}, [0.5375281115, 0.9803133180, 0.3649428287]),
    (
        "odpo",
        {"odpo_alpha": 1.0},
        {"score_difference": vector(2, 0.5, 1)},
        [0.8793678673, 0.6012295889, 0.3558650684],
    ),
    (
        "rainbowpo",
        {"rainbow_alpha": 0.25, "rainbow_gamma": 0.3},
        {},
        [0.7313501408, 0.8673420093, 0.6747920059],
    ),
    ("tdpo1", {}, KLS, [0.5543552445, 1.1368710061, 0.3132616875]),
    ("tdpo2", {"tdpo_alpha": 0.5}, KLS, [0.5437926040, 1.0537006783, 0.3339916046]),
]


def assert_golden(losses: torch.Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(losses, vector(*expected), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("name", "options", "inputs", "expected"), SATURATED_ROWS)
def test_first_fixture(name, options, inputs, expected):
    output = compute_loss(name, SATURATED, 0.1, inputs=inputs, **options)
    assert_golden(output.losses, expected)


@pytest.mark.parametrize(("name", "options", "inputs", "expected"), MODERATE_ROWS)
def test_second_fixture(name, options, inputs, expected):
    output = compute_loss(name, MODERATE, 0.5, inputs=inputs, **options)
    assert_golden(output.losses, expected)


@pytest.mark.parametrize(
    ("logps", "beta", "others", "good", "bad"),
    [
        (
            SATURATED,
            0.1,
            ALL_SIX,
            [0.5, 0.4975000208, 0.5224848248],
            [0.5, 0.2709120777, 0.1100725744],
        ),
        (
            MODERATE,
            0.5,
            MISMATCHED,
            [0.4687906266, 0.5683199835, 0.4073334000],
            [0.4439861095, 0.5560138905, 0.3834334955],
        ),
    ],
)
def test_kto_of_each_answer(logps, beta, others, good, bad):
    """A weight of 0 leaves one side; a pair's loss is the mean of its two answers'."""
    for weights, expected in [(GOOD, good), (BAD, bad)]:
        losses = compute_loss("kto", logps, beta, inputs=others, **weights).losses
        assert_golden(2 * losses, expected)
    both = compute_loss("kto", logps, beta, inputs=others).losses
    assert_golden(2 * both, [g + b for g, b in zip(good, bad, strict=True)])


def test_simpo_in_both_spellings():
    """beta = 2 and gamma = 1, so gamma / beta = .5."""
    for logps, expected in [
        (SATURATED, [1.6472444396, 0.0067153485, 0.0110477448]),
        (MODERATE, [1.3132616875, 2.1269280110, 0.9302184925]),
    ]:
        assert_golden(compute_loss("simpo", logps, 2.0, simpo_gamma=1.0).losses, expected)
        assert_golden(compute_loss("simpo", logps, 2.0, gamma_beta_ratio=0.5).losses, expected)


def test_alphapo_in_both_spellings():
    """beta = 2.5 and gamma = .25, so gamma / beta = .1."""
    expected = [0.8259394199, 2.0914829468, 0.4029502563]
    for spelling in ({"simpo_gamma": 0.25}, {"gamma_beta_ratio": 0.1}):
        losses = compute_loss("alphapo", MODERATE, 2.5, alphapo_alpha=0.25, **spelling).losses
        assert_golden(losses, expected)
    limit = compute_loss("alphapo", MODERATE, 2.5, alphapo_alpha=0.0).losses
    near = compute_loss("alphapo", MODERATE, 2.5, alphapo_alpha=1e-8).losses
    simpo = compute_loss("simpo", MODERATE, 2.5, gamma_beta_ratio=0.1).losses
    assert torch.equal(limit, simpo)
    torch.testing.assert_close(near, simpo, atol=1e-6, rtol=0)


def test_orpo_is_the_odds_term_and_the_mean_nll():
    for logps, expected in [
        (SATURATED, [0.2238530587, 0.0042428210, 0.0014772063]),
        (MODERATE, [0.0693147181, 0.1107328175, 0.0504720018]),
    ]:
        losses = compute_loss("orpo", logps, 0.1).losses
        assert_golden(losses + logps.policy_chosen / LENGTHS[0], expected)


def test_losses_with_a_likelihood_term_by_hand():
    """-log pi_w is 2, 7.5, 4 over 2, 5, 4 tokens: 1, 1.5, 1 a token."""
    nll, mean = vector(2, 7.5, 4), vector(1, 1.5, 1)
    dpo = compute_loss("dpo", MODERATE, 0.5).losses
    rpo = compute_loss("rpo", MODERATE, 0.5, rpo_alpha=0.3).losses
    torch.testing.assert_close(rpo, dpo + 0.3 * mean)
    torch.testing.assert_close(compute_loss("sft", MODERATE).losses, mean)
    bare = compute_loss("cpo", MODERATE, 0.5, cpo_alpha=0.0).losses
    torch.testing.assert_close(
        compute_loss("cpo", MODERATE, 0.5, cpo_alpha=0.2).losses, bare + 0.2 * nll
    )
    # distances 3 - (log pi_w - log pi_l): log pi_w - log pi_l is 1, -1.5, 5
    slic = compute_loss("slic", MODERATE, 3.0, slic_lambda=0.1).losses
    torch.testing.assert_close(slic, vector(2, 4.5, 0) + 0.1 * nll)


def test_wpo_and_beta_dpo_by_hand():
    dpo = compute_loss("dpo", MODERATE, 0.5).losses
    weights = {"chosen_weights": vector(1, 0.5, 2), "rejected_weights": vector(0.5, 0.5, 1)}
    wpo = compute_loss("wpo", MODERATE, 0.5, inputs=weights).losses
    torch.testing.assert_close(wpo, dpo * vector(0.5, 0.25, 2))
    # differences .7, -1, 1.7 have mean 1.4/3; beta = .5 (1 + .6 (1.4/3 - .2)) = .58
    moved = compute_loss("beta_dpo", MODERATE, 0.5, beta_dpo_alpha=0.6, margin_threshold=0.2).losses
    torch.testing.assert_close(moved, compute_loss("dpo", MODERATE, 0.58).losses)
    floor = compute_loss("beta_dpo", MODERATE, 0.5, beta_dpo_alpha=9.0, margin_threshold=9.0).losses
    torch.testing.assert_close(floor, compute_loss("dpo", MODERATE, 1e-3).losses)


def test_ld_dpo_by_hand():
    """Three tokens against one, so l = 1 and the last two chosen tokens weigh 1/4."""
    logps = MODERATE._replace(
        **{key: value[:1] for key, value in MODERATE._asdict().items()}
    )._replace(chosen_lengths=torch.tensor([3]), rejected_lengths=torch.tensor([1]))
    tables = {
        "policy_chosen_tokens": vector(-1, -2, -4)[None],
        "ref_chosen_tokens": vector(-2, -1, -1)[None],
        "policy_rejected_tokens": vector(-3, -7, -7)[None],  # one token, then padding
        "ref_rejected_tokens": vector(-1, -8, -8)[None],
    }
    losses = compute_loss("ld_dpo", logps, 0.5, ld_alpha=0.25, inputs=tables).losses
    # chosen: 1 + (-1 - 3) / 4 = 0; rejected: -2; margin .5 * 2 = 1
    assert_golden(losses, [0.3132616875])


def test_no_loss_is_without_a_row():
    rows = {row[0] for row in SATURATED_ROWS + MODERATE_ROWS}
    own_tests = {
        "kto",
        "simpo",
        "alphapo",
        "sft",
        "orpo",
        "rpo",
        "slic",
        "wpo",
        "beta_dpo",
        "ld_dpo",
    }
    # kto_simplified is compared with kto and apo_zero in test_losses_properties.py
    assert rows | own_tests | {"kto_simplified"} == set(LOSSES)
