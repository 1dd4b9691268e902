"""What the curves explorer takes from a run, and the sentences that it makes of it."""

from __future__ import annotations

import json
import math

import pytest
from widget_page import open_modules

from dpo_lab.errors import InputError
from dpo_lab.training.run_folder import RunFolder
from dpo_lab.widgets import CurvesExplorer

NASTY = '<img src=x onerror="window.hurt = 1"> </script><b>&amp;'
TRAIN = [1, 10, 20, 30]
HELD_OUT = [0, 20, 40]


def rows(**changes: float) -> list[dict[str, float]]:
    """A small run of seven rows, each number of which can be told from every other."""
    train = [
        {
            "step": step,
            "loss": 0.7 - 0.01 * k,
            "rewards/margins": 0.1 * k,
            "rewards/accuracies": 0.5 + 0.1 * k,
            "logratios/chosen": -0.2 * k,
            "logratios/rejected": -1.2 * k,
            "logps/chosen": -10.0 - k,
            "grad_weight": 0.05 * 0.8**k,
            "learning_rate": 1e-4,
        }
        for k, step in enumerate(TRAIN)
    ]
    held_out = [
        {
            "step": step,
            "eval_loss": 0.69 - 0.02 * k,
            "eval_rewards/margins": 0.07 * k,
            "eval_logratios/chosen": -0.3 * k,
            "eval_logratios/rejected": -0.9 * k,
            "kl/policy": 1.1 * k,
            "kl/policy_error": 0.1 * k,
            "gold/reward": 0.5 + k,
            "gold/reward_error": 0.2,
            "lengths/policy": 8.25 + k,
        }
        for k, step in enumerate(HELD_OUT)
    ]
    train[2] |= changes
    return [held_out[0], *train[:3], held_out[1], train[3], held_out[2], {"step": 40, "epoch": 1.0}]


SAMPLES = [
    {"step": step, "prompt": prompt, "text": f" {prompt} at {step}{NASTY}", "logratio": step / 10}
    | ({"gold": -1.5} if prompt == "the film" else {})
    for step in HELD_OUT
    for prompt in ("the film", NASTY)
]


def state_of(explorer: CurvesExplorer) -> dict:
    own = ("step", "prompt", "training", "held_out", "samples", "initial")
    return {name: explorer.get_state(name)[name] for name in own}


class TestPython:
    def test_it_keeps_what_it_draws_by_step_at_five_digits(self):
        explorer = CurvesExplorer([*rows(), {"step": 10, "loss": 0.123456789}])
        assert explorer.training["step"] == TRAIN
        assert explorer.training["loss"] == [0.7, 0.12346, 0.68, 0.67]  # the later row counts
        assert explorer.held_out["step"] == HELD_OUT
        assert explorer.held_out["kl/policy"] == [0, 1.1, 2.2]
        assert explorer.held_out["lengths/policy"] == [8.25, 9.25, 10.25]
        assert not {"learning_rate", "logps/chosen", "kl/policy"} & set(explorer.training)
        assert (explorer.step, explorer.initial) == (40, {"step": 40, "prompt": 0})

    def test_without_a_reference_it_keeps_log_probabilities(self):
        row = {"step": 5, "logps/chosen": -3.0, "logps/rejected": -4.0, "loss": 1}
        training = CurvesExplorer([row], step=0).training
        assert training == {
            "step": [5], "logps/chosen": [-3], "logps/rejected": [-4], "loss": [1]
        }  # fmt: skip

    def test_what_is_not_finite_is_still_json(self):
        three = [math.nan, math.inf, -math.inf]
        explorer = CurvesExplorer([{"step": i, "loss": each} for i, each in enumerate(three)])
        assert explorer.training["loss"] == ["NaN", "Infinity", "-Infinity"]
        json.dumps(state_of(explorer), allow_nan=False)

    def test_a_hundred_rows_and_answers_are_small(self):
        many = [row | {"step": 10 * i, "loss": math.pi / (i + 1)} for i in range(25)
                for row in (rows()[1], rows()[0])] * 2  # fmt: skip
        answers = [SAMPLES[0] | {"step": i, "text": "was good so it is warm " * 5}
                   for i in range(100)]  # fmt: skip
        assert len(json.dumps(state_of(CurvesExplorer(many, answers)))) < 30_000

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"rows": "metrics.jsonl"}, "rows must be a list of rows"),
            ({"rows": [{"loss": 1.0}]}, r"rows\[0\] must be a mapping with a step"),
            ({"rows": [{"step": 1.5, "loss": 1.0}]}, r"rows\[0\].step must be a whole number"),
            ({"rows": [{"step": 1, "loss": "low"}]}, r"rows\[0\].loss must be a number, got 'low'"),
            ({"rows": [{"step": 1, "epoch": 1}]}, "rows hold none of the columns that are drawn"),
            ({"samples": [{"step": 0, "prompt": "x"}]}, r"samples\[0\].text must be a text"),
            ({"samples": [{"step": 0, "prompt": 3, "text": ""}]}, r"samples\[0\].prompt must be"),
            ({"samples": [SAMPLES[0] | {"gold": "x"}]}, r"samples\[0\].gold must be a number"),
            ({"step": -1}, "step must be a whole number from 0"),
        ],
    )
    def test_bad_input_is_named(self, arguments, message):
        with pytest.raises(InputError, match=message):
            CurvesExplorer(**{"rows": rows()} | arguments)

    def test_a_runs_folder_is_read(self, tmp_path):
        run = RunFolder(tmp_path)
        with pytest.raises(InputError, match="there is no such file yet"):
            CurvesExplorer.from_run(tmp_path)
        # As in a file of the trainer, the step is the last of a row.
        lines = [json.dumps(dict(reversed(row.items()))) + "\n" for row in rows()]
        run.metrics_file.write_text("".join(lines), encoding="utf-8")
        assert CurvesExplorer.from_run(tmp_path).samples == []
        talk = [["user", "How was it?"]]
        answers = [{"step": 0, "prompt": talk, "text": text} for text in ("a", "b", "c")]
        run.append_samples([*answers, *SAMPLES])
        explorer = CurvesExplorer.from_run(tmp_path, prompts=2, answers=2, step=20)
        assert [each["prompt"] for each in explorer.samples] == ["user: How was it?", "the film"]
        assert [text for _, text, *_ in explorer.samples[0]["answers"]] == ["a", "b"]
        assert explorer.samples[1]["answers"][2] == [40, SAMPLES[4]["text"], 4.0, -1.5]
        assert explorer.step == 20


