"""Micro-batches that add up to one batch where a loss can; the others are known."""

from __future__ import annotations

import pytest
import torch
from training_fixtures import make_trainer

from dpo_lab.batching import pair_rows
from dpo_lab.losses import LOSSES
from dpo_lab.scoring import ScoredPairs, score_responses
from dpo_lab.training.examples import Mismatches, attach_reference
from dpo_lab.training.mismatches import mismatched_pairs
from dpo_lab.training.objective import LossConfig

# One for each way in which a loss gets its numbers; test_losses_all.py has every loss by itself.
NAMES = ["dpo", "ipo_avg", "sppo_hard", "bco_pair", "simpo", "cpo", "rainbowpo", "odpo"]
NAMES += ["tdpo2", "wpo", "ld_dpo"]
NAMES += [name for name, spec in LOSSES.items() if not spec.accumulation_invariant]


@pytest.mark.parametrize("name", NAMES)
def test_accumulated_micro_batches_are_one_batch_where_the_table_says_so(
    name, tiny_model, other_model, encoded, tmp_path
) -> None:
    """One SGD step on 8 pairs, as 1 x 8 and as 4 x 2, from a policy that is not the reference."""
    pairs, model = encoded[:8], other_model.float()
    generator = torch.Generator().manual_seed(0)
    # AOT sorts: only where policy and reference order the pairs unlike does it see the batch.
    spread = 20 if name == "aot" else 2

    def reference_of(rows: list) -> torch.Tensor:
        """Sums some nats below and around the policy's, as a far reference would have them."""
        scored = score_responses(model, rows, 0, progress=False)
        return (scored - 1 + spread * torch.randn(len(rows), generator=generator)).clamp(max=-0.1)

    mismatches = None
    if name == "kto":
        others = mismatched_pairs(pairs, 64, seed=3)
        mismatches = Mismatches(others, reference_of(pair_rows(others)))
    margins = [0.5 * (1 + index % 3) for index in range(8)]
    scored = ScoredPairs(*reference_of(pair_rows(pairs)).chunk(2))
    examples = attach_reference(pairs, scored, margins, mismatches)
    # A running shift depends on the batches; with a fixed one BCO does not.
    options = {"shift": 0.0} if name == "bco_pair" else {}
    losses = LossConfig({name: 1.0}, options=options)
    start = model.state_dict()
    ends = []
    for size, accumulation in ((8, 1), (2, 4)):
        trainer = make_trainer(
            tiny_model,
            examples,
            tmp_path,
            losses,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
            optim="sgd",
            learning_rate=1.0,
            max_grad_norm=1.0,  # SPPO's gradient is some hundred times the others'
            lr_scheduler_type="constant",
            max_steps=1,
            seed=0,
        )
        trainer.model.load_state_dict(start)
        trainer.train()
        moved = torch.cat(
            [(p.detach() - start[n]).flatten() for n, p in trainer.model.named_parameters()]
        ).double()
        ends.append(moved)
    off = (ends[0] - ends[1]).norm() / ends[0].norm()
    assert bool(off < 1e-5) == LOSSES[name].accumulation_invariant, off
