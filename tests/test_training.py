"""The trainer against a loop written out by hand, and the checks that a run makes of itself."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainingArguments

from dpo_lab.batching import padding_id, pair_rows
from dpo_lab.errors import InputError
from dpo_lab.evaluation import mean_pair_loss
from dpo_lab.landscape import random_directions, weight_surface
from dpo_lab.models import load_policy, load_tokenizer, model_hash
from dpo_lab.scoring import ScoredPairs, score_pairs, score_responses
from dpo_lab.training.checkpoints import COMPLETE, last_complete_checkpoint
from dpo_lab.training.examples import PreferenceExample, attach_reference
from dpo_lab.training.objective import LossConfig
from dpo_lab.training.preference import PreferenceTrainer
from dpo_lab.training.reference import cache_key, reference_logps

BETA, RATE = 0.3, 1e-3

pytestmark = pytest.mark.usefixtures("unrendered")


@pytest.fixture(scope="module")
def examples(tiny_model: Path, encoded) -> list[PreferenceExample]:
    return attach_reference(encoded, score_pairs(load_policy(tiny_model), encoded, 0, batch_size=7))


def make_trainer(
    model: torch.nn.Module, examples: list[PreferenceExample], folder: Path, **arguments
) -> PreferenceTrainer:
    settings = {
        "per_device_train_batch_size": 8,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "weight_decay": 0.0,
        "max_steps": 4,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "train_sampling_strategy": "sequential",
    }
    args = TrainingArguments(output_dir=str(folder), **(settings | arguments))
    losses = LossConfig({"dpo": 1.0}, BETA)
    return PreferenceTrainer(model, args, losses, pad_id=0, train_dataset=examples)


def answer_logp(model: torch.nn.Module, response) -> torch.Tensor:
    """One answer, unpadded, token by token: nothing shared with the library."""
    ids = torch.tensor([response.input_ids])
    logp = F.log_softmax(model(ids).logits[0].double(), -1)
    return sum(
        logp[t - 1, response.input_ids[t]]
        for t in range(response.prompt_length, len(response.input_ids))
    )


def loss_by_hand(model: torch.nn.Module, examples: list[PreferenceExample]) -> torch.Tensor:
    losses = []
    for pair, ref_chosen, ref_rejected, *_ in examples:
        chosen = answer_logp(model, pair.chosen) - ref_chosen
        rejected = answer_logp(model, pair.rejected) - ref_rejected
        losses.append(torch.log1p(torch.exp(-BETA * (chosen - rejected))))
    return torch.stack(losses).mean()


def test_scores_equal_a_loop_over_single_answers(tiny_model: Path, encoded) -> None:
    model = load_policy(tiny_model)
    scored = score_pairs(model, encoded[:20], padding_id(load_tokenizer(tiny_model)), batch_size=6)
    with torch.no_grad():
        for index, pair in enumerate(encoded[:20]):
            chosen, rejected = (answer_logp(model, side).item() for side in pair)
            assert scored.chosen[index].item() == pytest.approx(chosen, abs=1e-4)
            assert scored.rejected[index].item() == pytest.approx(rejected, abs=1e-4)


def test_trainer_equals_the_loop_written_by_hand(
    tiny_model: Path,
    examples: list[PreferenceExample],
    tmp_path: Path,
) -> None:
    trainer = make_trainer(load_policy(tiny_model), examples, tmp_path)
    trainer.train()
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]

    model = load_policy(tiny_model)
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.0)
    by_hand = []
    for step in range(4):
        loss = loss_by_hand(model, examples[8 * step : 8 * step + 8])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        by_hand.append(loss.item())
    assert by_hand[0] == pytest.approx(math.log(2), abs=1e-6)
    assert by_hand[-1] != pytest.approx(by_hand[0], abs=1e-3)  # something was learned
    assert logged == pytest.approx(by_hand, abs=2e-5)


def test_one_batch_of_8_equals_4_micro_batches_of_2(
    tiny_model: Path,
    examples: list[PreferenceExample],
    tmp_path: Path,
) -> None:
    weights, losses = [], []
    for size, accumulation in ((8, 1), (2, 4)):
        trainer = make_trainer(
            load_policy(tiny_model),
            examples,
            tmp_path,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
            optim="sgd",
            max_steps=3,
        )
        trainer.train()
        weights.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
        losses.append([row["loss"] for row in trainer.state.log_history if "loss" in row])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-6)


def test_logged_metrics_are_means_over_all_micro_batches(
    tiny_model: Path,
    examples: list[PreferenceExample],
    tmp_path: Path,
) -> None:
    """A rate of 0 keeps the policy at the reference, so every mean can be said beforehand."""
    trainer = make_trainer(
        load_policy(tiny_model), examples, tmp_path, learning_rate=0.0, max_steps=8, logging_steps=8
    )
    trainer.train()
    row = next(row for row in trainer.state.log_history if "loss" in row)
    ref = [e.ref_chosen_logps for e in examples]
    lengths = [len(e.pair.chosen.input_ids) - e.pair.chosen.prompt_length for e in examples]
    assert row["logps/chosen"] == pytest.approx(sum(ref) / len(ref), abs=1e-3)
    assert row["logps_ref/chosen"] == pytest.approx(sum(ref) / len(ref), abs=1e-4)
    assert row["lengths/chosen"] == pytest.approx(sum(lengths) / len(lengths))
    assert row["logratios/rejected"] == pytest.approx(0, abs=1e-4)
    assert row["rewards/margins"] == pytest.approx(0, abs=1e-4)


def test_the_weight_surface_of_a_model_is_its_loss_at_the_centre(
    tiny_model: Path, encoded, examples: list[PreferenceExample], tmp_path: Path
) -> None:
    """Around a trained model: the centre is the trainer's own evaluation, and nothing is moved."""
    trainer = make_trainer(load_policy(tiny_model), examples, tmp_path)
    trainer.train()
    expected = trainer.evaluate(examples[:20])["eval_loss"]
    model = trainer.model
    reference = ScoredPairs(
        torch.tensor([e.ref_chosen_logps for e in examples[:20]]),
        torch.tensor([e.ref_rejected_logps for e in examples[:20]]),
    )
    weights = dict(model.named_parameters())
    before = model_hash(model)
    axis = torch.tensor([-0.5, 0.0, 0.5])
    surface = weight_surface(
        weights,
        lambda: mean_pair_loss(model, encoded[:20], reference, 0, beta=BETA),
        random_directions(weights, seed=1),
        axis,
        axis,
    )
    assert surface.losses[1, 1].item() == pytest.approx(expected, abs=1e-5)
    assert model_hash(model) == before
    around = surface.losses.flatten()[[0, 1, 2, 3, 5, 6, 7, 8]]
    assert (around - surface.losses[1, 1]).abs().min() > 1e-4


