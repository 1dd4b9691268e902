"""Log-probabilities of encoded pairs under a model: the one path that training, the cached
reference and `dpo-lab score` share, so that their numbers agree.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from dpo_lab.batching import Batch, EncodedPair, EncodedResponse, collate, pair_rows
from dpo_lab.logprobs import sequence_logps


class ScoredPairs(NamedTuple):
    """Summed response log-probabilities of B pairs under one model, in nats, on the CPU."""

    chosen: Float[Tensor, "pairs"]
    rejected: Float[Tensor, "pairs"]


def batch_logits(model: nn.Module, batch: Batch) -> Float[Tensor, "rows tokens vocab"]:
    """The model's logits on a padded batch, with gradient."""
    return model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        use_cache=False,
    ).logits


def batch_logps(model: nn.Module, batch: Batch) -> Float[Tensor, "rows"]:
    """log pi(response | prompt) of every row of a padded batch, with gradient."""
    logits = batch_logits(model, batch)
    return sequence_logps(logits, batch.input_ids, batch.starts, batch.ends)


def autocast(device: torch.device, precision: torch.dtype | None) -> torch.autocast:
    """Matrix products in `precision` inside; None changes nothing."""
    return torch.autocast(device.type, precision, enabled=precision is not None)


def score_responses(
    model: nn.Module,
    responses: Sequence[EncodedResponse],
    pad_id: int,
    *,
    batch_size: int = 32,
    description: str = "scoring",
    progress: bool = True,
    precision: torch.dtype | None = None,
) -> Float[Tensor, "rows"]:
    """Summed log-probabilities of responses under `model`, without gradient, in the given order.

    Rows of similar length share a batch, which saves padding and changes no number. precision:
    the type that matrix products run in (`torch.autocast`), None for the model's own;
    log-probabilities are float32 or better in any case.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    result = torch.empty(len(responses))
    bar = tqdm(total=len(responses), desc=description, unit="answer", disable=not progress)
    with torch.no_grad(), autocast(device, precision):
        for indices in _by_length(responses, batch_size):
            batch = collate([responses[i] for i in indices], pad_id).to(device)
            result[indices] = batch_logps(model, batch).float().cpu()
            bar.update(len(indices))
    bar.close()
    model.train(was_training)
    return result


def score_pairs(
    model: nn.Module,
    pairs: Sequence[EncodedPair],
    pad_id: int,
    *,
    batch_size: int = 16,
    description: str = "scoring",
    progress: bool = True,
) -> ScoredPairs:
    """`score_responses` of both answers of all pairs; `batch_size` counts pairs."""
    logps = score_responses(
        model,
        pair_rows(pairs),
        pad_id,
        batch_size=2 * batch_size,
        description=description,
        progress=progress,
    )
    return ScoredPairs(*logps.chunk(2))


def _by_length(responses: Sequence[EncodedResponse], batch_size: int) -> Iterator[list[int]]:
    """Row numbers in batches, the longest rows first: a lack of memory shows at once."""
    lengths = torch.tensor(array("i", (len(response.input_ids) for response in responses)))
    order = lengths.sort(descending=True, stable=True).indices
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size].tolist()
