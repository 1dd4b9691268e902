"""What losses need besides two sums: measured by hand beside the trainer, and kept on resume."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F
from training_fixtures import make_trainer

from dpo_lab.batching import EncodedPair, EncodedResponse, collate, pair_rows
from dpo_lab.errors import InputError
from dpo_lab.logprobs import answer_weights, response_table, sequence_kls, token_logps
from dpo_lab.models import load_policy, load_tokenizer
from dpo_lab.pairs import PreferencePair, UnpairedExample
from dpo_lab.sampling import sample_responses
from dpo_lab.scoring import (
    batch_logits,
    batch_logps,
    score_pairs,
    score_responses,
)
from dpo_lab.training.examples import Mismatches, attach_reference
from dpo_lab.training.mismatches import mismatched_pairs, mismatched_rows
from dpo_lab.training.objective import LossConfig
from dpo_lab.training.run_data import EncodedData, Part
from dpo_lab.training.sample_metrics import SampleMetrics


def test_inputs_of_token_losses_equal_a_loop_over_tokens(tiny_model, other_model, encoded) -> None:
    """KL over the vocabulary (TDPO), WPO's weight and the token table, position by position."""
    rows = pair_rows(encoded[:3])
    batch = collate(rows, pad_id=0)
    reference = load_policy(tiny_model).double()
    with torch.no_grad():
        logits, ref_logits = batch_logits(other_model, batch), batch_logits(reference, batch)
        spans = (batch.starts, batch.ends)
        kls = sequence_kls(ref_logits, logits, *spans)
        weights = answer_weights(logits, batch.input_ids, *spans)
        table = response_table(token_logps(logits, batch.input_ids), *spans)
        for index, row in enumerate(rows):
            ids = torch.tensor([row.input_ids])
            log_p, log_ref = (
                F.log_softmax(model(ids).logits[0], -1) for model in (other_model, reference)
            )
            places = range(row.prompt_length, len(row.input_ids))
            kl = sum((log_ref[t - 1].exp() * (log_ref[t - 1] - log_p[t - 1])).sum() for t in places)
            logps = [log_p[t - 1, row.input_ids[t]] for t in places]
            collisions = [log_p[t - 1].exp().square().sum().log() for t in places]
            weight = torch.exp((sum(logps) - sum(collisions)) / len(places))
            near = {"atol": 1e-5, "rtol": 0}  # Llama's norm computes in float32
            torch.testing.assert_close(kls[index], kl, **near)
            torch.testing.assert_close(weights[index], weight, **near)
            torch.testing.assert_close(table[index, : len(places)], torch.stack(logps), **near)
            assert not table[index, len(places) :].any()
    assert kls.min() > 0.01  # the two models differ


def row(prompt: list[int], response: list[int]) -> EncodedResponse:
    return EncodedResponse([*prompt, *response], len(prompt))


def test_mismatched_rows_pair_a_prompt_with_another_prompts_answer() -> None:
    prompts = [[1, 10], [1, 10], [1, 11], [1, 10], [1, 12, 13], [1, 11]]
    rows = [row(prompt, [20 + i, 2]) for i, prompt in enumerate(prompts)]
    owner = {20 + i: prompt for i, prompt in enumerate(prompts)}
    partners = set()
    for seed in range(20):
        mixed = mismatched_rows(rows, 64, seed)
        assert list(mixed) == list(mismatched_rows(rows, 64, seed))
        for prompt, other in zip(prompts, mixed, strict=True):
            assert other.input_ids[: other.prompt_length] == prompt
            answer = other.input_ids[other.prompt_length :]
            assert answer[1:] == [2]
            assert owner[answer[0]] != prompt
        partners.add(tuple(other.input_ids[-2] for other in mixed))
    assert len(partners) > 5  # the order is drawn
    with pytest.raises(InputError, match="two different prompts"):
        mismatched_rows(rows[:2], 64, 0)


def test_a_mismatched_prompt_is_cut_behind_its_first_token() -> None:
    rows = [row([1, 10, 11, 12, 13], [20, 2]), row([1, 14], [21, 22, 23, 2])]
    mixed = mismatched_rows(rows, 7, 0)
    assert mixed[0] == EncodedResponse([1, 12, 13, 21, 22, 23, 2], 3)
    assert mixed[1] == EncodedResponse([1, 14, 20, 2], 2)


