"""What must hold for every entry of the table: gradients, stability, batches, refusals."""

from __future__ import annotations

import math

import pytest
import torch
from loss_cases import LENGTHS, MODERATE, TABLE_OF, inputs_for, part, random_pairs, vector

from dpo_lab.errors import InputError
from dpo_lab.losses import ALIASES, LOSSES, PairLogps, compute_loss, find_loss

# Loss where policy and reference are equal, at beta = .2 and the defaults of the table.
AT_REFERENCE = {
    "hinge": 1.0,
    "exo_pair": 0.5 * math.log(1 / (4 * 1e-3 * (1 - 1e-3))),
    "discopop": (math.log(2) + 1) / 2,
    "nca_pair": 2 * math.log(2),
    "bco_pair": 2 * math.log(2),
    "sppo_hard": 2 / (4 * 0.2**2),
    "apo_zero": 1.0,
    "apo_down": 1.0,
    "kto_simplified": 0.5,
    "ipo_sum": 1 / (4 * 0.2**2),
    "ipo_avg": 1 / (4 * 0.2**2),
}
# Not a constant there: no reference, lengths, scores, likelihoods, KLs or weights come in.
NOT_CONSTANT = ["rdpo", "odpo", "tdpo1", "tdpo2", "wpo", "kto"]
NOT_CONSTANT += ["simpo", "alphapo", "rainbowpo", "orpo", "cpo", "slic", "rpo", "sft"]


@pytest.mark.parametrize("name", [n for n in LOSSES if n not in NOT_CONSTANT])
def test_loss_at_the_reference(name):
    logps = random_pairs(5)
    same = logps._replace(ref_chosen=logps.policy_chosen, ref_rejected=logps.policy_rejected)
    losses = compute_loss(name, same, 0.2, inputs=inputs_for(LOSSES[name], same)).losses
    expected = AT_REFERENCE.get(name, math.log(2))
    torch.testing.assert_close(losses, torch.full((5,), expected, dtype=torch.float64))


def value_and_slopes(name: str, logps: PairLogps, inputs: dict, beta: float | None = None):
    """Losses, and the gradient of their sum in chosen and rejected log-probabilities."""
    moved = {
        side: getattr(logps, side).clone().requires_grad_()
        for side in ("policy_chosen", "policy_rejected")
    }
    inputs = dict(inputs)
    for table, side in TABLE_OF.items():
        if table in inputs and side in moved:  # let the tokens of a table follow the sum
            lengths = logps.chosen_lengths if "chosen" in side else logps.rejected_lengths
            shift = (moved[side] - moved[side].detach()) / lengths
            inputs[table] = inputs[table] + shift[:, None]
    losses = compute_loss(name, logps._replace(**moved), beta, inputs=inputs).losses
    return losses, torch.autograd.grad(losses.sum(), list(moved.values()), materialize_grads=True)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_equals_finite_differences(name):
    logps, step = random_pairs(6, seed=4), 1e-6
    inputs = inputs_for(LOSSES[name], logps)
    if name == "beta_dpo":  # its beta is detached, so compare with DPO at that beta
        mean = logps.logratio_differences.mean().item()
        name, beta = "dpo", max(0.1 * (1 + 0.6 * mean), 1e-3)
        _, expected = value_and_slopes("beta_dpo", logps, inputs, 0.1)
        _, slopes = value_and_slopes("dpo", logps, {}, beta)
        torch.testing.assert_close(slopes, expected)
        return
    _, slopes = value_and_slopes(name, logps, inputs, 0.3)
    for side, slope in zip(("policy_chosen", "policy_rejected"), slopes, strict=True):
        for pair in range(6):
            sums = []
            for sign in (1, -1):
                column = getattr(logps, side).clone()
                column[pair] += sign * step
                moved = logps._replace(**{side: column})
                there = inputs
                if name == "ld_dpo":
                    there = inputs_for(LOSSES[name], moved)
                sums.append(compute_loss(name, moved, 0.3, inputs=there).losses)
            numeric = (sums[0] - sums[1]).sum().item() / (2 * step)
            assert slope[pair].item() == pytest.approx(numeric, abs=2e-6, rel=2e-6), (side, pair)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [1.0, 100.0, 1e4])
def test_far_log_ratios_stay_finite_in_float32(name, size):
    """All nine combinations of a log-ratio of -size, 0 and size on each side."""
    signs = torch.cartesian_prod(torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([-1.0, 0.0, 1.0]))
    chosen, rejected = (size * signs).unbind(1)
    lengths = torch.full((9,), 7)
    logps = PairLogps(
        -torch.relu(-chosen), -torch.relu(-rejected), -torch.relu(chosen), -torch.relu(rejected)
    )._replace(chosen_lengths=lengths, rejected_lengths=lengths)
    losses, slopes = value_and_slopes(name, logps, inputs_for(LOSSES[name], logps))
    assert losses.dtype == torch.float32
    assert losses.isfinite().all()
    assert all(slope.isfinite().all() for slope in slopes)


@pytest.mark.parametrize("name", LOSSES)
def test_micro_batches_are_one_batch_exactly_where_the_table_says_so(name):
    """The mean over 8 pairs against the mean over two micro-batches of 4, with gradients.

    z0 of `kto` is a mean over a micro-batch, so the halves get the halves of its list.
    """
    logps = random_pairs(8, seed=2)
    inputs = inputs_for(LOSSES[name], logps)
    if name == "kto":
        inputs = {"mismatched_logratios": vector(0.1, 0.2, 0.3, 0.4, 1, 2, 3, 4)}
    whole, slopes = value_and_slopes(name, logps, inputs)
    means, parts = [], []
    for half in (slice(4), slice(4, 8)):
        given = {key: value[half] for key, value in inputs.items()}
        losses, slope = value_and_slopes(name, part(logps, half), given)
        means.append(losses.mean())
        parts.append(torch.stack(slope))
    same_loss = torch.isclose(whole.mean(), sum(means) / 2)
    same_slope = torch.allclose(torch.stack(slopes), torch.cat(parts, 1))
    assert bool(same_loss and same_slope) == LOSSES[name].accumulation_invariant


