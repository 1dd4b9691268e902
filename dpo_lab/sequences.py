"""Short sequences: a language so small that every answer of a real transformer can be listed.

Tokens are a few letters and one token that both opens a text and ends an answer. An answer has at
most `longest` letters; one that has them all needs no end, for nothing may follow. So the
probabilities of all answers add up to 1, and log Z, KL, J and pi* are sums, not estimates.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from dpo_lab.batching import EncodedResponse, collate
from dpo_lab.errors import InputError
from dpo_lab.models import SmallModelConfig, disable_dropout
from dpo_lab.scoring import batch_logps

LETTERS = "abcdefghijklmno"
MOST_ANSWERS = 70_000
REPEATED = 0.2  # of a letter's value, from the second time on
GREETED = 0.8  # for an answer that begins with the prompt's letter


class SequenceWorld(NamedTuple):
    """Prompts of one letter each, all answers of up to `longest` letters, and true rewards.

    answers: as letters, the empty one first. rewards: (prompts, answers), float64.
    """

    letters: str
    longest: int
    prompts: tuple[str, ...]
    answers: tuple[str, ...]
    rewards: Float[Tensor, "prompts answers"]

    @property
    def end(self) -> int:
        """The id that opens a text and ends an answer; a letter's id is its place in `letters`."""
        return len(self.letters)

    def encode(self, prompt: str, answer: str) -> EncodedResponse:
        """Ids of one prompt and answer; the longest answers have no end."""
        ids = [self.letters.index(letter) for letter in answer]
        end = [] if len(answer) == self.longest else [self.end]
        opening = [self.end, self.letters.index(prompt)]
        return EncodedResponse([*opening, *ids, *end], len(opening))


def sequence_world(letters: int = 3, longest: int = 3, prompts: int = 2) -> SequenceWorld:
    """A world of `letters` letters, answers of up to `longest` of them, and `prompts` prompts.

    A letter is worth between -1 (the first) and 1 (the last) where it comes for the first time
    and a fifth of that later; an answer that begins with the prompt's letter gets 0.8 more.
    Raises `InputError` for sizes that make no world, or more than 70,000 answers.
    """
    if not 2 <= letters <= len(LETTERS) or not 1 <= prompts <= letters or longest < 1:
        raise InputError(
            f"need 2 to {len(LETTERS)} letters, 1 to that many prompts and longest >= 1, got "
            f"{letters}, {prompts}, {longest}"
        )
    if sum(letters**k for k in range(longest + 1)) > MOST_ANSWERS:
        raise InputError(f"{letters} letters and {longest} of them at most: too many answers")
    names = LETTERS[:letters]
    answers = tuple(
        "".join(word) for size in range(longest + 1) for word in product(names, repeat=size)
    )
    worth = {name: -1 + 2 * i / (letters - 1) for i, name in enumerate(names)}
    rewards = [[_reward(p, answer, worth) for answer in answers] for p in names[:prompts]]
    return SequenceWorld(
        names, longest, tuple(names[:prompts]), answers, torch.tensor(rewards, dtype=torch.float64)
    )


def _reward(prompt: str, answer: str, worth: dict[str, float]) -> float:
    values = [
        worth[letter] * (REPEATED if letter in answer[:place] else 1.0)
        for place, letter in enumerate(answer)
    ]
    return sum(values) + GREETED * answer.startswith(prompt)


def sequence_model(
    world: SequenceWorld, config: SmallModelConfig, seed: int = 0
) -> PreTrainedModel:
    """A small Llama over the world's tokens with random weights, in float64, dropout off.

    Llama's norm computes in float32 in any case, so sums are exact to about 1e-6.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(world.letters) + 1,
                hidden_size=config.hidden_size,
                intermediate_size=3 * config.hidden_size,
                num_hidden_layers=config.num_hidden_layers,
                num_attention_heads=config.num_attention_heads,
                num_key_value_heads=config.num_attention_heads,
                max_position_embeddings=config.max_position_embeddings,
                bos_token_id=world.end,
                eos_token_id=world.end,
                pad_token_id=world.end,
            )
        )
    return disable_dropout(model.double())


def answer_logps(model: PreTrainedModel, world: SequenceWorld) -> Float[Tensor, "prompts answers"]:
    """log pi(answer | prompt) of every answer to every prompt, with gradient.

    By the library's own path (`collate`, `batch_logps`). Each row is a distribution.
    """
    rows = [world.encode(prompt, answer) for prompt in world.prompts for answer in world.answers]
    batch = collate(rows, world.end).to(next(model.parameters()).device)
    return batch_logps(model, batch).view(len(world.prompts), len(world.answers))
