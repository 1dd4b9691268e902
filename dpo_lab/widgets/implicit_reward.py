"""The implicit reward explorer: what a token adds, and the constant that no pair can see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anywidget
import traitlets

from dpo_lab.errors import InputError
from dpo_lab.widgets._bundle import bundle, stylesheet
from dpo_lab.widgets._traits import Checked, numbers, positive, whole


class _PerPrompt(Checked):
    """A checked list with one entry a prompt."""

    def validate(self, obj: ImplicitRewardExplorer, value: Any) -> Any:
        checked = super().validate(obj, value)
        if len(checked) != obj.prompt_count:
            count = f"{len(checked)} for {obj.prompt_count} prompts"
            raise InputError(f"{self.name} must be one number a prompt, got {count}")
        return checked


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{name} must be a text, got {value!r:.80}")
    return value


def _short(values: list[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _response(name: str, given: Any, prompts: list[str]) -> dict[str, Any]:
    """One response, with its prompt's place in `prompts`, which grows by a new one."""
    if not isinstance(given, Mapping):
        raise InputError(f"{name} must be a mapping, got {given!r:.80}")
    for key in ("prompt", "tokens", "logratios", "gold"):
        if key not in given:
            raise InputError(f"{name} has no {key!r}")
    tokens = given["tokens"]
    if isinstance(tokens, str) or not tokens:
        raise InputError(f"{name}.tokens must be a list of at least one text, got {tokens!r:.80}")
    texts = [_text(f"{name}.tokens[{i}]", token) for i, token in enumerate(tokens)]
    ratios = numbers(f"{name}.logratios", given["logratios"])
    if len(ratios) != len(texts):
        raise InputError(f"{name} has {len(texts)} tokens, but {len(ratios)} logratios")
    prompt = _text(f"{name}.prompt", given["prompt"])
    if prompt not in prompts:
        prompts.append(prompt)
    return {
        "prompt": prompts.index(prompt),
        "tokens": texts,
        "logratios": _short(ratios),
        "gold": _short(numbers(f"{name}.gold", [given["gold"]]))[0],
    }


class ImplicitRewardExplorer(anywidget.AnyWidget):
    """The implicit reward token by token, and answer by answer against the true reward.

        ImplicitRewardExplorer([
            {"prompt": "the film", "tokens": [" was", " good", "<eos>"],
             "logratios": [0.1, 2.0, -0.3], "gold": 1.0},
            ...
        ])

    logratios: u_t = log pi(y_t | x, y_<t) - log pi_ref(y_t | x, y_<t) in nats, one a token of the
    response, EOS included. gold: the true reward. The implicit reward beta sum_t u_t is the reward
    up to a constant c(x) of the prompt, beta log Z(x) (Rafailov et al. 2023, eq. 5), which is free
    here: the reader moves it, and no difference within a prompt changes. It shows the share of
    pairs of one prompt that are ranked as the true reward ranks them (a tie of implicit rewards is
    one half; pairs of equal true reward are left out), and the root mean square distance from the
    line implicit = true, which c(x) = mean(gold - beta sum u) of each prompt makes smallest.

    beta > 0. constants: one number a prompt in order of appearance, zeros if None. selected: number
    of the response that is shown, from 0. Numbers of `responses` are rounded to six digits. Raises
    `InputError` naming the response and field for missing or empty fields, lengths that differ,
    texts that are none, and numbers that are not finite.
    """

    _esm = bundle("implicit_reward.js")
    _css = stylesheet("ui.css", "fields.css", "implicit_reward.css")

    beta = Checked(positive).tag(sync=True)
    constants = _PerPrompt(numbers).tag(sync=True)
    selected = Checked(whole(0, 2**31)).tag(sync=True)
    prompts = traitlets.List().tag(sync=True)
    responses = traitlets.List().tag(sync=True)
    # What the reset button goes back to.
    initial = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        responses: Any,
        beta: Any = 0.1,
        *,
        constants: Any = None,
        selected: Any = 0,
        **widget_options: Any,
    ) -> None:
        if isinstance(responses, (str, Mapping)) or not responses:
            raise InputError(f"responses must be a list of at least one, got {responses!r:.80}")
        prompts: list[str] = []
        found = [_response(f"responses[{i}]", r, prompts) for i, r in enumerate(responses)]
        self.prompt_count = len(prompts)
        state = {
            "beta": positive("beta", beta),
            "constants": numbers(
                "constants", [0] * len(prompts) if constants is None else constants
            ),
            "selected": whole(0, len(found) - 1)("selected", selected),
        }
        data = {"prompts": prompts, "responses": found}
        super().__init__(**state, **data, initial=state, **widget_options)
