"""Log-probabilities by tiles of the vocabulary: values, gradients, precision, memory."""

from __future__ import annotations

import pytest
import torch

from dpo_lab import tiled
from dpo_lab.errors import InputError
from dpo_lab.tiled import tiled_logps


def problem(dtype: torch.dtype = torch.float64, scale: float = 1.0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    hidden = scale * torch.randn(7, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(23, 5, generator=generator, dtype=torch.float64)
    ids = torch.tensor([0, 22, 3, 3, 9, 10, 11])  # both ends, one twice, both sides of a tile
    return hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), ids


def plain(hidden, weight, ids) -> torch.Tensor:
    return (hidden @ weight.T).log_softmax(-1).gather(1, ids[:, None]).squeeze(1)


@pytest.mark.parametrize("tile", [1, 10, 23, 4096])
@pytest.mark.parametrize("keep", [True, False])
def test_values_and_gradients_are_those_of_log_softmax(tile: int, keep: bool) -> None:
    hidden, weight, ids = problem(scale=30.0)  # logits of a hundred nats
    upstream = torch.linspace(-1, 2, 7, dtype=torch.float64)
    expected = plain(hidden, weight, ids)
    wanted = torch.autograd.grad(expected, (hidden, weight), upstream)
    got = tiled_logps(hidden, weight, ids, tile=tile, keep=keep)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    for gradient, right in zip(
        torch.autograd.grad(got, (hidden, weight), upstream), wanted, strict=True
    ):
        torch.testing.assert_close(gradient, right, rtol=1e-11, atol=1e-12)


def test_gradcheck_and_a_frozen_output_layer() -> None:
    hidden, weight, ids = problem()
    assert torch.autograd.gradcheck(lambda h, w: tiled_logps(h, w, ids, tile=8), (hidden, weight))
    frozen = weight.detach()
    (gradient,) = torch.autograd.grad(tiled_logps(hidden, frozen, ids, tile=8).sum(), hidden)
    right = torch.autograd.grad(plain(hidden, weight, ids).sum(), hidden)[0]
    torch.testing.assert_close(gradient, right)


def test_logits_of_a_hundred_thousand_stay_finite() -> None:
    hidden, weight, ids = problem(torch.float32, scale=3e4)
    value = tiled_logps(hidden, weight, ids, tile=8)
    assert torch.isfinite(value).all()
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(value.sum(), (hidden, weight)))
    torch.testing.assert_close(value, plain(hidden, weight, ids), rtol=1e-5, atol=0.1)


def test_under_autocast_sums_stay_in_float32_and_errors_have_no_sign() -> None:
    """bfloat16 products: log-probs within 0.05 nats, and no bias over 2000 tokens."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(2000, 64, generator=generator).requires_grad_()
    weight = (0.3 * torch.randn(500, 64, generator=generator)).requires_grad_()
    ids = torch.randint(500, (2000,), generator=generator)
    exact = plain(hidden.double(), weight.double(), ids)
    for keep in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            value = tiled_logps(hidden, weight, ids, tile=128, keep=keep)
        assert value.dtype == torch.float32
        error = value.double() - exact
        assert error.abs().max() < 0.05
        assert error.mean().abs() < 4 * error.std() / 2000**0.5
        gradients = torch.autograd.grad(value.sum(), (hidden, weight))
        right = torch.autograd.grad(exact.sum(), (hidden, weight), retain_graph=True)
        for gradient, true in zip(gradients, right, strict=True):
            assert gradient.dtype == torch.float32
            assert (gradient - true).norm() < 0.02 * true.norm()


def test_exponentials_are_held_only_while_they_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, ids = problem()
    saved = []

    def numbers_saved() -> int:
        saved.clear()
        with torch.autograd.graph.saved_tensors_hooks(saved.append, lambda _: None):
            tiled_logps(hidden, weight, ids, tile=8)
        return sum(tensor.numel() for tensor in saved)

    monkeypatch.setattr(tiled, "KEPT_BYTES", 7 * 23 * 8)
    held = numbers_saved()
    monkeypatch.setattr(tiled, "KEPT_BYTES", 7 * 23 * 8 - 1)
    assert held - numbers_saved() == 7 * 23


def test_bad_input() -> None:
    hidden, weight, ids = problem()
    with pytest.raises(InputError, match=r"ids must lie in 0\.\.22"):
        tiled_logps(hidden, weight, ids + 1)
    with pytest.raises(InputError, match="tile must be at least 1"):
        tiled_logps(hidden, weight, ids, tile=0)
