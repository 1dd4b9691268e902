"""Models from a config and pairs made from a seed: nothing is downloaded."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from dpo_lab.encoded import EncodedPair, EncodedResponse

PAD, EOS, FIRST_WORD = 0, 1, 4


@dataclass(frozen=True)
class Shape:
    """A Qwen2 model's sizes, and how much of it one run trains."""

    hidden: int
    layers: int
    heads: int
    groups: int
    mlp: int
    vocab: int
    pairs: int  # a step
    steps: int  # timed
    warm: int  # steps before that

    @property
    def products(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of every linear layer of one block."""
        narrow = self.hidden // self.heads * self.groups
        attention = [(self.hidden, self.hidden), (self.hidden, narrow), (self.hidden, narrow)]
        mlp = [(self.hidden, self.mlp), (self.hidden, self.mlp), (self.mlp, self.hidden)]
        return [*attention, (self.hidden, self.hidden), *mlp]


SHAPES = {
    "tiny": Shape(256, 4, 4, 2, 704, 4096, pairs=8, steps=6, warm=2),
    "small": Shape(384, 6, 6, 2, 1024, 50304, pairs=4, steps=3, warm=1),
    "qwen2.5-0.5b": Shape(896, 24, 14, 2, 4864, 151936, pairs=8, steps=8, warm=3),
}


def build(shape: Shape, device: str = "cpu", seed: int = 0) -> PreTrainedModel:
    """The model in float32 with random weights, the same for the same seed and device."""
    config = Qwen2Config(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.groups,
        intermediate_size=shape.mlp,
        vocab_size=shape.vocab,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        bos_token_id=None,
        eos_token_id=EOS,
        pad_token_id=PAD,
        initializer_range=0.06,  # three times the usual, so that attention is not uniform
    )
    config._name_or_path = "local/random"  # TRL reads the end of it
    torch.manual_seed(seed)
    with torch.device(device):
        return Qwen2ForCausalLM(config)


def make_pairs(count: int, vocab: int, seed: int = 1) -> list[EncodedPair]:
    """Random tokens; log-normal lengths clipped to 30..300 (prompt) and 20..300 (answers)."""
    rng = random.Random(seed)

    def length(median: int, spread: float, least: int) -> int:
        return int(min(300, max(least, rng.lognormvariate(math.log(median), spread))))

    def words(size: int) -> list[int]:
        return [rng.randrange(FIRST_WORD, vocab) for _ in range(size)]

    pairs = []
    for _ in range(count):
        prompt = words(length(110, 0.65, 30))
        sides = [[*words(length(median, 0.75, 20) - 1), EOS] for median in (80, 75)]
        pairs.append(EncodedPair(*(EncodedResponse(prompt + s, len(prompt)) for s in sides)))
    return pairs


def word_tokenizer(vocab: int) -> PreTrainedTokenizerFast:
    """One word is one token, so that text has exactly the lengths of the ids it stands for."""
    words = {"<pad>": PAD, "<eos>": EOS, "<unk>": 2, "<x>": 3}
    words |= {f"w{i}": i for i in range(FIRST_WORD, vocab)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def as_text(pair: EncodedPair) -> dict[str, str]:
    """The pair in words, without the EOS that a trainer puts behind an answer."""

    def text(ids: list[int]) -> str:
        return " ".join(f"w{i}" for i in ids)

    before = pair.chosen.prompt_length
    row = {"prompt": text(pair.chosen.input_ids[:before]) + " "}
    for side in pair._fields:
        row[side] = text(getattr(pair, side).input_ids[before:-1])
    return row
