"""The playground's votes, steps and numbers once more in Python, for the tests that drive it."""

from __future__ import annotations

import pytest
import torch

from dpo_lab import boltzmann
from dpo_lab.tabular import TabularLoss, counted_preferences, descend
from dpo_lab.worlds import t8

_, REF, REWARDS = t8()
HOSTILE = [
    "#play?__proto__=1&constructor=2&toString=3",
    "#play?beta=<img src=x onerror=alert(1)>&loss=javascript:alert(1)",
    "#play?beta=NaN&learning_rate=Infinity&pairs=1e9&flip_rate=-1&seed=0x10&first=2.5",
    "#play?rewards=1,2&rewards=9,9,9&arrival=7&speed=1e3",
    "#play?" + "beta=1&" * 1000,
    "#play?%E0%A4%A=%&&&==&beta",
]
WORK = """
() => new Promise((done) => {
  const times = [];
  const real = window.requestAnimationFrame;
  window.requestAnimationFrame = (callback) => real((now) => {
    const begin = performance.now();
    callback(now);
    document.body.getBoundingClientRect(); // layout is part of the work
    times.push(performance.now() - begin);
    if (times.length === 120) { window.requestAnimationFrame = real; done(times); }
  });
  [...document.querySelectorAll("button")].find((each) => each.textContent === "Play").click();
})
"""
TILES = """
() => Object.fromEntries([...document.querySelectorAll("[data-number]")]
  .map((node) => [node.dataset.number, Number(node.dataset.value)]))
"""


def random_numbers(seed: int, count: int) -> list[float]:
    """mulberry32 in Python's whole numbers, cut to 32 bits."""
    numbers, state, low = [], seed, 2**32 - 1
    for _ in range(count):
        state = (state + 0x6D2B79F5) & low
        mixed = ((state ^ (state >> 15)) * (state | 1)) & low
        mixed ^= (mixed + (mixed ^ (mixed >> 7)) * (mixed | 61)) & low
        numbers.append((mixed ^ (mixed >> 14)) / 2**32)
    return numbers


def pairs_shown(state: dict) -> torch.Tensor:
    probs = torch.tensor(state["ref_probs"], dtype=torch.float64)
    half = torch.arange(8) >= 4
    weights = {
        "all": torch.ones(8, 8, dtype=torch.float64),
        "reference": probs[:, None] * probs,
        "first": (torch.arange(8) < state["first"]).double().expand(8, 8),
        "blocks": (half[:, None] == half).double(),
    }[state["coverage"]].triu(1)
    return weights / weights.sum()


def cast_votes(state: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Winners and losers, by the rules of votes.js written once more."""
    shown, rewards = pairs_shown(state), state["rewards"]
    firsts, seconds = shown.nonzero().unbind(-1)
    edges = shown[firsts, seconds].cumsum(0)
    numbers = torch.tensor(random_numbers(state["seed"], 3 * state["pairs"]), dtype=torch.float64)
    where, preference, flip = numbers.view(-1, 3).unbind(-1)
    drawn = torch.searchsorted(edges, where.contiguous(), right=True).clamp(max=len(edges) - 1)
    i, j = firsts[drawn], seconds[drawn]
    gaps = torch.tensor(rewards, dtype=torch.float64)
    wins = (preference < torch.sigmoid(gaps[i] - gaps[j])) ^ (flip < state["flip_rate"])
    return torch.where(wins, i, j), torch.where(wins, j, i)


def in_python(state: dict, steps: int) -> dict:
    """The numbers on the page after some steps with all votes in."""
    table = counted_preferences(*cast_votes(state), 8)
    loss = TabularLoss(state["loss"], REF, table, float(state["beta"]))
    rate, optimiser = float(state["learning_rate"]), state["optimiser"]
    path = descend(loss, REF, steps=steps, learning_rate=rate, optimiser=optimiser, record=[steps])
    policy, rewards = path.policy_logps[0], torch.tensor(state["rewards"], dtype=torch.float64)
    best = boltzmann.optimal_policy(REF, rewards, float(state["beta"]))
    return {
        "value": path.losses.item(),
        "reward": boltzmann.expected_reward(policy, rewards).item(),
        "kl": boltzmann.kl(policy, REF).item(),
        "gap": state["beta"] * boltzmann.kl(policy, best).item(),
    }


def assert_shows_python(page, steps: int) -> dict:
    state = page.state()
    shown, expected = page.page.evaluate(TILES), in_python(state, steps)
    for name, value in expected.items():
        assert shown[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
    assert page.page.locator(".dpo-place").text_content().startswith(f"step {steps} ·")
    return state


def press(page, name: str, times: int = 1) -> None:
    for _ in range(times):
        page.page.get_by_role("button", name=name, exact=True).press("Enter")
    page.drawn()
