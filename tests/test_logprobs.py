"""Log-probabilities of responses against a loop in plain Python over unpadded sequences."""

from __future__ import annotations

import math

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_lab.errors import InputError
from dpo_lab.logprobs import response_mask, sequence_logps, token_logps

VOCAB, EOS = 7, 6  # EOS is the padding token too, as in many real tokenizers


@pytest.fixture
def as_users_run():
    """Shapes are checked by annotation in tests only; here the library's own checks must do."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def toy_logits(ids: list[int]) -> list[list[float]]:
    """Logits of a toy model: row t depends on all tokens up to t, as a causal model's do."""
    rows, state = [], 0.0
    for token in ids:
        state = math.sin(3.0 * state + token + 1.0)
        rows.append([3.0 * math.cos(state * (v + 2) + v) for v in range(VOCAB)])
    return rows


def by_loop(prompt: list[int], response: list[int]) -> list[float]:
    """log pi(token | before) of each response token, one token and one exponential at a time."""
    logits, ids = toy_logits(prompt + response), prompt + response
    out = []
    for t in range(len(prompt), len(ids)):
        row = logits[t - 1]
        out.append(row[ids[t]] - math.log(sum(math.exp(z) for z in row)))
    return out


def padded_batch(rows, sides, garbage=1e3):
    """Tensors of a batch; each row is padded on its own side, with junk logits at the padding."""
    width = max(len(p) + len(r) for p, r in rows)
    logits = torch.full((len(rows), width, VOCAB), float(garbage), dtype=torch.float64)
    ids = torch.full((len(rows), width), EOS)
    starts, ends = [], []
    for i, ((prompt, response), side) in enumerate(zip(rows, sides, strict=True)):
        full = prompt + response
        offset = width - len(full) if side == "left" else 0
        ids[i, offset : offset + len(full)] = torch.tensor(full)
        logits[i, offset : offset + len(full)] = torch.tensor(toy_logits(full)).double()
        starts.append(offset + len(prompt))
        ends.append(offset + len(full))
    return logits, ids, torch.tensor(starts), torch.tensor(ends)


tokens = st.integers(0, VOCAB - 1)
row = st.tuples(st.lists(tokens, min_size=1, max_size=6), st.lists(tokens, min_size=1, max_size=6))
batches = st.lists(st.tuples(row, st.sampled_from(["left", "right"])), min_size=1, max_size=5)


@settings(deadline=None)  # the first call of a process is slow
@given(batches, st.randoms(use_true_random=False))
def test_any_spans_paddings_and_batch_orders(batch, random):
    """Sum and mean equal the loop's, whatever the padding side and the other rows are."""
    random.shuffle(batch)
    rows, sides = [r for r, _ in batch], [s for _, s in batch]
    spans = padded_batch(rows, sides)
    expected = [by_loop(*r) for r in rows]
    sums = torch.tensor([sum(e) for e in expected], dtype=torch.float64)
    means = torch.tensor([sum(e) / len(e) for e in expected], dtype=torch.float64)
    near = {"atol": 1e-5, "rtol": 1e-6}  # the toy logits went through float32
    torch.testing.assert_close(sequence_logps(*spans), sums, **near)
    torch.testing.assert_close(sequence_logps(*spans, reduction="mean"), means, **near)


def test_by_hand():
    """p(2 | 0) = 1/4 and p(1 | 2) = 1/2, so the response (2, 1) after prompt 0 has log 1/8."""
    probs = torch.tensor([[[0.25, 0.5, 0.25], [0.1, 0.1, 0.8], [0.3, 0.5, 0.2], [0.2, 0.2, 0.6]]])
    logits = probs.double().log() + 5.0  # a shift of the logits says nothing
    ids = torch.tensor([[1, 0, 2, 1]])
    expected = torch.tensor([[0.0, 0.25, 0.8, 0.5]]).double()
    expected[:, 1:] = expected[:, 1:].log()
    torch.testing.assert_close(token_logps(logits, ids), expected, atol=1e-7, rtol=0)
    span = torch.tensor([2]), torch.tensor([4])
    total = sequence_logps(logits, ids, *span).item()
    assert total == pytest.approx(math.log(0.8 * 0.5), abs=1e-7)
    mean = sequence_logps(logits, ids, *span, reduction="mean").item()
    assert mean == pytest.approx(math.log(0.4) / 2, abs=1e-7)


def test_tokens_agree_with_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 9, 11, generator=generator)
    ids = torch.randint(11, (3, 9), generator=generator)
    flat = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    )
    torch.testing.assert_close(token_logps(logits, ids)[:, 1:], -flat.view(3, 8))
    assert not token_logps(logits, ids)[:, 0].any()


def test_responses_are_a_distribution_only_with_eos():
    """Over all responses of at most 4 tokens, exp(log-prob) sums to 1 with EOS, to more without.

    One letter and EOS; EOS is forced at the fourth token, so that every response ends.
    """
    letter, eos, most = 0, 1, 4
    with_eos = without = 0.0
    for length in range(1, most + 1):
        response = [letter] * (length - 1) + [eos]
        ids = torch.tensor([[letter, *response, *[eos] * (most - length)]])  # padded with EOS
        logits = torch.tensor([[[0.0, -1.0]] * (most - 1) + [[-math.inf, 0.0]] + [[0.0, 0.0]]])
        start = torch.tensor([1])
        with_eos += sequence_logps(logits, ids, start, start + length).exp().item()
        if length > 1:
            without += sequence_logps(logits, ids, start, start + length - 1).exp().item()
    assert with_eos == pytest.approx(1.0, abs=1e-6)
    assert without == pytest.approx(sum((1 / (1 + math.exp(-1))) ** k for k in (1, 2, 3)))
    assert without > 1.5


