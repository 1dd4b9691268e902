"""Log-probabilities of 10,000 pairs of tiny reviews: the library beside a plain loop.

    python bench/scoring.py [--output FILE.json]

The plain loop is what one would write with transformers alone: 16 pairs a batch in their order,
padded, logits of every token, log_softmax. All numbers must agree before anything is reported.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor, nn

from dpo_lab.batching import EncodedPair, encode_pairs, padding_id, pair_rows
from dpo_lab.bench.tables import Table, publish
from dpo_lab.fast import score_packed
from dpo_lab.models import load_policy, load_tokenizer
from dpo_lab.reviews import sample_pairs
from dpo_lab.scoring import score_responses
from dpo_lab.training.starting_model import StartConfig, starting_model

PAIRS, BATCH, BUDGET, ROUNDS, TOLERANCE = 10_000, 16, 4096, 3, 1e-3


@torch.no_grad()
def plain_loop(model: nn.Module, pairs: list[EncodedPair], pad_id: int) -> Tensor:
    """Summed log-probabilities, all chosen answers, then all rejected ones."""
    sums: list[list[Tensor]] = [[], []]
    for start in range(0, len(pairs), BATCH):
        rows = pair_rows(pairs[start : start + BATCH])
        ids = torch.full((len(rows), max(len(row.input_ids) for row in rows)), pad_id)
        real, answer = torch.zeros_like(ids), torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row.input_ids)] = torch.tensor(row.input_ids)
            real[i, : len(row.input_ids)] = 1
            answer[i, row.prompt_length : len(row.input_ids)] = 1
        logits = model(input_ids=ids, attention_mask=real).logits[:, :-1]
        logps = logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
        for side, part in zip(sums, (logps * answer[:, 1:]).sum(-1).chunk(2), strict=True):
            side.append(part)
    return torch.cat(sums[0] + sums[1])


def main() -> None:
    """Time the three ways in turn."""
    folder = starting_model(StartConfig())
    tokenizer, model = load_tokenizer(folder), load_policy(folder).eval()
    pairs, _ = encode_pairs(tokenizer, sample_pairs(PAIRS, seed=3), 64)
    pad_id = padding_id(tokenizer)
    ways = {
        "plain loop": lambda: plain_loop(model, pairs, pad_id),
        "dpo_lab, sorted by length": lambda: score_responses(
            model, pair_rows(pairs), pad_id, progress=False
        ),
        "dpo_lab, packed": lambda: score_packed(model, pairs, BUDGET, progress=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        found = {}
        for name, way in ways.items():
            begin = time.perf_counter()
            found[name] = way()
            seconds[name].append(time.perf_counter() - begin)
        worst = max((found["plain loop"] - other).abs().max().item() for other in found.values())
        if worst > TOLERANCE:
            raise SystemExit(f"log-probabilities differ by {worst:.2g} nats")
    medians = {name: statistics.median(spent) for name, spent in seconds.items()}
    rows = [
        (
            name,
            f"{median:.3g} ({min(seconds[name]):.3g}–{max(seconds[name]):.3g})",
            f"{len(pairs) / median:.0f}",
            f"{medians['plain loop'] / median:.2f}",
        )
        for name, median in medians.items()
    ]
    note = f"{len(pairs)} pairs, {ROUNDS} rounds, numbers at most {worst:.0e} nats apart."
    publish(Table(("", "s", "pairs/s", "× the plain loop"), rows, note))


if __name__ == "__main__":
    main()
