"""TRL's own loss block as a second implementation, fed with per-token log-probabilities."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from dpo_lab.losses import PairLogps, compute_loss

pytestmark = pytest.mark.slow
E = {"label_smoothing": 0.1}
FORWARD, JS = {"f_divergence_type": "forward_kl"}, {"f_divergence_type": "js_divergence"}
ALPHA = {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7}
# our name, our options, TRL's loss_type, TRL's settings
NAMES = [
    ("sigmoid", {}, "sigmoid", {}),
    ("robust", E, "robust", {}),
    ("hinge", {}, "hinge", {}),
    ("ipo", {}, "ipo", {}),
    ("exo_pair", E, "exo_pair", {}),
    ("nca_pair", {}, "nca_pair", {}),
    ("bco_pair", {}, "bco_pair", {}),
    ("sppo_hard", {}, "sppo_hard", {}),
    ("aot", E, "aot", {}),
    ("aot_unpaired", E, "aot_unpaired", {}),
    ("apo_zero", {}, "apo_zero", {}),
    ("apo_down", {}, "apo_down", {}),
    ("discopop", {}, "discopop", {}),
    ("sigmoid_norm", {}, "sigmoid_norm", {}),
    ("fdpo_forward_kl", {}, "sigmoid", FORWARD),
    ("fdpo_js", {}, "sigmoid", JS),
    ("fdpo_alpha", {"f_alpha": 0.3}, "sigmoid", ALPHA),
]
# TRL computes EXO's epsilon in float32, and bfloat16 has 8 bits; sums of it differ by order.
TOLERANCE = {torch.float64: 1e-7, torch.float32: 2e-5, torch.bfloat16: 5e-2}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("beta", [0.1, 0.5])
@pytest.mark.parametrize(("name", "options", "loss_type", "settings"), NAMES)
def test_trl_agrees(name, options, loss_type, settings, beta, dtype):
    """Mean loss and logged rewards, for five numbers of pairs with answers of many lengths."""
    pytest.importorskip("trl", minversion="1.16", reason="no TRL, or one without its fused head")
    trainer = pytest.importorskip("trl.trainer.dpo_trainer")
    if settings is ALPHA and dtype is torch.float64:
        pytest.skip("TRL's alpha-divergence has no float64")
    for pairs in (1, 2, 3, 8, 33):
        generator = torch.Generator().manual_seed(pairs)
        lengths = torch.randint(1, 8, (2 * pairs,), generator=generator)
        mask = torch.arange(9) < 2 + lengths[:, None]
        mask[:, :2] = False
        tokens = -torch.rand(2, 2 * pairs, 9, generator=generator, dtype=torch.float64)
        policy, ref = (tokens * mask).to(dtype)
        batch = {
            "input_ids": torch.zeros(2 * pairs, 9, dtype=torch.long),
            "completion_mask": mask.long(),
            "ref_chosen_logps": ref.sum(1)[:pairs],
            "ref_rejected_logps": ref.sum(1)[pairs:],
        }
        stub = _trl_stub(loss_type, beta, **settings)
        theirs = trainer.DPOTrainer._compute_loss(stub, _trl_model(policy[:, 1:]), batch, False)
        sums = [*policy[:, 1:].sum(1).chunk(2), *ref.sum(1).chunk(2)]
        ours = compute_loss(name, PairLogps(*sums, *lengths.chunk(2)), beta, **options)
        near = {"abs": TOLERANCE[dtype], "rel": TOLERANCE[dtype]}
        assert ours.losses.mean().item() == pytest.approx(theirs.item(), **near)
        for metric in ("chosen", "rejected"):
            logged = stub._metrics["eval"][f"rewards/{metric}"][0]
            value = getattr(ours, f"{metric}_rewards").mean().item()
            assert value == pytest.approx(logged, **near)


def _trl_model(token_logps: torch.Tensor):
    """A stand-in for a model with TRL's fused head: it returns the given log-probabilities."""
    zeros = torch.zeros_like(token_logps)
    return lambda **_: SimpleNamespace(
        log_probs=token_logps, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool()
    )


def _trl_stub(loss_type: str, beta: float, **settings) -> SimpleNamespace:
    """What TRL's loss block reads from its trainer."""
    alone = SimpleNamespace(
        device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x
    )
    return SimpleNamespace(
        model=SimpleNamespace(training=False),
        accelerator=alone,
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        loss_types=[loss_type],
        loss_weights=[1.0],
        beta=beta,
        use_weighting=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        label_smoothing=0.1,
        args=SimpleNamespace(discopop_tau=0.05),
        **({"ld_alpha": None, "f_divergence_type": "reverse_kl"} | settings),
    )
