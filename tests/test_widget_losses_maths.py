"""losses.js, run as it is in Chromium, against dpo_lab.losses and autograd."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from loss_cases import MODERATE, SATURATED, TABLE_OF, inputs_for, spread
from test_losses_golden import MODERATE_ROWS, SATURATED_ROWS
from widget_page import open_modules

from dpo_lab.losses import LOSSES, PairLogps, compute_loss

pytestmark = pytest.mark.browser

BATCH_LOSSES = ["aot", "aot_unpaired", "beta_dpo"]
NAMES = [name for name in LOSSES if name not in BATCH_LOSSES]
# Options away from their defaults, and beta where it matters for them.
OTHER_OPTIONS = {
    "cdpo": [{"label_smoothing": 0.0}, {"label_smoothing": 0.45}],
    "robust": [{"label_smoothing": 0.0}, {"label_smoothing": 0.4}],
    "exo_pair": [{"label_smoothing": 0.3}],
    "discopop": [{"discopop_tau": 1.0}, {"discopop_tau": 0.2}],
    "rdpo": [{"rdpo_alpha": 0.5}],
    "odpo": [{"odpo_alpha": 0.0}, {"odpo_alpha": 3.0}],
    "dpop": [{"dpop_lambda": 0.0}, {"dpop_lambda": 5.0}],
    "fdpo_alpha": [{"f_alpha": 0.01}, {"f_alpha": 0.99}],
    "tdpo2": [{"tdpo_alpha": 2.0}],
    "bco_pair": [{"shift": -1.5}],
    "kto": [{"desirable_weight": 1.5, "undesirable_weight": 0.25}],
    "kto_simplified": [{"desirable_weight": 0.0}],
    "simpo": [{"gamma_beta_ratio": 1.5}],
    "alphapo": [
        {"alphapo_alpha": 0.0, "gamma_beta_ratio": 0.0},
        {"alphapo_alpha": -0.5, "gamma_beta_ratio": 0.3},
    ],
    "rainbowpo": [{"rainbow_alpha": 1.0}, {"rainbow_alpha": 0.0, "rainbow_gamma": 0.5}],
    "ld_dpo": [{"ld_alpha": 0.0}, {"ld_alpha": 1.0}],
    "cpo": [{"cpo_alpha": 0.0}],
    "slic": [{"slic_lambda": 0.0}],
    "rpo": [{"rpo_alpha": 0.3}],
}


@pytest.fixture(scope="module")
def page(chromium, tmp_path_factory):
    page = chromium.new_page()
    open_modules(
        page, tmp_path_factory.mktemp("modules"), {"losses.js": "BATCH_LOSSES, LOSSES, evaluate"}
    )
    yield page
    page.close()


def ends(interval: str) -> list[float]:
    return [float(end) for end in interval[1:-1].split(",")]


def test_the_table_is_pythons(page):
    table = page.evaluate("tested.LOSSES")
    assert page.evaluate("tested.BATCH_LOSSES") == BATCH_LOSSES
    assert sorted(table) == sorted(NAMES)
    for name, shown in table.items():
        spec = LOSSES[name]
        assert shown["beta"] == spec.beta, name
        assert shown["reference"] == ("reference" in spec.needs), name
        assert shown["lengths"] == ("lengths" in spec.needs), name
        assert list(shown["options"]) == list(spec.options), name
        for key, option in spec.options.items():
            assert shown["options"][key]["value"] == option.default, (name, key)
            assert shown["options"][key]["interval"] == option.interval, (name, key)
        numbers = [key for key, each in spec.inputs.items() if each.shape != "tokens"]
        assert list(shown["inputs"]) == numbers, name
        for key in numbers:
            assert shown["inputs"][key]["interval"] == spec.inputs[key].interval, (name, key)
            assert shown["inputs"][key]["required"] == spec.inputs[key].required, (name, key)
        for each in [*shown["options"].values(), *shown["inputs"].values()]:
            assert [each["low"], each["high"]] == ends(each["interval"]), name


def in_javascript(page, name, logps, beta, options, inputs) -> dict[str, np.ndarray]:
    columns = {
        "a": logps.chosen_logratios,
        "b": logps.rejected_logratios,
        "refChosen": logps.ref_chosen,
        "refRejected": logps.ref_rejected,
        "chosenLength": logps.chosen_lengths,
        "rejectedLength": logps.rejected_lengths,
        **{key: value for key, value in inputs.items() if key not in TABLE_OF},
    }
    if "mismatched_logratios" in columns:
        mean = columns["mismatched_logratios"].mean()
        columns["mismatched_logratios"] = mean.expand(len(logps.ref_chosen))
    lists = [column.tolist() for column in columns.values()]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]
    results = page.evaluate(
        "([name, rows, beta, options]) => rows.map((pair) =>"
        " tested.evaluate(name, pair, beta, options))",
        [name, rows, beta, options],
    )
    return {key: np.array([r[key] for r in results], dtype=float) for key in ("loss", "da", "db")}


def in_python(name, logps, beta, options, inputs) -> dict[str, np.ndarray]:
    chosen = logps.policy_chosen.clone().requires_grad_()
    rejected = logps.policy_rejected.clone().requires_grad_()
    live = logps._replace(policy_chosen=chosen, policy_rejected=rejected)
    # A token table whose tokens share the sum carries the gradient of the sum.
    tables = {key: spread(live, TABLE_OF[key]) for key in inputs if key in TABLE_OF}
    losses = compute_loss(name, live, beta, inputs={**inputs, **tables}, **options).losses
    da, db = torch.autograd.grad(losses.sum(), [chosen, rejected], materialize_grads=True)
    return {"loss": losses.detach().numpy(), "da": da.numpy(), "db": db.numpy()}


def assert_equal(page, name, logps, beta, options, inputs) -> None:
    shown = in_javascript(page, name, logps, beta, options, inputs)
    expected = in_python(name, logps, beta, options, inputs)
    for key, values in shown.items():
        np.testing.assert_allclose(
            values,
            expected[key],
            rtol=1e-10,
            atol=1e-14 * max(1.0, beta),
            err_msg=f"{key} of {name}, beta {beta}, {options}",
        )


def dyadic_pairs(size: int, reach: float, seed: int) -> PairLogps:
    """Pairs whose sums are multiples of 1/256: log-ratios lose no digit on either side."""
    rng = np.random.default_rng(seed)
    sums = -np.round(rng.uniform(0, reach, (4, size)) * 256) / 256
    lengths = rng.integers(1, 10, (2, size))
    return PairLogps(*torch.tensor(sums), *torch.tensor(lengths))


@pytest.mark.parametrize("name", NAMES)
def test_random_pairs_agree_with_python(page, name):
    for seed, reach in enumerate([2.0, 20.0, 200.0]):
        logps = dyadic_pairs(40, reach, seed)
        inputs = inputs_for(LOSSES[name], logps, seed)
        for beta in (0.01, LOSSES[name].beta, 1.0, 7.5):
            for options in ({}, *OTHER_OPTIONS.get(name, [])):
                assert_equal(page, name, logps, beta, options, inputs)


@pytest.mark.parametrize("name", NAMES)
def test_far_away_nothing_overflows(page, name):
    ends_of_line = torch.tensor(
        [[0, 0, -1e4, -1e4], [-1e4, 0, 0, -1e4], [0, -1e4, 0, 0], [0, 0, 0, -1e4], [0, 0, -1e4, 0]]
    ).double()
    lengths = torch.ones(5, dtype=torch.long)
    logps = PairLogps(*ends_of_line.T, lengths, lengths)
    inputs = inputs_for(LOSSES[name], logps)
    for beta in (0.01, 1.0, 10.0):
        shown = in_javascript(page, name, logps, beta, {}, inputs)
        assert all(np.isfinite(values).all() for values in shown.values()), beta
        assert_equal(page, name, logps, beta, {}, inputs)


def golden_rows():
    for logps, beta, rows in ((SATURATED, 0.1, SATURATED_ROWS), (MODERATE, 0.5, MODERATE_ROWS)):
        for name, options, inputs, expected in rows:
            if name not in BATCH_LOSSES:
                yield pytest.param(logps, beta, name, options, inputs, expected, id=name)


@pytest.mark.parametrize(
    ("logps", "beta", "name", "options", "inputs", "expected"), list(golden_rows())
)
def test_golden_numbers(page, logps, beta, name, options, inputs, expected):
    shown = in_javascript(page, name, logps, beta, options, inputs)
    np.testing.assert_allclose(shown["loss"], expected, atol=1e-9)
    assert_equal(page, name, logps, beta, options, inputs)


def test_defaults_stand_in_for_what_is_left_out(page):
    pair = {"a": 0.5, "b": -0.25}
    shown = page.evaluate("(pair) => tested.evaluate('cdpo', pair)", pair)
    # m = .1 * .75, smoothed by .1; worked without either implementation.
    right, wrong = math.log1p(math.exp(-0.075)), math.log1p(math.exp(0.075))
    assert shown["loss"] == pytest.approx(0.9 * right + 0.1 * wrong, rel=1e-14)
    slope = 0.1 / (1 + math.exp(-0.075)) - 0.9 / (1 + math.exp(0.075))
    assert shown["da"] == pytest.approx(0.1 * slope, rel=1e-14)
    assert shown["db"] == pytest.approx(-0.1 * slope, rel=1e-14)


def test_one_pair_of_aot_is_cdpo(page):
    logps = PairLogps(*(column[:1] for column in MODERATE))
    for name in ("aot", "aot_unpaired"):
        expected = in_python(name, logps, 0.5, {"label_smoothing": 0.2}, {})
        shown = in_javascript(page, "cdpo", logps, 0.5, {"label_smoothing": 0.2}, {})
        for key, values in shown.items():
            np.testing.assert_allclose(values, expected[key], rtol=1e-12)
