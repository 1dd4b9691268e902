"""Log-probabilities of encoded pairs under a model: the one path that training, the cached
reference and `dpo-lab score` share, so that their numbers agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from dpo_lab.batching import Batch, EncodedPair, collate
from dpo_lab.logprobs import sequence_logps


class ScoredPairs(NamedTuple):
    """Summed response log-probabilities of B pairs under one model, in nats, on the CPU."""

    chosen: Float[Tensor, "pairs"]
    rejected: Float[Tensor, "pairs"]


def batch_logps(model: PreTrainedModel, batch: Batch) -> Float[Tensor, "rows"]:
    """log pi(response | prompt) of every row of a padded batch, with gradient."""
    logits = model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        use_cache=False,
    ).logits
    return sequence_logps(logits, batch.input_ids, batch.starts, batch.ends)


def score_pairs(
    model: PreTrainedModel,
    pairs: Sequence[EncodedPair],
    pad_id: int,
    *,
    batch_size: int = 16,
    description: str = "scoring",
    progress: bool = True,
) -> ScoredPairs:
    """Log-probabilities of all pairs under `model`, without gradient, in the given order.

    Pairs of similar length share a batch, which saves padding and changes no number.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    result = torch.empty(2, len(pairs))
    bar = tqdm(total=len(pairs), desc=description, unit="pair", disable=not progress)
    with torch.no_grad():
        for indices in _by_length(pairs, batch_size):
            batch = collate([pairs[i] for i in indices], pad_id).to(device)
            logps = batch_logps(model, batch).cpu()
            result[:, indices] = logps.view(2, len(indices))
            bar.update(len(indices))
    bar.close()
    model.train(was_training)
    return ScoredPairs(result[0], result[1])


def _by_length(pairs: Sequence[EncodedPair], batch_size: int) -> Iterator[list[int]]:
    def longest(index: int) -> int:
        return max(len(pairs[index].chosen.input_ids), len(pairs[index].rejected.input_ids))

    order = sorted(range(len(pairs)), key=longest, reverse=True)  # a lack of memory shows at once
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
