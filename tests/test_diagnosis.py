"""Real runs, healthy and made sick on purpose: what the diagnosis says and where it is silent."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from dpo_lab import reviews
from dpo_lab.cli import main
from dpo_lab.diagnosis import SIGNS, diagnose
from dpo_lab.pairs import PreferencePair, write_pairs
from dpo_lab.training.run_folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unrendered")]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPO_LAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that `dpo-lab train` makes by itself, with a smaller model."""
    folder = tmp_path_factory.mktemp("diagnosis") / "healthy"
    size = ["--hidden_size", "64", "--num_hidden_layers", "2", "--eval_steps", "125"]
    assert main(["train", "--output_dir", str(folder), *size]) == 0
    return folder


def signs(folder: Path) -> dict[str, str]:
    run = RunFolder(folder)
    return {f.sign: f.says for f in diagnose(run.read_metrics(), run.open_existing())}


def sick(healthy: Path, folder: Path, *words: object) -> dict[str, str]:
    """Train from the healthy run's tuned model with settings that nobody should use."""
    where = ["--model", healthy / "reference", "--output_dir", folder]
    assert main(["train", *map(str, [*where, *words])]) == 0
    return signs(folder)


def answers(count: int) -> list[tuple[str, list[str]]]:
    rng = random.Random(1)
    prompts = [reviews.sample_prompt(rng) for _ in range(count)]
    return [(p, [reviews.sample_response(rng, p) for _ in range(4)]) for p in prompts]


def test_a_healthy_run_has_no_findings(healthy: Path, capsys) -> None:
    assert signs(healthy) == {}
    capsys.readouterr()
    assert main(["diagnose", "--run", str(healthy)]) == 0
    assert capsys.readouterr().out.strip().endswith("no findings")


def test_steps_that_are_too_large(healthy: Path, tmp_path: Path) -> None:
    words = ["--learning_rate", 0.3, "--max_steps", 20, "--world_pairs", 200, "--eval_steps", 10]
    found = sick(healthy, tmp_path / "run", *words)
    start, end = re.findall(r"\d+\.\d+", found["too_large_steps"])[::-1]
    assert float(end) > 1.25 * float(start)


def test_labels_by_length_show_as_growing_answers(healthy: Path, tmp_path: Path) -> None:
    pairs = [PreferencePair(p, max(a, key=len), min(a, key=len)) for p, a in answers(400)]
    write_pairs([p for p in pairs if len(p.chosen) > len(p.rejected)], tmp_path / "longs.jsonl")
    words = ["--pairs", tmp_path / "longs.jsonl", "--learning_rate", 5e-4, "--sample_prompts", 40]
    found = sick(healthy, tmp_path / "run", *words)
    assert found.keys() >= {"drifting_length", "no_better_than_length"}
    assert "right in 1.000" in found["no_better_than_length"]
    before, after = map(float, re.findall(r"\d+\.\d+", found["drifting_length"]))
    assert after > 1.3 * before


def test_labels_without_meaning(healthy: Path, tmp_path: Path) -> None:
    pairs = [PreferencePair(p, a[0], a[1]) for p, a in answers(800) if a[0] != a[1]]
    write_pairs(pairs, tmp_path / "random.jsonl")
    words = ["--pairs", tmp_path / "random.jsonl", "--learning_rate", 2e-4]
    found = sick(healthy, tmp_path / "run", *words)
    assert "is not above a coin's" in found["nothing_learned"]


def test_a_small_beta_and_large_steps_send_probability_elsewhere(
    healthy: Path, tmp_path: Path
) -> None:
    words = ["--world_pairs", 240, "--learning_rate", 3e-3, "--beta", 0.001]
    words += ["--num_train_epochs", 4, "--sample_prompts", 30]
    found = sick(healthy, tmp_path / "run", *words)
    assert found.keys() & {"displacement", "runaway_kl"}


def test_true_reward_falls_while_the_margin_rises(healthy: Path, tmp_path: Path) -> None:
    words = ["--world_pairs", 500, "--learning_rate", 1e-3, "--beta", 0.005, "--eval_steps", 50]
    words += ["--num_train_epochs", 4, "--sample_prompts", 64, "--save_steps", 1000]
    found = sick(healthy, tmp_path / "run", *words)
    assert found.keys() >= {"falling_gold", "runaway_kl"}
    rows = RunFolder(tmp_path / "run").read_metrics()
    margins = [row["rewards/margins"] for row in rows if "rewards/margins" in row]
    assert margins[-1] > margins[len(margins) // 2] > margins[0]


def test_few_pairs_seen_too_often(healthy: Path, tmp_path: Path) -> None:
    words = ["--world_pairs", 60, "--learning_rate", 2e-3, "--beta", 0.5, "--num_train_epochs", 15]
    found = sick(healthy, tmp_path / "run", *words)
    assert "the held-out loss has risen" in found["saturated"]


ROW = {"logps_ref/chosen": -20.0, "logps_ref/rejected": -22.0}


def held_out(step: int, **values: float) -> dict[str, float | int]:
    names = {"chosen": "eval_logratios/chosen", "rejected": "eval_logratios/rejected"}
    row = {f"eval_{name}": value for name, value in ROW.items()}
    return {"step": step, **row, **{names.get(k, k): v for k, v in values.items()}}


@pytest.mark.parametrize(
    ("rows", "sign"),
    [
        ([held_out(0, chosen=0.3, rejected=0.0)], "wrong_step_zero"),
        ([held_out(0), held_out(9) | {"eval_logps_ref/chosen": -19.9}], "moving_reference"),
        ([{"step": 1, "loss": 0.69}, {"step": 9, "loss": float("nan")}], "too_large_steps"),
        (
            [held_out(9, chosen=40.0, rejected=-30.0, **{"eval_rewards/margins": 0.07})],
            "beta_too_small",
        ),
        (
            [held_out(9, chosen=0.02, rejected=-0.01, **{"eval_rewards/margins": 0.9})],
            "beta_too_large",
        ),
        ([held_out(9, chosen=-2.0, rejected=-3.0)], "both_fall"),
        ([held_out(9, chosen=-2.0, rejected=-3.0, **{"kl/policy": 0.1})], "displacement"),
    ],
)
def test_signs_that_no_run_here_can_have(rows: list, sign: str) -> None:
    """The trainer refuses these or keeps them out; a run of another program may show them."""
    assert [finding.sign for finding in diagnose(rows)] == [sign]


def test_healthy_rows_of_each_sign_are_passed_over() -> None:
    """The same rows within bounds; and falling log-ratios that the policy's own KL explains."""
    rows = [
        held_out(0, chosen=0.0, rejected=0.0),
        {"step": 1, "loss": 0.69, "rewards/margins": 0.0},
        {"step": 9, "loss": 0.5, "rewards/margins": 1.0},
        held_out(9, chosen=-2.0, rejected=-4.0, **{"eval_rewards/margins": 0.6, "kl/policy": 1.5}),
    ]
    assert diagnose(rows) == []
    assert all(sign.__doc__ for sign in SIGNS)


def test_a_folder_without_a_run_is_one_message(tmp_path: Path, capsys) -> None:
    assert main(["diagnose", "--run", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