def test_ktos_reference_point_is_the_mean_over_mismatched_rows(
    tiny_model, other_model, encoded, tmp_path
) -> None:
    model = load_policy(tiny_model)
    pairs = encoded[:4]
    others = mismatched_pairs(pairs, 64, seed=3)
    ref = score_responses(model, pair_rows(others), 0, progress=False)
    examples = attach_reference(
        pairs, score_pairs(model, pairs, 0, progress=False), None, Mismatches(others, ref)
    )
    trainer = make_trainer(tiny_model, examples, tmp_path, LossConfig({"kto": 1.0}))
    trainer.model = other_model.float()
    inputs = trainer.data_collator(examples)
    logps, extra = trainer.batch_logps(trainer.model, inputs)
    with torch.no_grad():
        moved = batch_logps(trainer.model, collate(pair_rows(others), 0))
    torch.testing.assert_close(extra["mismatched_logratios"], moved - ref)
    z0 = (moved - ref).mean()
    assert not extra["mismatched_logratios"].requires_grad
    by_hand = torch.sigmoid(-0.1 * (logps.chosen_logratios - z0.clamp(min=0)))
    by_hand = by_hand + torch.sigmoid(0.1 * (logps.rejected_logratios - z0.clamp(min=0)))
    torch.testing.assert_close(trainer.evaluate_loss(logps, extra)[1].losses, by_hand / 2)


@pytest.mark.parametrize(
    "weights", [{"bco_pair": 1.0}, {"beta_dpo": 1.0}, {"dpo": 1.0, "bco_pair": 0.5}]
)
def test_what_a_loss_remembers_survives_a_resume(weights, tiny_model, encoded, tmp_path) -> None:
    examples = attach_reference(encoded, score_pairs(load_policy(tiny_model), encoded, 0))
    losses, states = {}, {}
    for name in ("whole", "resumed"):
        trainer = make_trainer(
            tiny_model,
            examples,
            tmp_path / "run",
            LossConfig(weights, beta=0.5),
            save_strategy="steps",
            save_steps=3,
        )
        checkpoint = str(tmp_path / "run" / "checkpoint-3") if name == "resumed" else None
        trainer.train(resume_from_checkpoint=checkpoint)
        history = trainer.state.log_history
        losses[name] = {row["step"]: row["loss"] for row in history if "loss" in row}
        states[name] = trainer.objective.state_dict()
    assert losses["whole"] == losses["resumed"]
    assert states["whole"] == states["resumed"]
    moved = [value for part in states["whole"].values() for value in part.values()]
    assert all(abs(value) > 1e-6 for value in moved)


def test_a_running_shift_is_the_mean_reward_of_all_batches(tiny_model, encoded, tmp_path) -> None:
    examples = attach_reference(encoded, score_pairs(load_policy(tiny_model), encoded, 0))
    losses = LossConfig({"bco_pair": 1.0}, beta=0.5)
    trainer = make_trainer(tiny_model, examples, tmp_path, losses)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    means = [(row["rewards/chosen"] + row["rewards/rejected"]) / 2 for row in rows]
    shift = trainer.objective.shift
    assert shift.count == 2 * 4 * 6
    assert shift.total / shift.count == pytest.approx(sum(means) / 6, abs=1e-6)


def test_the_shift_reaches_the_loss_and_only_training_moves_it(tiny_model, encoded, tmp_path):
    """The batch's rewards enter before its own loss; an evaluation changes nothing."""
    examples = attach_reference(encoded, score_pairs(load_policy(tiny_model), encoded, 0))
    shifted = [e._replace(ref_chosen_logps=e.ref_chosen_logps - 4.0) for e in examples[:4]]
    for name, state in (("bco_pair", "shift"), ("beta_dpo", "margin")):
        trainer = make_trainer(tiny_model, examples, tmp_path, LossConfig({name: 1.0}, beta=0.5))
        inputs = trainer.data_collator(shifted)
        with torch.no_grad():
            logps, extra = trainer.batch_logps(trainer.model, inputs)
            before = trainer.objective.state_dict()
            kept, _ = trainer.evaluate_loss(logps, extra, training=False)
            assert trainer.objective.state_dict() == before
            assert len(kept.policy_chosen) == 4
            kept, output = trainer.evaluate_loss(logps, extra, training=True)
        assert trainer.objective.state_dict() != before
        if state == "shift":
            # rewards .5 * 4 of the chosen, 0 of the rejected: their mean is 1
            by_hand = -F.logsigmoid(torch.tensor(2.0 - 1.0)) - F.logsigmoid(torch.tensor(1.0 - 0.0))
            torch.testing.assert_close(output.losses, by_hand.expand(4), atol=1e-4, rtol=0)
        else:
            # M0 = .1 * 4 after one batch; beta = .5 (1 + .6 (4 - .4)) on every pair
            by_hand = -F.logsigmoid(torch.tensor(0.5 * (1 + 0.6 * 3.6) * 4))
            torch.testing.assert_close(output.losses.mean(), by_hand, atol=1e-4, rtol=0)


