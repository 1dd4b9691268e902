"""Loss surfaces: over the two log-ratios of a pair, and around a point in weight space.

Both return plain tensors on a grid; `dpo_lab.plotting` draws them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from dpo_lab.checks import check_finite
from dpo_lab.errors import InputError
from dpo_lab.losses import PairLogps, compute_loss

Weights = Mapping[str, Tensor]
Grid = Float[Tensor, "chosen rejected"]


class PairSurface(NamedTuple):
    """A loss over (chosen, rejected) log-ratios, in nats, and its gradient.

    chosen: (chosen,) and rejected: (rejected,) are the axes. losses, grad_chosen, grad_rejected:
    (chosen, rejected). A margin loss does not change where both log-ratios move together: there
    grad_chosen = -grad_rejected, and (1, 1) is its null direction.
    """

    chosen: Float[Tensor, "chosen"]
    rejected: Float[Tensor, "rejected"]
    losses: Grid
    grad_chosen: Grid
    grad_rejected: Grid


def pair_surface(
    name: str,
    chosen: Float[Tensor, "chosen"],
    rejected: Float[Tensor, "rejected"],
    beta: float,
    *,
    win_probability: float = 1.0,
    ref_logps: tuple[float, float] | None = None,
    lengths: tuple[int, int] = (10, 10),
    penalty: Callable[[Tensor], Tensor] | None = None,
    **options: float,
) -> PairSurface:
    """The loss `name` of `LOSSES` on a grid of log-ratios.

    win_probability p: the first answer is labelled the winner with probability p, so the loss is
    p l(a, b) + (1 - p) l(b, a); 1 is one label order. ref_logps: the reference's log-probs of
    the two answers, which matter only to losses that look at more than log-ratios (default: as
    high as the grid allows). lengths: response tokens. penalty: added to the loss, a function of
    the first answer's log-ratios.

    Raises `InputError` for p outside [0, 1] and where the grid asks for probabilities above 1.
    """
    if not 0.0 <= win_probability <= 1.0:
        raise InputError(f"win_probability must lie in [0, 1], got {win_probability}")
    check_finite(chosen=chosen, rejected=rejected)
    first, second = torch.meshgrid(chosen.double(), rejected.double(), indexing="ij")
    first, second = (grid.flatten().requires_grad_() for grid in (first, second))
    if ref_logps is None:
        ref_logps = (-max(float(chosen.max()), 0.0), -max(float(rejected.max()), 0.0))
    refs = [torch.full_like(first, logp) for logp in ref_logps]
    tokens = [torch.full_like(first, n).long() for n in lengths]
    logps = PairLogps(refs[0] + first, refs[1] + second, *refs, *tokens)
    swapped = PairLogps(logps[1], logps[0], logps[3], logps[2], logps[5], logps[4])
    losses = win_probability * compute_loss(name, logps, beta, inputs=None, **options).losses
    if win_probability < 1.0:
        other = compute_loss(name, swapped, beta, inputs=None, **options).losses
        losses = losses + (1.0 - win_probability) * other
    if penalty is not None:
        losses = losses + penalty(first)
    gradients = torch.autograd.grad(losses.sum(), (first, second), allow_unused=True)
    shape = (len(chosen), len(rejected))
    sides = [torch.zeros(shape) if g is None else g.view(shape) for g in gradients]
    return PairSurface(chosen, rejected, losses.detach().view(shape), *sides)


def valley(surface: PairSurface) -> Float[Tensor, "rejected"]:
    """For each rejected log-ratio, the chosen log-ratio of least loss; NaN where it is at an edge.

    Between grid points the parabola through the three lowest values is used. A loss without a
    finite optimum has its least value at the edge of every grid, and so no valley.
    """
    lowest = surface.losses.argmin(0)
    columns = torch.arange(surface.losses.shape[1])
    inside = (lowest > 0) & (lowest < len(surface.chosen) - 1)
    middle = lowest.clamp(1, len(surface.chosen) - 2)
    below, at, above = (surface.losses[middle + step, columns] for step in (-1, 0, 1))
    spacing = surface.chosen[1] - surface.chosen[0]
    shift = 0.5 * (below - above) / (below - 2 * at + above) * spacing
    place = surface.chosen.double()[middle] + shift
    return torch.where(inside, place, torch.nan)


def random_directions(weights: Weights, seed: int = 0) -> tuple[Weights, Weights]:
    """Two random directions in weight space, filter-normalised (Li et al. 2018).

    Each row of a matrix gets the norm of the corresponding row of the weights, so that one unit
    means the same everywhere; vectors (biases, norms' scales) stay as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    first, second = (
        {name: _filter_normalised(weight, generator) for name, weight in weights.items()}
        for _ in range(2)
    )
    return first, second


def pca_directions(trajectory: Sequence[Weights]) -> tuple[Weights, Weights]:
    """The two directions in which a training trajectory moved most, each of norm 1.

    Principal components of (weights - last weights) over the trajectory (Li et al. 2018, sec. 7).
    Raises `InputError` for fewer than three points: two points span only a line.
    """
    if len(trajectory) < 3:
        raise InputError(f"trajectory needs at least 3 points, got {len(trajectory)}")
    last = trajectory[-1]
    moves = torch.stack([_flat(weights) - _flat(last) for weights in trajectory[:-1]])
    _, _, components = torch.linalg.svd(moves, full_matrices=False)
    return _like(last, components[0]), _like(last, components[1])


class WeightSurface(NamedTuple):
    """A loss on the plane weights + x * first + y * second: losses is (x, y)."""

    x: Float[Tensor, "x"]
    y: Float[Tensor, "y"]
    losses: Float[Tensor, "x y"]


def weight_surface(
    weights: Weights,
    evaluate: Callable[[], float],
    directions: tuple[Weights, Weights],
    x: Float[Tensor, "x"],
    y: Float[Tensor, "y"],
    *,
    progress: Callable[[Iterable], Iterable] = iter,
) -> WeightSurface:
    """Evaluate a loss on a grid around `weights`, which are changed in place and put back.

    weights: a model's own parameters (`dict(model.named_parameters())`). evaluate: the loss at
    the weights as they are; it is called once a grid point, and that is the whole cost.
    progress: wraps the iteration over grid points, for example `tqdm`.
    """
    first, second = directions
    points = [(i, j) for i in range(len(x)) for j in range(len(y))]
    start = {name: weight.detach().clone() for name, weight in weights.items()}
    losses = torch.zeros(len(x), len(y), dtype=torch.float64)
    try:
        with torch.no_grad():
            for i, j in progress(points):
                for name, weight in weights.items():
                    move = float(x[i]) * first[name] + float(y[j]) * second[name]
                    weight.copy_(start[name] + move)
                losses[i, j] = evaluate()
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(start[name])
    return WeightSurface(x, y, losses)


def _filter_normalised(weight: Tensor, generator: torch.Generator) -> Tensor:
    if weight.ndim < 2:
        return torch.zeros_like(weight)
    direction = torch.randn(weight.shape, generator=generator).to(weight)
    rows, norms = direction.flatten(1), weight.detach().flatten(1).norm(dim=1, keepdim=True)
    return (rows / rows.norm(dim=1, keepdim=True) * norms).view_as(weight)


def _flat(weights: Weights) -> Tensor:
    return torch.cat([weight.detach().flatten().double() for weight in weights.values()])


def _like(weights: Weights, flat: Tensor) -> Weights:
    pieces = flat.split([weight.numel() for weight in weights.values()])
    return {
        name: piece.view(weight.shape).to(weight)
        for (name, weight), piece in zip(weights.items(), pieces, strict=True)
    }
