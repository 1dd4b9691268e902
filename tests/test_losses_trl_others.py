"""TRL's CPO, ORPO and KTO trainers as a second implementation, from logits to the loss.

Three differences are conventions, and are tested as such. TRL's likelihood term is the mean over
all chosen tokens of the micro-batch, ours is each answer's sum (`cpo`) or mean (`orpo`); they meet
where all answers are equally long. ORPO's takes in the prompt, of which only tokens after the
first count: prompts here have one. KTO's z0 is fed in; TRL's data set makes its mismatched pairs.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from dpo_lab.losses import AnswerLogps, PairLogps, compute_answer_loss, compute_loss

pytestmark = pytest.mark.slow
PAIRS = (1, 2, 3, 8, 33)
LONGEST, VOCABULARY = 7, 11
ALONE = SimpleNamespace(
    device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x
)
TOLERANCE = {torch.float64: 1e-7, torch.float32: 2e-5, torch.bfloat16: 5e-2}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)
BETAS = pytest.mark.parametrize("beta", [0.1, 0.5])
# our name, our options besides cpo_alpha, TRL's settings
CPO = [
    ("cpo", {}, {"loss_type": "sigmoid"}),
    ("simpo", {"simpo_gamma": 0.5}, {"loss_type": "simpo", "simpo_gamma": 0.5}),
    (
        "alphapo",
        {"simpo_gamma": 0.5, "alphapo_alpha": 0.25},
        {"loss_type": "simpo", "simpo_gamma": 0.5, "alpha": 0.25},
    ),
]


def batch_of(pairs: int, dtype: torch.dtype, lengths: torch.Tensor | None = None):
    """A micro-batch with one prompt token, its logits, and the same pairs as `PairLogps`."""
    generator = torch.Generator().manual_seed(pairs)
    if lengths is None:
        lengths = torch.randint(1, LONGEST + 1, (2 * pairs,), generator=generator)
    ids = torch.randint(VOCABULARY, (2 * pairs, 1 + LONGEST), generator=generator)
    logits = torch.randn(*ids.shape, VOCABULARY, generator=generator, dtype=torch.float64)
    logits = logits.to(dtype)
    place = torch.arange(1 + LONGEST)
    present = place < 1 + lengths[:, None]
    labels = torch.where(present & (place > 0), ids, -100)
    batch = {}
    for side, rows in (("chosen", slice(pairs)), ("rejected", slice(pairs, None))):
        batch[f"{side}_input_ids"] = ids[rows]
        batch[f"{side}_attention_mask"] = present[rows].long()
        batch[f"{side}_labels"] = labels[rows]
    tokens = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2)
    sums = (tokens * present[:, 1:]).sum(1)
    chosen, rejected = lengths.chunk(2)
    ours = PairLogps(*sums.chunk(2), chosen_lengths=chosen, rejected_lengths=rejected)
    return batch, logits, ours


def trl_metrics(trainer: type, batch: dict, logits: torch.Tensor, beta: float, **settings):
    """The loss and the metrics of a TRL trainer whose model returns these logits."""
    stub = SimpleNamespace(
        accelerator=ALONE, aux_loss_enabled=False, is_encoder_decoder=False, beta=beta
    )
    stub.padding_value = stub.pad_token_id = stub.label_smoothing = stub.alpha = 0
    for name, value in settings.items():
        setattr(stub, name, value)
    stub.concatenated_inputs = trainer.concatenated_inputs
    stub.get_batch_logps = trainer.get_batch_logps
    for method in ("concatenated_forward", "cpo_loss", "odds_ratio_loss"):
        if hasattr(trainer, method):
            setattr(stub, method, partial(getattr(trainer, method), stub))
    model = lambda *_, **__: SimpleNamespace(logits=logits)  # noqa: E731
    return trainer.get_batch_loss_metrics(stub, model, batch, "eval")


def assert_rewards(ours, metrics: dict, near: dict) -> None:
    for side in ("chosen", "rejected"):
        value = getattr(ours, f"{side}_rewards").mean().item()
        assert value == pytest.approx(metrics[f"eval_rewards/{side}"], **near)


@DTYPES
@BETAS
@pytest.mark.parametrize(("name", "options", "settings"), CPO)
def test_cpo_simpo_and_alphapo_agree_without_the_likelihood_term(
    name, options, settings, beta, dtype
):
    trl = pytest.importorskip("trl.experimental.cpo", reason="TRL is not installed")
    near = {"abs": TOLERANCE[dtype], "rel": TOLERANCE[dtype]}
    if name == "cpo":
        options = {"cpo_alpha": 0.0}
    for pairs in PAIRS:
        batch, logits, logps = batch_of(pairs, dtype)
        theirs, metrics = trl_metrics(
            trl.CPOTrainer, batch, logits, beta, cpo_alpha=0.0, **settings
        )
        ours = compute_loss(name, logps, beta, **options)
        assert ours.losses.mean().item() == pytest.approx(theirs.item(), **near)
        if name != "alphapo":  # TRL logs the reshaped reward there, we log beta * average
            assert_rewards(ours, metrics, near)


@DTYPES
@BETAS
def test_cpo_s_likelihood_term_is_a_token_mean_in_trl(beta, dtype):
    """With T tokens in every answer our sum is T times TRL's mean; else they only share a form."""
    trl = pytest.importorskip("trl.experimental.cpo", reason="TRL is not installed")
    near = {"abs": TOLERANCE[dtype], "rel": TOLERANCE[dtype]}
    settings = {"loss_type": "sigmoid", "cpo_alpha": 0.7}
    for pairs in PAIRS:
        batch, logits, logps = batch_of(pairs, dtype, torch.full((2 * pairs,), 5))
        theirs, _ = trl_metrics(trl.CPOTrainer, batch, logits, beta, **settings)
        ours = compute_loss("cpo", logps, beta, cpo_alpha=0.7 / 5)
        assert ours.losses.mean().item() == pytest.approx(theirs.item(), **near)
    batch, logits, logps = batch_of(8, dtype)
    _, metrics = trl_metrics(trl.CPOTrainer, batch, logits, beta, **settings)
    token_mean = -logps.policy_chosen.double().sum() / logps.chosen_lengths.sum()
    assert metrics["eval_nll_loss"] == pytest.approx(token_mean.item(), **near)