@pytest.mark.parametrize("name", LOSSES)
def test_the_defaults_of_the_table_are_the_ones_that_run(name):
    spec, logps = LOSSES[name], random_pairs(4)
    inputs = inputs_for(spec, logps)
    options = {option: what.default for option, what in spec.options.items()}
    explicit = compute_loss(name, logps, spec.beta, inputs=inputs, **options)
    assert torch.equal(compute_loss(name, logps, inputs=inputs).losses, explicit.losses)


@pytest.mark.parametrize("name", LOSSES)
def test_float64_stays_float64_whatever_the_default_is(name):
    """Options that are no round numbers, so that a step through float32 would be seen."""
    spec, logps = LOSSES[name], random_pairs(6, seed=9)
    inputs = inputs_for(spec, logps)
    options = {key: what.default * 0.7 + 0.0123 for key, what in spec.options.items()}
    usual = compute_loss(name, logps, 0.3, inputs=inputs, **options).losses
    torch.set_default_dtype(torch.float64)
    try:
        wide = compute_loss(name, logps, 0.3, inputs=inputs, **options).losses
    finally:
        torch.set_default_dtype(torch.float32)
    assert usual.dtype == torch.float64
    torch.testing.assert_close(usual, wide, atol=0, rtol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_nan_anywhere_is_refused(name):
    spec, logps = LOSSES[name], random_pairs(3)
    inputs = inputs_for(spec, logps)
    for field in ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected"):
        bad = getattr(logps, field).clone()
        bad[1] = math.nan
        with pytest.raises(InputError, match=f"{field} holds NaN"):
            compute_loss(name, logps._replace(**{field: bad}), inputs=inputs)
    for key, value in inputs.items():
        bad = value.clone()
        bad[0] = math.nan
        with pytest.raises(InputError, match=f"{key} must be finite"):
            compute_loss(name, logps, inputs=inputs | {key: bad})
    for option in spec.option_names:
        with pytest.raises(InputError, match=f"{option} must lie in"):
            compute_loss(name, logps, inputs=inputs, **{option: math.nan})


@pytest.mark.parametrize("name", LOSSES)
def test_what_a_loss_needs_and_lacks_is_named(name):
    spec, logps = LOSSES[name], random_pairs(3)
    inputs = inputs_for(spec, logps)
    needed = {"reference": ["ref_chosen", "ref_rejected"]}
    needed["lengths"] = ["chosen_lengths", "rejected_lengths"]
    bare = logps._replace(**{f: None for need in needed for f in needed[need]})
    enough = {f: getattr(logps, f) for need in spec.needs for f in needed[need]}
    if name != "ld_dpo":
        compute_loss(name, bare._replace(**enough), inputs=inputs)  # it needs no more than it says
    for field in enough:
        with pytest.raises(InputError, match=f"loss '{name}' needs {field}"):
            compute_loss(name, logps._replace(**{field: None}), inputs=inputs)
    for key in inputs:
        fewer = {other: value for other, value in inputs.items() if other != key}
        with pytest.raises(InputError, match=f"loss '{name}' needs the input {key}"):
            compute_loss(name, logps, inputs=fewer)


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("dpo", {"phi": vector(1, 1, 1)}, "'dpo' has no input 'phi'; its inputs: none"),
        ("odpo", {"score_difference": vector(1, 0, 1)}, r"score_difference must lie in \(0, inf\)"),
        ("odpo", {"score_difference": vector(1, 1)}, r"one number a pair, \(3,\), got \(2,\)"),
        ("kto", {"mismatched_logratios": vector()}, "a vector with an entry"),
        ("rainbowpo", {"phi": vector(-1, 1, 1)}, "phi must lie in"),
    ],
)
def test_bad_inputs(name, inputs, message):
    with pytest.raises(InputError, match=message):
        compute_loss(name, MODERATE, inputs=inputs)


def test_a_token_table_of_another_size_is_named():
    good = inputs_for(LOSSES["ld_dpo"], MODERATE)
    key = "policy_chosen_tokens"
    for bad, message in [(good[key][:2], "table of 3 rows"), (good[key][:, :4], "4 columns for 5")]:
        with pytest.raises(InputError, match=message):
            compute_loss("ld_dpo", MODERATE, inputs=good | {key: bad})


def test_an_answer_without_tokens_is_refused():
    with pytest.raises(InputError, match="chosen_lengths must be at least 1"):
        compute_loss("simpo", MODERATE._replace(chosen_lengths=LENGTHS[0] * 0))


def test_two_spellings_at_once_are_refused():
    with pytest.raises(InputError, match="give gamma_beta_ratio or simpo_gamma, not both"):
        compute_loss("simpo", MODERATE, simpo_gamma=1.0, gamma_beta_ratio=0.5)


def test_aliases_are_the_same_entry_and_hide_no_name():
    assert all(find_loss(alias) is LOSSES[name] for alias, name in ALIASES.items())
    assert not set(ALIASES) & set(LOSSES)


@pytest.mark.parametrize("name", LOSSES)
def test_what_was_not_read_in_the_paper_is_said_in_table_and_docstring(name):
    doc = " ".join(LOSSES[name].function.__doc__.split())
    assert ("not read in the paper" in doc) == bool(LOSSES[name].unconfirmed)
