"""A real transformer on a world whose every answer is listed: sums that must be exact."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from dpo_lab import boltzmann
from dpo_lab.boltzmann import expected_reward, implicit_reward, kl, log_partition, optimal_policy
from dpo_lab.bradley_terry import win_matrix
from dpo_lab.errors import InputError
from dpo_lab.models import SmallModelConfig
from dpo_lab.population import population_dpo_loss, uniform_pairs
from dpo_lab.sequences import answer_logps, sequence_model, sequence_world

BETA = 0.5
SIZE = SmallModelConfig(32, 2, 2, max_position_embeddings=16)
WORLD = sequence_world()
ROUNDING = 1e-5  # Llama's norm computes in float32, whatever the model's dtype


def test_the_world_by_hand() -> None:
    world = sequence_world(letters=3, longest=2, prompts=1)
    assert world.answers == (
        "",
        "a",
        "b",
        "c",
        "aa",
        "ab",
        "ac",
        "ba",
        "bb",
        "bc",
        "ca",
        "cb",
        "cc",
    )
    # a, b, c are worth -1, 0, 1; repeated a fifth; a beginning like the prompt's 0.8 more
    worth = dict(zip(world.answers, world.rewards[0].tolist(), strict=True))
    assert worth["aa"] == pytest.approx(-1 - 0.2 + 0.8)
    assert worth["cc"] == pytest.approx(1.2)
    assert worth["ac"] == pytest.approx(-1 + 1 + 0.8)
    assert worth[""] == 0
    assert world.encode("a", "b").input_ids == [3, 0, 1, 3]
    assert world.encode("a", "bc").input_ids == [3, 0, 1, 2]  # the longest needs no end
    for sizes in ({"letters": 1}, {"prompts": 4}, {"longest": 0}, {"letters": 15, "longest": 5}):
        with pytest.raises(InputError):
            sequence_world(**sizes)


def test_the_listed_answers_are_all_there_are() -> None:
    """Probabilities of all answers add up to 1, and equal a walk through the model by hand."""
    model = sequence_model(WORLD, SIZE, seed=2)
    with torch.no_grad():
        logps = answer_logps(model, WORLD)
        assert torch.allclose(logps.logsumexp(-1), torch.zeros(2).double(), atol=ROUNDING)
        ids = torch.tensor([[3, 1, 2, 0, 3]])  # prompt b, answer "ca", end
        steps = F.log_softmax(model(ids).logits[0], -1)
        by_hand = steps[1, 2] + steps[2, 0] + steps[3, 3]
    assert torch.allclose(logps[1, WORLD.answers.index("ca")], by_hand, atol=ROUNDING)


@pytest.fixture(scope="module")
def reference() -> torch.Tensor:
    with torch.no_grad():
        return answer_logps(sequence_model(WORLD, SIZE), WORLD)


def dpo_loss(policy: torch.Tensor, reference: torch.Tensor, pair_probs: torch.Tensor):
    """The population loss, averaged over prompts."""
    rows = zip(policy.log_softmax(-1), reference, WORLD.rewards, strict=True)
    losses = [population_dpo_loss(p, r, pair_probs, win_matrix(true), BETA) for p, r, true in rows]
    return torch.stack(losses).mean()


def minimise(loss_of, steps: int, *, rate: float = 3e-3, only: str = "") -> torch.Tensor:
    """Full-batch Adam on a loss of a transformer's policy; the policy it ends with.

    only: train the parameters whose name ends so, which restricts the class.
    """
    model = sequence_model(WORLD, SIZE)
    trained = [weight for name, weight in model.named_parameters() if name.endswith(only)]
    optimiser = torch.optim.Adam(trained, lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        loss = loss_of(answer_logps(model, WORLD))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        return answer_logps(model, WORLD)


def train_on(pair_probs: torch.Tensor, reference: torch.Tensor, steps: int) -> torch.Tensor:
    """Population DPO with all weights."""
    return minimise(lambda policy: dpo_loss(policy, reference, pair_probs), steps)


def likely_pairs(reference: torch.Tensor) -> torch.Tensor:
    """Both answers drawn from the reference's mean over prompts."""
    frequent = reference.mean(0).exp()
    drawn = torch.outer(frequent, frequent).triu(1)
    return drawn / drawn.sum()


@pytest.fixture(scope="module")
def trained(reference: torch.Tensor) -> torch.Tensor:
    return train_on(uniform_pairs(len(WORLD.answers)), reference, 600)