@DTYPES
@BETAS
@pytest.mark.parametrize("equal", [True, False])
def test_orpo_agrees(beta, dtype, equal):
    """Whole where answers are equally long, else without the likelihood term of each."""
    trl = pytest.importorskip("trl.experimental.orpo", reason="TRL is not installed")
    tolerance = max(TOLERANCE[dtype], 1e-6)  # TRL computes the odds in float32
    near = {"abs": tolerance, "rel": tolerance}
    for pairs in PAIRS:
        batch, logits, logps = batch_of(
            pairs, dtype, torch.full((2 * pairs,), 5) if equal else None
        )
        theirs, metrics = trl_metrics(trl.ORPOTrainer, batch, logits, beta)
        ours = compute_loss("orpo", logps, beta)
        gap = 0.0
        if not equal:
            means = -logps.policy_chosen / logps.chosen_lengths
            gap = means.mean().item() - metrics["eval_nll_loss"]
        assert ours.losses.mean().item() - gap == pytest.approx(theirs.item(), **near)
        assert_rewards(ours, metrics, near)


@DTYPES
@BETAS
@pytest.mark.parametrize("loss_type", ["kto", "apo_zero_unpaired"])
@pytest.mark.parametrize("shift", [-3.0, 3.0])
def test_kto_and_unpaired_apo_zero_agree(loss_type, shift, beta, dtype):
    """z0 clamped at 0 (shift < 0) and above it; answers of both kinds, or of one by chance."""
    pytest.importorskip("trl", minversion="1.16", reason="no TRL, or one without its fused head")
    trainer = pytest.importorskip("trl.trainer.kto_trainer")
    near = {"abs": TOLERANCE[dtype], "rel": TOLERANCE[dtype]}
    weights = {"desirable_weight": 1.3, "undesirable_weight": 0.6}
    for answers in PAIRS:
        generator = torch.Generator().manual_seed(answers)
        draw = -torch.rand(4, answers, LONGEST, generator=generator, dtype=torch.float64)
        policy, ref, policy_kl, ref_kl = draw.to(dtype)
        policy_kl = policy_kl + min(shift, 0) / LONGEST
        ref_kl = ref_kl - max(shift, 0) / LONGEST
        labels = torch.rand(answers, generator=generator) < 0.5
        stub = _kto_stub(trainer.KTOTrainer, loss_type, beta, **weights)
        batch = _kto_batch(labels, ref.sum(1), ref_kl.sum(1))
        theirs = trainer.KTOTrainer._compute_loss(stub, _kto_model(policy, policy_kl), batch, False)
        logps = AnswerLogps(policy.sum(1), ref.sum(1), labels)
        if loss_type == "kto":
            mismatched = {"mismatched_logratios": policy_kl.sum(1) - ref_kl.sum(1)}
            ours = compute_answer_loss("kto", logps, beta, inputs=mismatched, **weights)
            assert (stub._metrics["eval"]["kl"][0] > 0) == (shift > 0)
        else:
            ours = compute_answer_loss("kto_simplified", logps, beta, **weights)
        assert ours.losses.mean().item() == pytest.approx(theirs.item(), **near)
        for side, mine in (("chosen", labels), ("rejected", ~labels)):
            if mine.any():
                logged = stub._metrics["eval"][f"rewards/{side}"][0]
                assert ours.rewards[mine].mean().item() == pytest.approx(logged, **near)


def _kto_stub(trainer: type, loss_type: str, beta: float, **weights: float) -> SimpleNamespace:
    """What TRL's KTO loss block reads from its trainer."""
    stub = SimpleNamespace(
        model=SimpleNamespace(training=False),
        accelerator=ALONE,
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        calculate_KL=loss_type == "kto",
        loss_type=loss_type,
        beta=beta,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        **weights,
    )
    stub._compute_kl_logps = partial(trainer._compute_kl_logps, stub)
    return stub


def _kto_batch(labels: torch.Tensor, ref: torch.Tensor, ref_kl: torch.Tensor) -> dict:
    """Token ids are 0 for the answers and 1 for the mismatched pairs; every token counts."""
    ids = torch.zeros(len(labels), 1 + LONGEST, dtype=torch.long)
    ones = torch.ones_like(ids)
    batch = {"input_ids": ids, "attention_mask": ones, "completion_mask": ones}
    batch |= {"KL_input_ids": ones, "KL_attention_mask": ones, "KL_completion_mask": ones}
    return batch | {"label": labels, "ref_logps": ref, "ref_KL_logps": ref_kl}


def _kto_model(policy: torch.Tensor, policy_kl: torch.Tensor):
    """A stand-in for a model with TRL's fused head: it returns the given log-probabilities."""

    def model(input_ids: torch.Tensor, **_) -> SimpleNamespace:
        chosen = policy_kl if bool(input_ids[0, 0]) else policy
        zeros = torch.zeros_like(chosen)
        return SimpleNamespace(log_probs=chosen, entropy=zeros, mean_logits=zeros)

    return model