def test_ld_dpo_with_full_weight_trains_as_dpo(tiny_model, encoded, tmp_path) -> None:
    examples = attach_reference(encoded, score_pairs(load_policy(tiny_model), encoded, 0))
    logged = []
    for losses in (
        LossConfig({"dpo": 1.0}, 0.5),
        LossConfig({"ld_dpo": 1.0}, 0.5, {"ld_alpha": 1.0}),
    ):
        trainer = make_trainer(tiny_model, examples, tmp_path, losses)
        trainer.train()
        logged.append([row["loss"] for row in trainer.state.log_history if "loss" in row])
    assert logged[0] == pytest.approx(logged[1], abs=1e-5)
    assert logged[0][-1] != pytest.approx(logged[0][0], abs=1e-3)


def test_grad_weight_is_the_force_on_the_chosen_answer(tiny_model, encoded, tmp_path) -> None:
    """beta sigmoid(-m) for DPO; the mean of a logged row is taken over its pairs."""
    examples = attach_reference(encoded[:4], score_pairs(load_policy(tiny_model), encoded[:4], 0))
    losses = LossConfig({"dpo": 1.0}, 0.5)
    trainer = make_trainer(tiny_model, examples, tmp_path, losses, max_steps=3)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert rows[0]["grad_weight"] == pytest.approx(0.25, abs=1e-6)
    for row in rows[1:]:  # 4 pairs a step; sigmoid is nearly straight over so small margins
        force = 0.5 * torch.sigmoid(torch.tensor(-row["rewards/margins"])).item()
        assert row["grad_weight"] == pytest.approx(force, abs=1e-3)
    assert rows[-1]["grad_weight"] < 0.249


def test_samples_of_the_policy_are_measured_at_each_evaluation(
    tiny_model, other_model, encoded, tmp_path
) -> None:
    """0 where policy and reference are equal; else the mean log-ratio of the policy's answers."""
    tokenizer, reference = load_tokenizer(tiny_model), load_policy(tiny_model)
    prompts = ["the soup", "the film", "the park", "the soup"]
    recorded = []
    measure = SampleMetrics(
        reference,
        tokenizer,
        prompts,
        max_new_tokens=6,
        gold=lambda prompt, text: float(len(prompt)),
        record=recorded.extend,
    )
    same = measure(load_policy(tiny_model))
    assert (same["kl/policy"], same["kl/policy_error"]) == pytest.approx((0.0, 0.0), abs=1e-6)
    assert same["gold/reward"] == pytest.approx(8.0)
    other = copy.deepcopy(other_model).float()
    moved = measure(other, 7)
    drawn = sample_responses(other, tokenizer, prompts, max_new_tokens=6, progress=False)
    ratios = torch.stack(
        [score_responses(m, drawn.encoded, 0, progress=False) for m in (other, reference)]
    )
    rows = [row for row in recorded if row["step"] == 7]
    assert [row["text"] for row in rows] == drawn.texts
    assert [row["logratio"] for row in rows] == pytest.approx((ratios[0] - ratios[1]).tolist())
    assert [row["gold"] for row in rows] == [8.0, 8.0, 8.0, 8.0]
    assert [row["prompt"] for row in rows] == prompts
    assert moved["kl/policy"] == pytest.approx((ratios[0] - ratios[1]).mean().item(), abs=1e-4)
    assert moved["kl/policy"] > 0.05

    examples = attach_reference(encoded, score_pairs(reference, encoded, 0))
    trainer = make_trainer(tiny_model, examples, tmp_path, LossConfig({"dpo": 1.0}, 0.5))
    trainer.sample_metrics = measure
    row = trainer.evaluate(examples[:8])
    logged = trainer.state.log_history[-1]
    assert logged["eval_loss"] == row["eval_loss"]
    assert logged["kl/policy"] == pytest.approx(0.0, abs=1e-6)


def test_a_model_made_here_learns_good_answers_only() -> None:
    good, bad, other = (EncodedResponse([1, 5, last], 2) for last in (6, 7, 8))
    labelled = [UnpairedExample("p", "a", True), UnpairedExample("p", "b", False)]
    answers = Part([*labelled, labelled[0]], [good, bad, other])
    assert list(EncodedData(answers, answers, {}).good_answers) == [good, other]
    pairs = Part([PreferencePair("p", "a", "b")], [EncodedPair(good, bad)])
    assert list(EncodedData(pairs, pairs, {}).good_answers) == [good]
