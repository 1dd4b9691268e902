"""Surfaces against closed forms, and weights that come back."""

from __future__ import annotations

import math

import pytest
import torch

from dpo_lab.errors import InputError
from dpo_lab.landscape import (
    pair_surface,
    pca_directions,
    random_directions,
    valley,
    weight_surface,
)

AXIS = torch.linspace(-4.0, 4.0, 41, dtype=torch.float64)
BETA = 0.5


def test_dpo_surface_is_the_closed_form_with_its_gradient() -> None:
    surface = pair_surface("dpo", AXIS, AXIS, BETA)
    margin = BETA * (AXIS[:, None] - AXIS[None, :])
    torch.testing.assert_close(surface.losses, torch.log1p(torch.exp(-margin)))
    weight = BETA / (1 + torch.exp(margin))
    torch.testing.assert_close(surface.grad_chosen, -weight)
    torch.testing.assert_close(surface.grad_rejected, weight)


def test_moving_both_log_ratios_together_changes_nothing() -> None:
    losses = pair_surface("dpo", AXIS, AXIS, BETA).losses
    for offset in (-10, 0, 7):
        diagonal = losses.diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))


@pytest.mark.parametrize("p", [0.3, 0.6, 0.8])
def test_the_valley_of_noisy_labels_is_the_line_of_the_population_optimum(p: float) -> None:
    found = valley(pair_surface("dpo", AXIS, AXIS, BETA, win_probability=p))
    expected = AXIS + math.log(p / (1 - p)) / BETA
    inside = ~torch.isnan(found)
    assert inside.sum() > 10
    torch.testing.assert_close(found[inside], expected[inside], rtol=0, atol=5e-3)


def test_certain_labels_have_no_valley() -> None:
    assert torch.isnan(valley(pair_surface("dpo", AXIS, AXIS, BETA))).all()


def test_a_penalty_on_the_chosen_answer_makes_the_surface_fall_without_end() -> None:
    """Adding c * log-ratio of the chosen answer: the loss falls as both go down together."""
    far = torch.linspace(-400.0, 0.0, 5, dtype=torch.float64)
    surface = pair_surface("dpo", far, 2 * far, BETA, penalty=lambda u: 0.1 * u)
    along = surface.losses.diagonal()
    assert torch.all(along[:-1] < along[1:])
    assert along[0] == pytest.approx(-40.0, abs=1e-6)


def test_bad_grids() -> None:
    with pytest.raises(InputError, match="win_probability"):
        pair_surface("dpo", AXIS, AXIS, BETA, win_probability=1.5)
    with pytest.raises(InputError, match="above 0"):
        pair_surface("dpo", AXIS, AXIS, BETA, ref_logps=(-1.0, -10.0))


def test_random_directions_have_the_norm_of_each_row_and_leave_vectors_alone() -> None:
    weights = {"matrix": torch.randn(5, 7) * torch.arange(1, 6)[:, None], "bias": torch.ones(5)}
    first, second = random_directions(weights, seed=3)
    for direction in (first, second):
        norms = direction["matrix"].norm(dim=1)
        torch.testing.assert_close(norms, weights["matrix"].norm(dim=1))
        assert not direction["bias"].any()
    assert not torch.equal(first["matrix"], second["matrix"])
    again, _ = random_directions(weights, seed=3)
    assert torch.equal(first["matrix"], again["matrix"])


def test_a_row_of_zeros_gets_no_direction() -> None:
    first, _ = random_directions({"matrix": torch.zeros(2, 3)})
    assert not first["matrix"].any()


def test_pca_finds_the_plane_of_the_trajectory() -> None:
    torch.manual_seed(0)
    plane = torch.linalg.qr(torch.randn(12, 2, dtype=torch.float64))[0].T
    end = torch.randn(12, dtype=torch.float64)
    steps = [end + c[0] * plane[0] + c[1] * plane[1] for c in torch.randn(6, 2).double()]
    trajectory = [{"a": w[:4].view(2, 2), "b": w[4:]} for w in (*steps, end)]
    found = torch.stack([torch.cat([d["a"].flatten(), d["b"]]) for d in pca_directions(trajectory)])
    torch.testing.assert_close(found @ found.T, torch.eye(2).double(), rtol=0, atol=1e-12)
    inside = found @ plane.T @ plane
    torch.testing.assert_close(inside, found, rtol=0, atol=1e-12)
    with pytest.raises(InputError, match="at least 3 points"):
        pca_directions(trajectory[:2])


def test_weight_surface_of_a_quadratic_by_hand_and_the_weights_come_back() -> None:
    weight = torch.nn.Parameter(torch.tensor([[1.0, 2.0]]))
    directions = ({"w": torch.tensor([[1.0, 0.0]])}, {"w": torch.tensor([[0.0, 2.0]])})
    axis = torch.tensor([-1.0, 0.0, 1.0])
    surface = weight_surface(
        {"w": weight}, lambda: weight.square().sum().item(), directions, axis, axis
    )
    expected = (1 + axis[:, None]) ** 2 + (2 + 2 * axis[None, :]) ** 2
    torch.testing.assert_close(surface.losses, expected.double())
    assert weight.tolist() == [[1.0, 2.0]]


def test_the_weights_come_back_when_the_loss_raises() -> None:
    weight = torch.nn.Parameter(torch.tensor([[1.0, 2.0]]))
    directions = ({"w": torch.ones(1, 2)}, {"w": torch.ones(1, 2)})

    def fail() -> float:
        raise RuntimeError("out of memory")

    axis = torch.tensor([1.0])
    with pytest.raises(RuntimeError):
        weight_surface({"w": weight}, fail, directions, axis, axis)
    assert weight.tolist() == [[1.0, 2.0]]