@pytest.mark.slow
def test_population_dpo_lands_on_the_closed_form(trained, reference) -> None:
    best = optimal_policy(reference, WORLD.rewards, BETA)
    assert kl(reference, best).min() > 0.3  # there was a way to go
    assert kl(trained, best).max() < 1e-4


@pytest.mark.slow
def test_implicit_rewards_are_the_true_ones_up_to_a_constant_of_the_prompt(
    trained, reference
) -> None:
    """E1: r_hat - r = -beta log Z(x), another number for each prompt."""
    offsets = implicit_reward(trained, reference, BETA) - WORLD.rewards
    expected = -BETA * log_partition(reference, WORLD.rewards, BETA)
    likely = trained > math.log(1e-3)
    for row, constant, known in zip(offsets, expected, likely, strict=True):
        assert (row[known] - constant).abs().max() < 0.02
    assert (expected[0] - expected[1]).abs() > 0.01


@pytest.mark.slow
def test_the_value_reached_is_the_best_one_whatever_pairs_were_drawn(trained, reference) -> None:
    """E5: J = beta log Z - beta KL(pi || pi*), for uniform pairs and for pairs of likely words."""
    other = train_on(likely_pairs(reference), reference, 300)
    best = optimal_policy(reference, WORLD.rewards, BETA)
    value = BETA * log_partition(reference, WORLD.rewards, BETA)
    for policy in (trained, other):
        reached = boltzmann.objective(policy, reference, WORLD.rewards, BETA)
        assert torch.allclose(reached, value - BETA * kl(policy, best), atol=ROUNDING)
        assert (value - reached).max() < 1e-3
    assert (
        expected_reward(trained, WORLD.rewards) > expected_reward(reference, WORLD.rewards)
    ).all()


@pytest.mark.slow
def test_in_a_restricted_class_dpo_is_not_rlhf_and_depends_on_the_pairs(reference) -> None:
    """E5b: only the last norm's 32 gains are trained, so pi* is out of reach."""

    def value(policy: torch.Tensor) -> torch.Tensor:
        return boltzmann.objective(policy.log_softmax(-1), reference, WORLD.rewards, BETA).mean()

    pairs = {"uniform": uniform_pairs(len(WORLD.answers)), "likely": likely_pairs(reference)}
    restricted = {"rate": 1e-2, "only": "model.norm.weight"}
    ends = {
        name: minimise(lambda p, q=probs: dpo_loss(p, reference, q), 150, **restricted)
        for name, probs in pairs.items()
    }
    rlhf = minimise(lambda policy: -value(policy), 150, **restricted)
    # Each is the better one by its own objective: different optima, not one missed by the steps.
    for other in (ends["likely"], rlhf):
        uniform = pairs["uniform"]
        assert dpo_loss(ends["uniform"], reference, uniform) < dpo_loss(other, reference, uniform)
        assert value(ends["uniform"]) < value(other) - 5e-3
    best = BETA * log_partition(reference, WORLD.rewards, BETA).mean()
    assert value(rlhf) < best - 0.3


def test_a_chosen_answer_falls_where_the_gradients_say_so() -> None:
    """E17: one small step moves log pi(chosen) by k <g_w, g_w - g_l>, up or down."""
    model = sequence_model(WORLD, SIZE, seed=1)
    parameters = list(model.parameters())
    logps = answer_logps(model, WORLD)[0]
    gradients = [
        torch.cat([g.flatten() for g in torch.autograd.grad(logp, parameters, retain_graph=True)])
        for logp in logps
    ]
    g = torch.stack(gradients)
    inner = g @ g.T
    change = inner.diagonal()[:, None] - inner  # <g_w, g_w - g_l> for chosen i, rejected j
    falling = int(change.flatten().argmin())
    rising = int(change.flatten().argmax())
    assert change.flatten()[falling] < 0 < change.flatten()[rising]
    for place in (falling, rising):
        won, lost = divmod(place, len(WORLD.answers))
        k = 1e-5  # learning rate * beta * sigma(-m)
        with torch.no_grad():
            step = k * (g[won] - g[lost])
            for parameter, piece in zip(
                parameters, step.split([p.numel() for p in parameters]), strict=True
            ):
                parameter.add_(piece.view_as(parameter))
            moved = answer_logps(model, WORLD)[0] - logps
            for parameter, piece in zip(
                parameters, step.split([p.numel() for p in parameters]), strict=True
            ):
                parameter.sub_(piece.view_as(parameter))
        expected = k * change.flatten()[place]
        assert moved[won].item() == pytest.approx(expected.item(), rel=3e-2)
        assert moved[won] > moved[lost]  # the margin rises either way
