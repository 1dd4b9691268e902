"""Seeded samples from a causal language model, as encoded responses that can be scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from tqdm.auto import tqdm
from transformers import GenerationConfig, PreTrainedTokenizerBase

from dpo_lab.batching import EncodedResponse, encode_prompt, padding_id
from dpo_lab.errors import InputError
from dpo_lab.pair_types import Prompt


class Samples(NamedTuple):
    """Responses drawn from a model, `each` in a row for every prompt.

    prompts[i] and texts[i] belong to encoded[i]. ended[i] is false where the answer was cut at
    `max_new_tokens` before its end: such an answer has no EOS, and its log-probability is that of
    all answers that begin so.
    """

    prompts: list[Prompt]
    texts: list[str]
    encoded: list[EncodedResponse]
    ended: list[bool]

    @property
    def share_cut(self) -> float:
        """Share of the answers that were cut."""
        return 1 - sum(self.ended) / len(self.ended)


def sample_responses(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    each: int = 1,
    max_new_tokens: int = 64,
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = True,
) -> Samples:
    """Draw `each` answers to every prompt from the model's own distribution.

    Temperature 1 and no cut of the distribution: what is drawn is pi itself, as every
    expectation over the policy needs it. The same seed, model, prompts and batch size give the
    same answers on the same machine; the caller's random state is left as it was. Raises
    `InputError` for no prompts, and as `encode_prompt` does.
    """
    if not prompts or each < 1 or max_new_tokens < 1:
        raise InputError(
            f"need prompts, each >= 1 and max_new_tokens >= 1, got {len(prompts)} prompts, "
            f"{each} and {max_new_tokens}"
        )
    wanted = [prompt for prompt in prompts for _ in range(each)]
    ids = [encode_prompt(tokenizer, prompt) for prompt in wanted]
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))  # prompts of like length
    settings = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=max_new_tokens,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=padding_id(tokenizer),
    )
    was_training = model.training
    model.eval()
    drawn: list[EncodedResponse] = [EncodedResponse([], 0)] * len(ids)
    bar = tqdm(total=len(ids), desc="sampling", unit="answer", disable=not progress)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            for row, response in zip(rows, _generate(model, ids, rows, settings), strict=True):
                drawn[row] = EncodedResponse([*ids[row], *response], len(ids[row]))
            bar.update(len(rows))
    bar.close()
    model.train(was_training)
    ended = [row.input_ids[-1] == tokenizer.eos_token_id for row in drawn]
    texts = [
        tokenizer.decode(
            row.input_ids[row.prompt_length : len(row.input_ids) - end],
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        for row, end in zip(drawn, ended, strict=True)
    ]
    return Samples(wanted, texts, drawn, ended)


def _generate(
    model: nn.Module, ids: list[list[int]], rows: list[int], settings: GenerationConfig
) -> list[list[int]]:
    """Response ids of some rows, EOS included where it was drawn; padded on the left."""
    width = max(len(ids[row]) for row in rows)
    padded = [[settings.pad_token_id] * (width - len(ids[row])) + ids[row] for row in rows]
    mask = [[0] * (width - len(ids[row])) + [1] * len(ids[row]) for row in rows]
    output = model.generate(
        input_ids=torch.tensor(padded, device=model.device),
        attention_mask=torch.tensor(mask, device=model.device),
        generation_config=settings,
    )
    return [_until_eos(new, settings.eos_token_id) for new in output[:, width:].tolist()]


def _until_eos(ids: list[int], eos: int) -> list[int]:
    """What was drawn before padding began: all up to the first EOS, or all."""
    return ids[: ids.index(eos) + 1] if eos in ids else ids
