"""Figures on the implicit reward: what it shares with the true one, and what a loss cannot see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from dpo_lab.plotting.style import COLORS

# Answers that were compared are blue to grey; the others must stand out from them and each other.
COMPARED_SHADES = ("#0b3c5d", "#3f7ea6", "#9dc3dd", "#c9c9c9")
OTHER_SHADES = tuple(COLORS[role] for role in ("highlight", "rejected", "reward", "chosen"))


def draw_implicit_against_true(
    ax: Axes,
    rewards: ArrayLike,
    implicit_rewards: ArrayLike,
    offsets: ArrayLike,
    prompts: Sequence[str],
    answers: Sequence[str],
) -> Axes:
    """Implicit against true rewards of two prompts, each on its line `true - offset`.

    rewards, implicit_rewards: (2, answers). offsets: (2,) beta log Z of each prompt. prompts: the
    label at each line's end. answers: for each prompt one letter an answer.
    """
    rewards, implicit_rewards = np.asarray(rewards), np.asarray(implicit_rewards)
    span = np.array([rewards.min() - 0.4, rewards.max() + 0.4])
    ax.plot(span, span, ":", color=COLORS["theory"], linewidth=1)
    ax.annotate("implicit = true", (0.7, 0.9), rotation=45, rotation_mode="anchor", va="bottom")
    for k, (role, marker, above) in enumerate([("policy", "o", False), ("rejected", "s", True)]):
        color, line = COLORS[role], span - float(offsets[k])
        ax.plot(span, line, color=color, linewidth=1.2)
        ax.plot(rewards[k], implicit_rewards[k], marker, color=color, markersize=6)
        for letter, x, y in zip(answers[k], rewards[k], implicit_rewards[k], strict=True):
            place = {"xytext": (-7, 5) if above else (4, -12), "ha": "center"}
            ax.annotate(letter, (x, y), textcoords="offset points", color=color, **place)
        ax.annotate(prompts[k], (span[1], line[1]), (5, 0), textcoords="offset points", color=color)
    ax.set(xlabel="true reward r (nats)", ylabel="implicit reward (nats)", aspect="equal")
    return ax


def draw_rewards_by_prompt(
    axes: Iterable[Axes],
    prompts: Sequence[str],
    true: Sequence[ArrayLike],
    implicit: Sequence[ArrayLike],
) -> list[Axes]:
    """One panel a prompt: answers as dots, and the line of slope one through their mean.

    true, implicit: for each prompt (answers,) rewards. The number in a panel is the line's
    offset, the mean of implicit minus true: what no comparison can tell.
    """
    drawn = []
    for ax, prompt, x, y in zip(axes, prompts, true, implicit, strict=True):
        x, y = np.asarray(x), np.asarray(y)
        offset = float((y - x).mean())
        span = np.array([x.min(), x.max()])
        ax.plot(x, y, "o", color=COLORS["policy"], markersize=3, alpha=0.5)
        ax.plot(span, span + offset, color=COLORS["rejected"], linewidth=1.4)
        ax.set(title=f"{prompt}: {offset:+.1f}", xlabel="true reward")
        drawn.append(ax)
    drawn[0].set(ylabel="implicit reward")
    return drawn


def draw_loss_equivalent_policies(
    ax: Axes,
    policies: Mapping[str, ArrayLike],
    answers: Sequence[str],
    compared: int,
    notes: Sequence[str],
) -> Axes:
    """Policies as stacked horizontal bars, one segment an answer, one note at each bar's end.

    policies: probabilities of all answers by label of the bar, drawn from the top. The first
    `compared` answers are those that the loss sees. A segment carries its answer's name where
    there is room for it.
    """
    series = [np.asarray(probs) for probs in policies.values()]
    shades = [*COMPARED_SHADES[:compared], *OTHER_SHADES]
    for row, (probs, note) in enumerate(zip(series, notes, strict=True)):
        lefts = np.concatenate([[0], np.cumsum(probs)[:-1]])
        for answer, left, width, shade in zip(answers, lefts, probs, shades, strict=True):
            ax.barh(row, width, left=left, color=shade, edgecolor="white", linewidth=0.8)
            if width > 0.04:
                dark = np.dot(mpl.colors.to_rgb(shade), (0.3, 0.6, 0.1)) < 0.5
                ink = "white" if dark else "black"
                ax.text(left + width / 2, row, answer, color=ink, ha="center", va="center")
        ax.text(1.02, row, note, va="center")
    ax.set_yticks(range(len(policies)), policies)
    ax.invert_yaxis()
    ax.grid(visible=False)
    ax.set(xlim=(0, 1), xlabel="probability")
    return ax
