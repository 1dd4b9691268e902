"""What the implicit reward explorer takes, and its maths against numpy's."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from widget_page import open_modules

from dpo_lab.errors import InputError
from dpo_lab.widgets import ImplicitRewardExplorer

NASTY = '<img src=x onerror="window.hurt = 1"></script><b>'


def response(prompt: str, logratios: list[float], gold: float, first: str = " was") -> dict:
    tokens = [first, *[" good"] * (len(logratios) - 2), "<eos>"][: len(logratios)]
    return {"prompt": prompt, "tokens": tokens, "logratios": logratios, "gold": gold}


# By hand, at beta 0.5: implicit rewards 1, 2, -1 of the film and -0.5, 0.5 of the other prompt.
HAND = [
    response("the film", [3.0, -1.0, 0.0], 0.0),
    response("the film", [1.0, 3.0, 0.0], 4.0, first="two\nlines"),
    response("the film", [-2.0], 2.0),
    response(NASTY, [-2.0, 1.0], -3.0, first=NASTY),
    response(NASTY, [0.5, 0.5], -2.0, first=""),
]


def random_responses(seed: int) -> list[dict]:
    draw = np.random.default_rng(seed)
    return [
        response(
            f"prompt {draw.integers(4)}",
            draw.normal(0, 3, draw.integers(1, 9)).round(2).tolist(),
            float(draw.integers(-2, 3)),  # true rewards that tie
        )
        for _ in range(25)
    ]


def in_python(responses: list[dict], beta: float, constants: dict[str, float]) -> dict:
    """The same quantities by numpy, prompt by prompt."""
    prompts = list(dict.fromkeys(each["prompt"] for each in responses))
    group = np.array([prompts.index(each["prompt"]) for each in responses])
    gold = np.array([each["gold"] for each in responses])
    implicit = beta * np.array([math.fsum(each["logratios"]) for each in responses])
    best = [float((gold - implicit)[group == k].mean()) for k in range(len(prompts))]
    wins = [
        0.5 * (1 + np.sign((implicit[i] - implicit[j]) * (gold[i] - gold[j])))
        for i, j in itertools.combinations(range(len(gold)), 2)
        if group[i] == group[j] and gold[i] != gold[j]
    ]
    free = np.array([constants.get(prompt, 0.0) for prompt in prompts])
    return {
        "implicit": implicit,
        "best": best,
        "accuracy": float(np.mean(wins)) if wins else math.nan,
        "pairs": len(wins),
        "distance": float(np.sqrt(np.mean((implicit + free[group] - gold) ** 2))),
        "lowest": float(np.sqrt(np.mean((implicit + np.array(best)[group] - gold) ** 2))),
    }


class TestPython:
    def test_answers_point_to_their_prompts(self):
        explorer = ImplicitRewardExplorer(HAND, selected=4)
        assert explorer.prompts == ["the film", NASTY]
        assert [each["prompt"] for each in explorer.responses] == [0, 0, 0, 1, 1]
        assert explorer.responses[1] == {
            "prompt": 0, "tokens": ["two\nlines", " good", "<eos>"], "logratios": [1, 3, 0],
            "gold": 4,
        }  # fmt: skip
        assert explorer.initial == {"beta": 0.1, "constants": [0, 0], "selected": 4}
        with pytest.raises(InputError, match="constants must be one number a prompt, got 3 for 2"):
            explorer.constants = [1, 2, 3]

    def test_a_hundred_answers_are_small(self):
        many = random_responses(1) * 4
        explorer = ImplicitRewardExplorer([each | {"gold": math.pi} for each in many])
        assert explorer.responses[0]["gold"] == 3.14159
        assert len(json.dumps([explorer.responses, explorer.prompts])) < 30_000

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"responses": []}, "responses must be a list of at least one"),
            ({"responses": "text"}, "responses must be a list of at least one"),
            ({"responses": [["x"]]}, r"responses\[0\] must be a mapping"),
            ({"responses": [{"prompt": "x"}]}, r"responses\[0\] has no 'tokens'"),
            ({"responses": [HAND[0] | {"tokens": []}]}, r"responses\[0\].tokens must be a list of"),
            ({"responses": [HAND[0] | {"tokens": "abc"}]}, r"responses\[0\].tokens must be a list"),
            ({"responses": [HAND[0] | {"tokens": [1, 2, 3]}]}, r"tokens\[0\] must be a text"),
            ({"responses": [HAND[0], HAND[2] | {"logratios": [1.0, 2.0]}]},
             r"responses\[1\] has 1 tokens, but 2 logratios"),
            ({"responses": [HAND[2] | {"logratios": [math.nan]}]}, r"logratios\[0\] must be fin"),
            ({"responses": [HAND[0] | {"gold": math.inf}]}, r"\[0\].gold\[0\] must be finite"),
            ({"responses": [HAND[0] | {"prompt": None}]}, r"responses\[0\].prompt must be a text"),
            ({"beta": 0}, "beta must be finite and greater than 0"),
            ({"constants": [1.0]}, "constants must be one number a prompt, got 1 for 2 prompts"),
            ({"selected": 5}, "selected must be a whole number from 0 to 4"),
        ],
    )  # fmt: skip
    def test_bad_input_is_named(self, arguments, message):
        with pytest.raises(InputError, match=message):
            ImplicitRewardExplorer(**{"responses": HAND} | arguments)


@pytest.fixture(scope="module")
def maths(chromium, tmp_path_factory):
    """All of implicit.js for the responses that Python would send."""
    page = chromium.new_page()
    names = "bestConstants, distance, implicitRewards, rankedRight"
    open_modules(page, tmp_path_factory.mktemp("modules"), {"implicit.js": names})

    def call(responses, beta, constants):
        explorer = ImplicitRewardExplorer(responses, beta)
        free = [constants.get(prompt, 0.0) for prompt in explorer.prompts]
        return page.evaluate(
            """([answers, beta, constants]) => {
              const implicit = tested.implicitRewards(answers, beta);
              const best = tested.bestConstants(answers, implicit, constants.length);
              const { share, pairs } = tested.rankedRight(answers, implicit);
              const [distance, lowest] = [constants, best].map((each) =>
                tested.distance(answers, implicit, each));
              return { implicit, best, accuracy: share, pairs, distance, lowest };
            }""",
            [explorer.responses, beta, free],
        )

    yield call
    page.close()


@pytest.mark.browser
class TestMaths:
    def test_by_hand(self, maths):
        shown = maths(HAND, 0.5, {"the film": 1.0})
        assert shown["implicit"] == [1, 2, -1, -0.5, 0.5]
        assert shown["best"] == [pytest.approx(4 / 3), -2.5]  # means of -1, 2, 3 and -2.5, -2.5
        # Right: the film's second answer against both others, and the other prompt's pair.
        assert (shown["accuracy"], shown["pairs"]) == (pytest.approx(3 / 4), 4)
        squares = 2**2 + 1**2 + 2**2 + 2.5**2 + 2.5**2
        assert shown["distance"] == pytest.approx(math.sqrt(squares / 5))

    @pytest.mark.parametrize("seed", range(4))
    def test_random_answers(self, maths, seed):
        responses = random_responses(seed)
        expected = in_python(responses, 0.3, {"prompt 1": 2.5})
        shown = maths(responses, 0.3, {"prompt 1": 2.5})
        for name, value in expected.items():
            np.testing.assert_allclose(shown[name], value, rtol=1e-12, atol=1e-12, err_msg=name)
        assert expected["lowest"] < expected["distance"]

    def test_ties_are_one_half_and_nothing_to_rank_is_no_number(self, maths):
        tie = [response("x", [1.0], 0.0), response("x", [1.0], 1.0), response("y", [3.0], 1.0)]
        assert (maths(tie, 1.0, {})["accuracy"], maths(tie, 1.0, {})["pairs"]) == (0.5, 1)
        assert math.isnan(maths(tie[1:], 1.0, {})["accuracy"])
