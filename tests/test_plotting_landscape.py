"""The drawn surfaces have their axes the right way round."""

from __future__ import annotations

import matplotlib
import torch
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver

from dpo_lab.landscape import WeightSurface, pair_surface
from dpo_lab.plotting.landscape import draw_pair_surface, draw_weight_surface

matplotlib.use("Agg")
AXIS = torch.linspace(-3.0, 3.0, 31, dtype=torch.float64)


def test_arrows_point_to_more_chosen_and_less_rejected() -> None:
    ax = draw_pair_surface(Figure().subplots(), pair_surface("dpo", AXIS, AXIS, 1.0))
    (arrows,) = (child for child in ax.get_children() if isinstance(child, Quiver))
    assert (arrows.U > 0).all()
    assert (arrows.V < 0).all()
    steepest = arrows.U.argmax()
    assert arrows.X[steepest] == -3.0  # chosen fell, rejected rose: the most wrong corner
    assert arrows.Y[steepest] == 3.0


def test_contours_of_a_slope_along_the_first_direction_stand_upright() -> None:
    losses = AXIS[:, None].expand(31, 31).clone()
    ax = draw_weight_surface(Figure().subplots(), WeightSurface(AXIS, AXIS, losses))
    lines = [path.vertices for c in ax.collections for path in c.get_paths() if len(path.vertices)]
    upright = [v for v in lines if len(v) > 2 and abs(v[:, 0] - v[0, 0]).max() < 1e-9]
    assert len(upright) > 5
