"""Three steps of DPO on the fast path, weights sharded over all processes; prints the losses.

Started by a launcher; in a single process nothing is sharded. Dropped into by test_processes.py.
"""

from __future__ import annotations

import json
import os
import sys

import torch
from torch import distributed
from torch.distributed.fsdp import fully_shard

from dpo_lab.batching import encode_pairs
from dpo_lab.fast import packed_logps, use_fast_path
from dpo_lab.losses import PairLogps, compute_loss
from dpo_lab.models import load_policy, load_tokenizer
from dpo_lab.packing import pack
from dpo_lab.pairs import read_pairs


def main(folder: str, file: str) -> None:
    """Train on 8 pairs a step, each process on its part."""
    size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    model = load_policy(folder)
    use_fast_path(model)
    if size > 1:
        distributed.init_process_group("gloo")
        for layer in model.model.layers:
            fully_shard(layer)
        fully_shard(model)
        kinds = {type(weight).__name__ for weight in model.parameters()}
        assert kinds == {"DTensor"}, kinds
    pairs, _ = encode_pairs(load_tokenizer(folder), read_pairs(file)[0], 64)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for step in range(3):
        batch = pack(pairs[8 * step : 8 * step + 8][rank::size])
        chosen, rejected = packed_logps(model, batch).chunk(2)
        reference = torch.full_like(chosen, -50.0)
        rows = PairLogps(chosen, rejected, reference, reference)
        loss = compute_loss("dpo", rows, 0.1).losses.mean()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        total = loss.detach()
        if size > 1:
            distributed.all_reduce(total)
        losses.append(total.item() / size)
    if rank == 0:
        print(json.dumps(losses))
    if size > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
