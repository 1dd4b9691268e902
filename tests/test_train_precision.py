"""Mixed precision: matrix products in bfloat16, log-probabilities and losses in float32."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from training_fixtures import make_trainer

from dpo_lab.batching import pair_rows
from dpo_lab.cli import main
from dpo_lab.models import load_policy
from dpo_lab.scoring import ScoredPairs, score_responses
from dpo_lab.training import surroundings
from dpo_lab.training.examples import attach_reference
from dpo_lab.training.objective import LossConfig
from dpo_lab.training.reference import cache_key

CACHES = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")


def test_bfloat16_training_follows_float32_with_log_probs_in_float32(
    tiny_model, encoded, tmp_path
) -> None:
    reference = load_policy(tiny_model)
    rows = pair_rows(encoded)
    losses = {}
    for precision in (None, torch.bfloat16):
        logps = score_responses(reference, rows, 0, progress=False, precision=precision)
        examples = attach_reference(encoded, ScoredPairs(*logps.chunk(2)))
        trainer = make_trainer(
            tiny_model,
            examples,
            tmp_path,
            LossConfig({"dpo": 1.0}, 0.5),
            bf16=precision is not None,
            learning_rate=3e-3,
        )
        assert trainer.check_step_zero() == pytest.approx(0.6931, abs=1e-3)
        seen = []
        evaluate = trainer.evaluate_loss
        trainer.evaluate_loss = lambda logps, *a, e=evaluate, s=seen, **k: (
            s.append(logps.policy_chosen.dtype) or e(logps, *a, **k)
        )
        trainer.train()
        losses[precision] = [r["loss"] for r in trainer.state.log_history if "loss" in r]
        assert set(seen) == {torch.float32}
        assert {weight.dtype for weight in trainer.model.parameters()} == {torch.float32}
    assert losses[torch.bfloat16] != losses[None]  # else autocast was not on
    assert losses[torch.bfloat16] == pytest.approx(losses[None], abs=2e-2)
    assert max(abs(loss - 0.6931) for loss in losses[None]) > 0.1  # so they had room to differ


def test_16_bit_rows_are_rounded_up_in_training_and_in_evaluation(
    tiny_model, encoded, tmp_path
) -> None:
    """The Trainer turns 16 bits on inside the model's forward call only."""
    reference = load_policy(tiny_model)
    logps = score_responses(reference, pair_rows(encoded), 0, progress=False)
    examples = attach_reference(encoded, ScoredPairs(*logps.chunk(2)))
    for bf16 in (True, False):
        loss = LossConfig({"dpo": 1.0}, 0.5)
        given = {"token_budget": 4096, "bf16": bf16, "max_steps": 1}
        trainer = make_trainer(tiny_model, examples, tmp_path, loss, **given)
        trainer.eval_dataset, widths = examples[:3], {}
        trainer.model.base_model.register_forward_pre_hook(
            lambda module, _, named, seen=widths: seen.setdefault(module.training, []).append(
                named["input_ids"].shape[1]
            ),
            with_kwargs=True,
        )
        trainer.train()
        trainer.evaluate()
        assert set(widths) == {True, False}
        rounded = [width % 64 == 0 for part in widths.values() for width in part]
        assert all(rounded) if bf16 else not any(rounded)


def test_scores_in_another_precision_are_cached_apart(tiny_model, encoded) -> None:
    model, rows = load_policy(tiny_model), [encoded[0].chosen]
    ways = ("None packed", "None padded", "torch.bfloat16 packed")
    assert len({cache_key(model, rows, how) for how in ways}) == 3


def test_a_run_in_bfloat16_from_the_command_line(
    tiny_model, pair_file, cache: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    run, kept = tmp_path / "run", []
    for name in CACHES:
        monkeypatch.setenv(name, "to be put back")
        monkeypatch.delenv(name)
    monkeypatch.setattr(surroundings, "keep_freed_memory", lambda: kept.append(True))
    where = ["--pairs", str(pair_file), "--model", str(tiny_model), "--output_dir", str(run)]
    assert main(["train", *where, "--bf16", "--max_steps", "2", "--sample_prompts", "3"]) == 0
    assert json.loads((run / "run.json").read_text())["config"]["bf16"] is True
    if not torch.accelerator.is_available():
        assert kept
        assert {os.environ[name] for name in CACHES} == {"64"}
    first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    # The reference's scores run in bfloat16 too, so they agree with the policy's to its rounding.
    assert first["kl/policy"] == pytest.approx(0.0, abs=0.05)
    assert first["eval_loss"] == pytest.approx(0.6931, abs=1e-3)

    where[-1] = str(tmp_path / "other")
    if not torch.cuda.is_available():
        assert main(["train", *where, "--fp16"]) == 2
        assert "fp16: needs a CUDA device" in capsys.readouterr().err
    assert main(["train", *where, "--fp16", "--bf16"]) == 2
    assert "choose one" in capsys.readouterr().err