@pytest.fixture(scope="module")
def read(chromium, tmp_path_factory):
    """`readingText` for two tables of columns, at the last of their steps."""
    page = chromium.new_page()
    open_modules(page, tmp_path_factory.mktemp("modules"), {"curves_reading.js": "readingText"})
    yield lambda training, held_out: page.evaluate(
        "([a, b]) => tested.readingText(a, b, Math.max(...a.step, ...b.step))", [training, held_out]
    )
    page.close()


NONE = {"step": []}


def ratios(chosen: float, rejected: float) -> dict:
    return {"step": [3], "logratios/chosen": [chosen], "logratios/rejected": [rejected]}


@pytest.mark.browser
class TestReading:
    @pytest.mark.parametrize(
        ("chosen", "rejected", "words"),
        [
            (0.001, -0.002, "chosen and rejected answers are as likely as under the reference"),
            (-2, -1, "both less likely than under the reference, and the chosen ones fell further"),
            (1, 2, "both more likely than under the reference, and the rejected ones rose further"),
            (1, -2, "chosen answers are more likely than under the reference and rejected ones"),
            (-1, 2, "rejected answers are more likely than under the reference and chosen ones"),
        ],
    )
    def test_both_log_ratios(self, read, chosen, rejected, words):
        assert words in read(ratios(chosen, rejected), NONE)
        assert read(ratios(5, -5), ratios(chosen, rejected)).startswith("Held out, ")

    def test_log_probabilities_count_from_their_first_row(self, read):
        table = {"step": [2, 9], "logps/chosen": [-9, -10], "logps/rejected": [-9, -12]}
        text = read(table, NONE)
        assert "both less likely than at step 2, and the rejected ones fell further" in text
        assert "(−1.000 and −3.000 nats)" in text

    def test_the_force(self, read):
        """Against its own first record; DPO's is beta sigmoid(-m): from 1/2 to 31 % of beta."""
        weights = [0.1 / 2, 0.1 / (1 + math.exp(0.8))]
        text = read({"step": [1, 5], "rewards/margins": [0, 0.8], "grad_weight": weights}, NONE)
        assert text == "Margin 0.800: the mean force left is 62 % of that at step 1."
        text = read({"step": [1, 5], "grad_weight": [0.05, -0.01]}, NONE)
        assert text == "The mean force now pushes the chosen answers down."
        assert read({"step": [1], "rewards/margins": [0]}, NONE) == "Margin 0."

    @pytest.mark.parametrize(
        ("rewards", "errors", "words"),
        [
            ([0, 1], [0.1, 0.1], "True reward rose by 1.000 since step 0."),
            ([1, 0], [0.1, 0.1], "fell by 1.000 since step 0."),
            ([0, 1], [0.4, 0.4], "changed by 1.000: within two standard errors of step 0."),
            ([0, 2, 1], [0.1] * 3, "rose by 1.000 since step 0, and is clearly lower than at "
             "step 10."),
            ([0, 2, 1.8], [0.1] * 3, "rose by 1.800 since step 0."),
            ([2, 1], None, "fell by 1.000 since step 0."),
        ],
    )  # fmt: skip
    def test_true_reward_beside_its_errors(self, read, rewards, errors, words):
        table = {"step": [10 * i for i, _ in enumerate(rewards)], "gold/reward": rewards}
        text = read(NONE, table | ({"gold/reward_error": errors} if errors else {}))
        assert text.endswith(words)
        assert text.startswith("True reward ")