def test_padding_with_the_eos_id_does_not_hide_the_real_eos():
    rows = [([1, 2], [3, EOS]), ([0], [4, 4, 4, 5, EOS])]
    for side in ("left", "right"):
        logps = sequence_logps(*padded_batch(rows, [side] * 2))
        expected = torch.tensor([sum(by_loop(*r)) for r in rows], dtype=torch.float64)
        torch.testing.assert_close(logps, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("junk", [1e3, math.inf, math.nan])
def test_logits_outside_the_span_have_neither_value_nor_gradient(junk):
    """Junk at the padding (some attention kernels write NaN there) must not reach the weights."""
    rows = [([1, 2, 3], [4, EOS]), ([0], [EOS]), ([0, 5], [2, 5, 1, EOS])]
    logits, ids, starts, ends = padded_batch(rows, ["left", "right", "left"], garbage=junk)
    logits.requires_grad_()
    logps = sequence_logps(logits, ids, starts, ends)
    expected = torch.tensor([sum(by_loop(*r)) for r in rows], dtype=torch.float64)
    torch.testing.assert_close(logps, expected, atol=1e-5, rtol=0)
    (gradient,) = torch.autograd.grad(logps.sum(), logits)
    predicts = torch.nn.functional.pad(response_mask(starts, ends, ids.shape[1]), (-1, 1))
    assert not gradient[~predicts].any()
    assert gradient[predicts].abs().sum(-1).min() > 0
    torch.testing.assert_close(gradient.sum(-1), torch.zeros_like(gradient[..., 0]))


@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 5), (torch.float16, 0.3)])
def test_low_precision_logits_are_summed_in_float32(dtype, error):
    """Over 300 tokens the sum is right to .01; a log-softmax in the logits' own dtype is not."""
    generator = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(1, 301, 512, generator=generator)).to(dtype)
    ids = torch.randint(512, (1, 301), generator=generator)
    span = torch.tensor([1]), torch.tensor([301])
    exact = sequence_logps(logits.double(), ids, *span).item()
    ours = sequence_logps(logits, ids, *span)
    assert ours.dtype == torch.float32
    assert ours.item() == pytest.approx(exact, abs=1e-2)
    naive = torch.log_softmax(logits[:, :-1], -1).gather(-1, ids[:, 1:, None]).sum()
    assert abs(naive.item() - exact) > error


def test_float64_stays_float64():
    logits, ids = torch.zeros(1, 3, 4, dtype=torch.float64), torch.tensor([[0, 1, 2]])
    assert token_logps(logits, ids).dtype == torch.float64


def test_mask_covers_start_to_end():
    mask = response_mask(torch.tensor([1, 3]), torch.tensor([2, 5]), 5)
    assert mask.int().tolist() == [[0, 1, 0, 0, 0], [0, 0, 0, 1, 1]]


def zeros(rows=2, tokens=5):
    return torch.zeros(rows, tokens, VOCAB), torch.zeros(rows, tokens, dtype=torch.long)


@pytest.mark.parametrize(
    ("start", "end"), [(0, 3), (2, 2), (3, 2), (2, 6), (-1, 3)], ids=lambda x: str(x)
)
def test_a_bad_span_is_named_with_its_row(start, end):
    starts, ends = torch.tensor([1, start]), torch.tensor([3, end])
    message = rf"row 1: response span \[{start}, {end}\) must satisfy 1 <= start < end <= 5"
    with pytest.raises(InputError, match=message):
        sequence_logps(*zeros(), starts, ends)


@pytest.mark.parametrize("bad_id", [-100, VOCAB])
def test_an_id_outside_the_vocabulary(bad_id):
    logits, ids = zeros()
    ids[1, 4] = bad_id
    with pytest.raises(InputError, match=r"input_ids must lie in 0..6"):
        token_logps(logits, ids)


def test_an_unknown_reduction(as_users_run):
    with pytest.raises(InputError, match="reduction must be 'sum' or 'mean', got 'max'"):
        sequence_logps(*zeros(), torch.tensor([1, 1]), torch.tensor([2, 2]), "max")


@pytest.mark.parametrize(("rows", "length"), [(1, 5), (2, 4)])
def test_logits_and_ids_of_different_shapes(rows, length, as_users_run):
    with pytest.raises(InputError, match=r"logits have shape \(2, 5, 7\) but input_ids"):
        token_logps(zeros()[0], zeros(rows, length)[1])


@pytest.mark.parametrize(
    ("starts", "ends", "message"),
    [
        (1, 1, "1 response spans for 2 rows of input_ids"),
        (3, 3, "3 response spans for 2 rows of input_ids"),
        (2, 1, r"ends has shape \(1,\) but starts has \(2,\)"),
    ],
)
def test_spans_for_another_number_of_rows(starts, ends, message, as_users_run):
    """One span for two rows would broadcast without a sound."""
    spans = torch.ones(starts, dtype=torch.long), torch.full((ends,), 2)
    with pytest.raises(InputError, match=message):
        sequence_logps(*zeros(), *spans)
