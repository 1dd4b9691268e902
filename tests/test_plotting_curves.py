"""The curves of a run stand at the rows' steps, held-out values and standard errors included."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from dpo_lab.plotting.curves import draw_metric, draw_sampled, save_curves

ROWS = [
    {"step": 0, "eval_loss": 0.7, "gold/reward": 1.0, "gold/reward_error": 0.5},
    {"step": 1, "loss": 0.6},
    {"step": 2, "loss": 0.5},
    {"step": 2, "eval_loss": 0.4, "gold/reward": 3.0, "gold/reward_error": 0.25},
]


def test_training_is_a_line_and_held_out_rows_are_dots():
    ax = draw_metric(Figure().subplots(), ROWS, "loss", color="blue", label="loss")
    line, dots = ax.lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([1, 2], [0.6, 0.5])
    assert (list(dots.get_xdata()), list(dots.get_ydata())) == ([0, 2], [0.7, 0.4])
    assert dots.get_linestyle() == "None"


def test_bars_of_samples_are_two_standard_errors():
    ax = draw_sampled(Figure().subplots(), ROWS, "gold/reward", color="blue", label="gold")
    (container,) = ax.containers
    line, _, (bars,) = container.lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([0, 2], [1.0, 3.0])
    heights = [segment[:, 1].tolist() for segment in bars.get_segments()]
    np.testing.assert_allclose(heights, [[0.0, 2.0], [2.5, 3.5]])


def rows_with(**columns: float) -> list[dict[str, float]]:
    """Two steps of training and a held-out row, with these columns beside those of every run."""
    common = {"loss": 0.5, "rewards/chosen": -0.1, "rewards/rejected": -0.4} | columns
    return [
        {f"eval_{name}": value for name, value in common.items()} | {"step": 0},
        *({name: value * k for name, value in common.items()} | {"step": k} for k in (1, 2)),
    ]


@pytest.mark.parametrize(
    ("columns", "titles", "ranked", "side"),
    [
        (
            {"rewards/accuracies": 0.4, "logps/chosen": -5.0, "logps/rejected": -7.0},
            ["loss", "share of pairs ranked right", "reward", "log-probability of the answer"],
            [0.4, 0.8],
            [-5.0, -10.0],
        ),
        (
            {"rewards/margins": 0.3, "logratios/chosen": -1.0, "logratios/rejected": -2.0},
            ["loss", "mean reward of good minus bad answers", "implicit reward",
             "log-ratio to the reference"],
            [0.3, 0.6],
            [-1.0, -2.0],
        ),
    ],
    ids=["without a reference", "labelled answers"],
)  # fmt: skip
def test_a_run_of_another_kind_has_its_four_panels(
    tmp_path, monkeypatch, columns, titles, ranked, side
):
    drawn, savefig = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: drawn.append(self) or savefig(self, *a, **k)
    )
    save_curves(rows_with(**columns), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]
    (figure,) = drawn
    assert [ax.get_title() for ax in figure.axes] == titles
    _, ranking, rewards, ratios = figure.axes
    assert list(ranking.lines[0].get_ydata()) == ranked
    assert list(ratios.lines[0].get_ydata()) == side
    assert [len(ax.lines) for ax in figure.axes] == [2, 2, 4, 4]
    texts = [text.get_text() for ax in (rewards, ratios) for text in ax.get_legend().get_texts()]
    assert texts == ["chosen", "rejected"] * 2
