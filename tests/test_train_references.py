"""The reference as an adapter switched off, and as a model that follows the policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import TrainingArguments

from dpo_lab.adapters import add_adapter, reference_mode
from dpo_lab.batching import collate, pair_rows
from dpo_lab.cli import main
from dpo_lab.errors import InputError
from dpo_lab.models import (
    SmallModelConfig,
    build_model,
    freeze_reference,
    load_policy,
    load_tokenizer,
    model_hash,
    train_tokenizer,
)
from dpo_lab.scoring import batch_logps, score_pairs
from dpo_lab.training.examples import attach_reference
from dpo_lab.training.moving_reference import MovingReference
from dpo_lab.training.objective import LossConfig
from dpo_lab.training.preference import PreferenceTrainer

SHORT = ["--max_steps", "4", "--learning_rate", "1e-2", "--max_length", "64"]
SHORT += ["--logging_steps", "1", "--per_device_train_batch_size", "4", "--save_steps", "2"]

pytestmark = pytest.mark.usefixtures("unrendered")


def trainer_of(policy, examples, folder, losses, **more) -> PreferenceTrainer:
    settings = {"per_device_train_batch_size": 4, "learning_rate": 1e-2, "max_steps": 4}
    settings |= {"logging_steps": 1, "save_strategy": "no", "report_to": "none"}
    args = TrainingArguments(
        str(folder), **(settings | more.pop("arguments", {})), disable_tqdm=True, use_cpu=True
    )
    return PreferenceTrainer(policy, args, losses, pad_id=0, train_dataset=examples, **more)


def logged(trainer: PreferenceTrainer, name: str) -> list[float]:
    return [row[name] for row in trainer.state.log_history if name in row]


@pytest.mark.parametrize("name", ["dpo", "tdpo1", "ld_dpo"])
def test_the_adapter_switched_off_is_the_reference(name, tiny_model, encoded, tmp_path) -> None:
    """The same losses as with a reference of its own in memory, step by step."""
    base = load_policy(tiny_model)
    examples = attach_reference(encoded, score_pairs(base, encoded, 0, progress=False))
    losses = {}
    for how in ("adapter off", "own model"):
        policy = add_adapter(load_policy(tiny_model), r=4, alpha=8.0, seed=1)
        beside = freeze_reference(load_policy(tiny_model)) if how == "own model" else None
        trainer = trainer_of(
            policy, examples, tmp_path, LossConfig({name: 1.0}, 0.5), reference=beside
        )
        assert trainer.check_step_zero() == pytest.approx(0.6931, abs=1e-3)
        trainer.train()
        losses[how] = logged(trainer, "loss")
        batch = collate(pair_rows(encoded[:3]), 0)
        with reference_mode(policy) as off:
            assert torch.allclose(batch_logps(off, batch), batch_logps(base, batch), atol=1e-5)
        with torch.no_grad():
            assert not torch.allclose(
                batch_logps(policy, batch), batch_logps(base, batch), atol=0.1
            )
    assert losses["adapter off"] == pytest.approx(losses["own model"], abs=1e-5)
    with pytest.raises(InputError, match="without an adapter"), reference_mode(base):
        pass


def test_a_lora_run_leaves_a_merged_model_and_its_adapter(
    tiny_model, pair_file, cache, tmp_path
) -> None:
    from peft import PeftModel

    run = tmp_path / "run"
    where = ["--pairs", str(pair_file), "--model", str(tiny_model), "--output_dir", str(run)]
    words = ["--use_peft", "--lora_r", "4", "--sample_prompts", "3", "--max_new_tokens", "4"]
    assert main(["train", *where, *SHORT, *words]) == 0
    record = json.loads((run / "run.json").read_text())
    merged = load_policy(run / "model")
    assert model_hash(merged) == record["model_sha256"] != record["reference_sha256"]
    assert model_hash(load_policy(tiny_model)) == record["reference_sha256"]
    from_parts = PeftModel.from_pretrained(load_policy(tiny_model), run / "adapter")
    ids = torch.tensor([[1, 5, 9, 14]])
    with torch.no_grad():
        assert torch.allclose(merged(ids).logits, from_parts(ids).logits, atol=1e-5)
    # The folder of adapters is a model as well, with the tokenizer that belongs to it.
    assert model_hash(load_policy(run / "adapter")) == record["model_sha256"]
    assert load_tokenizer(run / "adapter").get_vocab() == load_tokenizer(tiny_model).get_vocab()
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    measured = [row["kl/policy"] for row in rows if "kl/policy" in row]
    assert measured[0] == pytest.approx(0, abs=1e-5)
    assert abs(measured[-1]) > 1e-4


def moving(tiny_model: Path, alpha: float, steps: int) -> MovingReference:
    return MovingReference(freeze_reference(load_policy(tiny_model)), alpha, steps)


def test_a_soft_update_mixes_and_a_hard_one_copies(tiny_model, encoded, tmp_path) -> None:
    examples = attach_reference(encoded, score_pairs(load_policy(tiny_model), encoded, 0))
    start = {n: w.clone() for n, w in load_policy(tiny_model).named_parameters()}
    for alpha in (0.25, 1.0):
        follower = moving(tiny_model, alpha, 4)
        policy = load_policy(tiny_model)
        trainer_of(policy, examples, tmp_path, LossConfig(), moving=follower).train()
        for name, weight in follower.reference.named_parameters():
            mixed = alpha * dict(policy.named_parameters())[name] + (1 - alpha) * start[name]
            torch.testing.assert_close(weight, mixed)


def test_margins_are_measured_from_where_the_reference_is(tiny_model, encoded, tmp_path) -> None:
    """Copied after every step, the reference is the policy: every log-ratio starts from 0."""
    examples = attach_reference(encoded, score_pairs(load_policy(tiny_model), encoded, 0))
    follower = moving(tiny_model, 1.0, 1)
    trainer = trainer_of(load_policy(tiny_model), examples, tmp_path, LossConfig(), moving=follower)
    trainer.train()
    assert logged(trainer, "logratios/chosen") == pytest.approx([0.0] * 4, abs=1e-5)
    ref = logged(trainer, "logps_ref/chosen")
    assert ref[-1] != pytest.approx(ref[0], abs=1e-2)


def test_a_moving_reference_survives_a_resume(tiny_model, encoded, tmp_path) -> None:
    examples = attach_reference(encoded, score_pairs(load_policy(tiny_model), encoded, 0))
    losses, ends = [], []
    for checkpoint in (None, str(tmp_path / "checkpoint-2")):
        follower = moving(tiny_model, 0.5, 2)
        arguments = {"save_strategy": "steps", "save_steps": 2}
        trainer = trainer_of(
            load_policy(tiny_model),
            examples,
            tmp_path,
            LossConfig(),
            moving=follower,
            arguments=arguments,
        )
        trainer.train(resume_from_checkpoint=checkpoint)
        losses.append(logged(trainer, "loss"))
        ends.append(model_hash(follower.reference))
    assert losses[0] == losses[1]
    assert ends[0] == ends[1] != model_hash(load_policy(tiny_model))


@pytest.mark.parametrize("loss", ["dpo", "tdpo1", "bco_pair"])
def test_a_run_with_a_moving_reference(loss, tiny_model, pair_file, cache, tmp_path) -> None:
    run = tmp_path / "run"
    where = ["--pairs", str(pair_file), "--model", str(tiny_model), "--output_dir", str(run)]
    words = ["--loss", loss, "--sync_ref_model", "True", "--ref_model_sync_steps", "2"]
    assert main(["train", *where, *SHORT, *words]) == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    held_out = [row["eval_logps_ref/chosen"] for row in rows if "eval_loss" in row]
    assert held_out[-1] != pytest.approx(held_out[0], abs=1e-3)
    assert main(["diagnose", "--run", str(run)]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--use_peft", "True"], "with --use_peft the reference is the fixed base"),
        (["--loss", "simpo"], "sync_ref_model: not for simpo"),
        (["--loss", "kto"], "sync_ref_model: not for kto"),
        (["--ref_model_mixup_alpha", "1.5"], "must lie in (0, 1], got 1.5"),
    ],
)
def test_references_that_cannot_be(words, message, pair_file, tmp_path, capsys) -> None:
    where = ["--pairs", str(pair_file), "--output_dir", str(tmp_path / "run")]
    assert main(["train", *where, "--sync_ref_model", "True", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_reference_with_another_vocabulary_is_refused_before_any_work(
    tiny_model, pair_file, cache, tmp_path, capsys
) -> None:
    other = tmp_path / "other"
    tokenizer = train_tokenizer(["quite another text"], vocab_size=300)
    tokenizer.save_pretrained(other)
    size = SmallModelConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    build_model(tokenizer, size).save_pretrained(other)
    models = ["--model", str(tiny_model), "--reference", str(other)]
    run = tmp_path / "run"
    assert main(["train", "--pairs", str(pair_file), *models, "--output_dir", str(run)]) == 2
    said = capsys.readouterr().err
    assert f"reference {other}: another vocabulary" in said
    assert "the first token that differs: '" in said
    assert not run.exists()
    assert main(["train", "--reference", str(other), "--output_dir", str(run)]) == 2
    assert "reference: needs --model" in capsys.readouterr().err