def test_step_zero_check_passes_on_the_reference_and_stops_otherwise(
    tiny_model: Path,
    examples: list[PreferenceExample],
    tmp_path: Path,
) -> None:
    assert make_trainer(load_policy(tiny_model), examples, tmp_path).check_step_zero() == (
        pytest.approx(math.log(2), abs=1e-5)
    )
    off = [e._replace(ref_chosen_logps=e.ref_chosen_logps - 1.0) for e in examples]
    with pytest.raises(InputError, match="step 0"):
        make_trainer(load_policy(tiny_model), off, tmp_path).check_step_zero()


def test_reference_cache_is_used_and_keyed_by_model_and_tokens(
    tiny_model: Path,
    encoded,
    cache: Path,
) -> None:
    model = load_policy(tiny_model)
    rows = pair_rows(encoded[:5])
    first = reference_logps(model, rows, lambda: score_responses(model, rows, 0, progress=False))
    (file,) = cache.iterdir()
    from safetensors.torch import save_file

    save_file({"logps": first + 1}, file)
    again = reference_logps(model, rows, lambda: score_responses(model, rows, 0, progress=False))
    assert torch.equal(again, first + 1)  # it was read, not computed

    other_span = [row._replace(prompt_length=row.prompt_length + 1) for row in rows]
    keys = {cache_key(model, some) for some in (rows, rows[:4], other_span)}
    with torch.no_grad():
        next(model.parameters()).add_(1e-3)
    keys.add(cache_key(model, rows))
    assert len(keys) == 4

    file.write_bytes(file.read_bytes()[:40])  # a torn file is computed again
    model = load_policy(tiny_model)
    repaired = reference_logps(model, rows, lambda: score_responses(model, rows, 0, progress=False))
    assert torch.equal(repaired, first)


def test_only_finished_checkpoints_are_resumed_from(tmp_path: Path) -> None:
    """The newest is known by its step, not by its name; a torn one is out of the way."""
    for step, finished in ((9, True), (10, True), (11, False)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model.safetensors").write_text("weights")
        if finished:
            (folder / COMPLETE).touch()
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
    assert not (tmp_path / "checkpoint-11").exists()
    assert last_complete_checkpoint(tmp_path / "nowhere") is None


def test_a_whole_run_leaves_what_it_promises(
    tiny_model: Path,
    pair_file: Path,
    tmp_path: Path,
    cache: Path,
) -> None:
    from dpo_lab.training.config import TrainConfig
    from dpo_lab.training.recipe import train

    before = model_hash(load_policy(tiny_model))
    run = tmp_path / "run"
    said: list[str] = []
    evaluation = train(
        TrainConfig(
            pairs=str(pair_file),
            model=str(tiny_model),
            output_dir=str(run),
            learning_rate=1e-3,
            logging_steps=2,
            eval_steps=4,
            save_steps=4,
            eval_fraction=0.25,
        ),
        said.append,
    )
    assert model_hash(load_policy(tiny_model)) == before
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "complete"
    assert record["reference_sha256"] == before != record["model_sha256"]
    policy = AutoModelForCausalLM.from_pretrained(run / "model")
    AutoTokenizer.from_pretrained(run / "model")
    assert model_hash(policy) == record["model_sha256"]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    train_rows = [row for row in rows if "loss" in row]
    assert train_rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)
    for name in ("rewards/margins", "logps_ref/rejected", "lengths/chosen", "logratios/chosen"):
        assert name in train_rows[-1]
    held_out = [row for row in rows if "eval_loss" in row]
    assert len({row["step"] for row in held_out}) == len(held_out), "a step was evaluated twice"
    last = held_out[-1]
    assert last["eval_logratios/chosen"] == pytest.approx(evaluation.logratio_chosen, abs=1e-4)
    assert evaluation.table() in said[-1]


def test_a_reference_that_is_not_the_start_stops_the_run(
    tiny_model: Path,
    pair_file: Path,
    tmp_path: Path,
    cache: Path,
) -> None:
    from dpo_lab.training.config import TrainConfig
    from dpo_lab.training.recipe import train

    other = load_policy(tiny_model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    other.save_pretrained(tmp_path / "other")
    load_tokenizer(tiny_model).save_pretrained(tmp_path / "other")
    config = TrainConfig(
        pairs=str(pair_file),
        model=str(tiny_model),
        reference=str(tmp_path / "other"),
        output_dir=str(tmp_path / "run"),
    )
    with pytest.raises(InputError, match="the policy is not the reference"):
        train(config, lambda text: None)
