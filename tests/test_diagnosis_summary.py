"""The paragraph that a run ends with: its sentences, and their numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpo_lab.cli import main
from dpo_lab.diagnosis import diagnose, summary
from dpo_lab.training.run_folder import RunFolder

ROWS = [
    {"step": 0, "eval_loss": 0.6931, "kl/policy": 0.0, "kl/policy_error": 0.0, "gold/reward": 0.5},
    {"step": 1, "loss": 0.7, "rewards/margins": 0.0},
    {"step": 9, "loss": 0.5, "rewards/margins": 1.25},
    {
        "step": 9,
        "eval_loss": 0.55,
        "eval_rewards/accuracies": 0.744,
        "eval_logratios/chosen": -0.3,
        "eval_logratios/rejected": -1.52,
        "kl/policy": 1.04,
        "kl/policy_error": 0.21,
        "gold/reward": 1.5,
    },
]


def test_every_logged_number_has_its_sentence() -> None:
    assert summary(ROWS, {}, []) == (
        "The held-out loss went from 0.693 to 0.550. "
        "The mean training margin ended at 1.25; 74 % of held-out pairs rank right. "
        "Against the reference, chosen answers became less likely by 0.30 nats and rejected "
        "answers became less likely by 1.52 nats on average. "
        "The policy's own answers are 1.04 ± 0.21 nats from the reference, and their true reward "
        "went from 0.50 to 1.50. "
        "Nothing in the curves asks for attention."
    )


def test_what_was_not_logged_is_not_said() -> None:
    """A reference-free run has no log-ratios; one without an evaluation no held-out numbers."""
    rows = [{"step": 1, "loss": 0.7, "rewards/margins": 0.5}, {"step": 2, "loss": 0.6}]
    text = summary(rows, {}, [])
    assert text.startswith("The training loss went from 0.700 to 0.600. The mean training margin")
    assert "held-out" not in text
    assert "reference" not in text
    assert "nan" not in summary([{"step": 1, "rewards/margins": float("nan")}], {}, [])


def test_findings_are_named_problems_counted() -> None:
    rows = [{"step": 1, "loss": 0.69}, {"step": 9, "loss": float("nan")}]
    text = summary(rows, {}, diagnose(rows))
    assert text.endswith("To look at (1 of 1 a problem): too_large_steps.")


def test_a_run_that_logged_nothing_yet(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = RunFolder(tmp_path)
    run.write_run({"status": "running"})
    assert main(["diagnose", "--run", str(tmp_path)]) == 2
    assert "metrics.jsonl: there is no such file yet" in capsys.readouterr().err
    run.begin_logs([], 0)
    assert main(["diagnose", "--run", str(tmp_path)]) == 2
    assert "metrics.jsonl: is empty" in capsys.readouterr().err
