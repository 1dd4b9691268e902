"""The fast path beside the plain one, in float64: losses, gradients, and when it stands aside."""

from __future__ import annotations

import doctest
import random

import pytest
import torch
from transformers import (
    BloomConfig,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from dpo_lab import fast, packing
from dpo_lab.adapters import add_adapter
from dpo_lab.batching import EncodedPair, EncodedResponse, collate, pair_rows
from dpo_lab.errors import InputError
from dpo_lab.fast import fast_path, packed_logps, why_not_fast
from dpo_lab.losses import PairLogps, compute_loss
from dpo_lab.packing import pack, packed_size, split_by_tokens
from dpo_lab.scoring import batch_logps

VOCAB = 60
SIZES = {"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
CONFIGS = {
    "llama": LlamaConfig(**SIZES, **IDS),
    "qwen2": Qwen2Config(**SIZES, **IDS, tie_word_embeddings=True),
    "gpt2": GPT2Config(
        vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1,
        eos_token_id=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    ),
    "gemma": GemmaConfig(**SIZES, **IDS, head_dim=8),
}  # fmt: skip
# prompt, chosen and rejected lengths: a prompt of BOS alone, answers of one token
LENGTHS = [(5, 4, 7), (1, 3, 2), (1, 1, 1), (3, 9, 2), (8, 1, 6), (2, 3, 3), (20, 12, 1)]


def make_pairs(seed: int = 0) -> list[EncodedPair]:
    """Random ids; the last pair but one begins both answers alike, beyond the prompt."""
    rng = random.Random(seed)
    pairs = []
    for prompt, chosen, rejected in LENGTHS:
        before = [1, *(rng.randrange(3, VOCAB) for _ in range(prompt - 1))]
        sides = [[*(rng.randrange(3, VOCAB) for _ in range(n - 1)), 2] for n in (chosen, rejected)]
        if (prompt, chosen) == (2, 3):
            sides[1][:2] = sides[0][:2]
        pairs.append(EncodedPair(*(EncodedResponse(before + side, prompt) for side in sides)))
    return pairs


@pytest.fixture
def wide_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers' RMS norms compute in float32 in any case, which would hide 1e-12."""

    def norm(self, x: torch.Tensor) -> torch.Tensor:
        gain = 1 + self.weight if isinstance(self, GemmaRMSNorm) else self.weight
        epsilon = getattr(self, "variance_epsilon", None) or self.eps
        return gain * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)

    for kind in (LlamaRMSNorm, Qwen2RMSNorm, GemmaRMSNorm):
        monkeypatch.setattr(kind, "forward", norm)


def make_model(config, seed: int = 0) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config).double().eval()
        for weight in model.parameters():  # ten times transformers' spread, so attention matters
            weight.data += 0.2 * torch.randn_like(weight)
    return model


def dpo(logps: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    pairs = PairLogps(*logps.chunk(2), *reference.chunk(2))
    return compute_loss("dpo", pairs, 0.3).losses


def gradients(model: PreTrainedModel, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {n: w.grad.clone() for n, w in model.named_parameters() if w.grad is not None}


@pytest.mark.parametrize("name", CONFIGS)
def test_loss_and_every_gradient_equal_the_plain_path(name: str, wide_norms) -> None:
    model, pairs = make_model(CONFIGS[name]), make_pairs()
    plain = collate(pairs, 0)
    with torch.no_grad():
        reference = batch_logps(make_model(CONFIGS[name], seed=9), plain)
    slow = dpo(batch_logps(model, plain), reference).mean()
    expected = gradients(model, slow)
    before = model(plain.input_ids, attention_mask=plain.attention_mask).logits
    with fast_path(model):
        quick = dpo(packed_logps(model, pack(pairs)), reference).mean()
        found = gradients(model, quick)
        # A plain call of the prepared model goes on as before, padding included.
        again = model(plain.input_ids, attention_mask=plain.attention_mask).logits
        assert torch.allclose(again, before, atol=1e-12)
        # In micro-batches of a few tokens the gradients add up to the same.
        model.zero_grad()
        groups = list(split_by_tokens(pairs, 20))
        for group in groups:
            rows = [i + side * len(pairs) for side in (0, 1) for i in group]
            part = [pairs[i] for i in group]
            (dpo(packed_logps(model, pack(part)), reference[rows]).sum() / len(pairs)).backward()
    assert len(groups) > 3
    assert abs((quick - slow).item()) < 1e-12
    assert found.keys() == expected.keys()
    for parameter, right in expected.items():
        size = right.norm()
        assert (found[parameter] - right).norm() <= 1e-12 * size + 1e-15, parameter
        pieces = model.get_parameter(parameter).grad
        assert (pieces - right).norm() <= 1e-12 * size + 1e-15, parameter
    assert model.forward.__func__ is type(model).forward  # the block left nothing behind


def test_rounding_up_changes_no_number(wide_norms, monkeypatch: pytest.MonkeyPatch) -> None:
    """As half precision on CPUs has it, here in float64; by one token, by many, and by none."""
    pairs = make_pairs()
    tokens = sum(map(packed_size, pairs))
    for name, round_to in (("gpt2", tokens + 1), ("qwen2", 70), ("llama", 1)):
        model = make_model(CONFIGS[name])
        with fast_path(model):
            expected = packed_logps(model, pack(pairs))
            right = gradients(model, expected.sum())
            monkeypatch.setattr(packing, "ROUND", round_to)
            monkeypatch.setattr(fast, "_compiles_for_shapes", lambda _: True)
            found = packed_logps(model, pack(pairs))
            wrong_by = {n: (g - right[n]).norm() for n, g in gradients(model, found.sum()).items()}
            monkeypatch.undo()
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
        assert all(wrong_by[n] <= 1e-12 * right[n].norm() + 1e-15 for n in right)


def test_in_half_precision_lengths_are_rounded_up_and_a_narrow_window_does_not_mind() -> None:
    row = packing.round_up(pack(make_pairs()[:2]))
    tokens, targets = row.input_ids.shape[1], len(row.targets)
    assert tokens == row.position_ids.shape[1] == 64
    assert targets == len(row.positions) == 64
    assert sum(map(sum, row.segments)) == 64
    assert torch.equal(packing.round_up(row).input_ids, row.input_ids)
    assert packing.round_up(row).segments == row.segments
    model = make_model(MistralConfig(**SIZES, **IDS, sliding_window=40)).float()
    with fast_path(model), torch.no_grad():
        exact = packed_logps(model, pack(make_pairs()))
        with torch.autocast("cpu", torch.bfloat16):
            half = packed_logps(model, pack(make_pairs()))
    assert not torch.equal(half, exact)
    torch.testing.assert_close(half, exact, atol=1.0, rtol=0.05)


def test_single_responses_are_packed_too(wide_norms) -> None:
    model, rows = make_model(CONFIGS["llama"]), pair_rows(make_pairs())
    with fast_path(model), torch.no_grad():
        packed = packed_logps(model, pack(rows))
    torch.testing.assert_close(packed, batch_logps(model, collate(rows, 0)), atol=1e-12, rtol=0)


def test_with_adapters_only_they_get_gradients(wide_norms) -> None:
    policy, pairs = add_adapter(make_model(CONFIGS["llama"]), r=2, alpha=4.0), make_pairs()
    policy = policy.double().eval()
    for name, weight in policy.named_parameters():
        if "lora_B" in name:
            weight.data.fill_(0.1)
    expected = gradients(policy, batch_logps(policy, collate(pairs, 0)).sum())
    with fast_path(policy):
        found = gradients(policy, packed_logps(policy, pack(pairs)).sum())
    assert found.keys() == expected.keys()
    assert all("lora" in name for name in found)
    for name, right in expected.items():
        torch.testing.assert_close(found[name], right, atol=1e-11, rtol=1e-10)


def test_attention_by_matrix_products_is_that_of_sdpa() -> None:
    """The way of half precision on CPUs, run in float64 beside the other; 4 heads on 2 groups."""
    from dpo_lab import segments

    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 30, 8, generator=generator, dtype=torch.float64)
    key, value = torch.randn(2, 1, 2, 30, 8, generator=generator, dtype=torch.float64)
    parts = [packing.Segment(5, 4, 3), packing.Segment(1, 1, 1), packing.Segment(4, 11, 0)]
    one, other = (
        segments._segment_by_segment(query, key, value, parts, 0.3, way)
        for way in (segments._by_sdpa, segments._by_products)
    )
    torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)
    # And by one dense mask over the whole row, written out.
    mask, start = torch.zeros(30, 30, dtype=torch.bool), 0
    for prompt, chosen, rejected in parts:
        behind, end = start + prompt + chosen, start + prompt + chosen + rejected
        mask[start:behind, start:behind] = True
        mask[behind:end, start : start + prompt] = mask[behind:end, behind:end] = True
        start = end
    scores = 0.3 * query @ key.repeat_interleave(2, 1).mT
    scores = scores.masked_fill(~mask.tril(), -torch.inf).softmax(-1)
    dense = (scores @ value.repeat_interleave(2, 1)).transpose(1, 2)
    torch.testing.assert_close(one, dense, atol=1e-12, rtol=1e-12)


def test_a_wrong_attention_of_half_precision_is_found_out_where_it_is_used(monkeypatch) -> None:
    from dpo_lab import segments

    model, right = make_model(CONFIGS["llama"]).float(), segments._by_products
    assert why_not_fast(model, make_pairs(), 0, torch.bfloat16) is None
    monkeypatch.setattr(segments, "_by_products", lambda q, k, v, scale: right(q, k, v, -scale))
    assert why_not_fast(model, make_pairs(), 0) is None
    assert "log-probs differ by" in why_not_fast(model, make_pairs(), 0, torch.bfloat16)


def test_keys_of_the_one_kernel_path_are_gathered_as_segments_need_them() -> None:
    """Queries stay in place; keys are prompt and chosen, then prompt and rejected."""
    from dpo_lab.segments import _layout

    parts = (packing.Segment(2, 2, 1), packing.Segment(1, 2, 0))
    index, (queries, keys), longest = _layout(parts, torch.device("cpu"))
    assert index.tolist() == [0, 1, 2, 3, 0, 1, 4, 5, 6, 7]
    assert queries.tolist() == [0, 4, 5, 8]
    assert keys.tolist() == [0, 4, 7, 10]
    assert longest == (4, 4)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (MistralConfig(**SIZES, **IDS, sliding_window=6), "no sliding_window"),
        (MistralConfig(**SIZES, **IDS, sliding_window=40), None),  # wider than any row
        (Gemma2Config(**SIZES, **IDS, head_dim=8), "packed and padded log-probs differ|softcap"),
        (BloomConfig(vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4), "AttentionInterface"),
    ],
)
def test_a_model_that_it_does_not_fit_is_found_out(config, reason: str | None) -> None:
    model = make_model(config)
    found = why_not_fast(model, make_pairs(), 0)
    if reason is None:
        assert found is None
    else:
        assert any(part in found for part in reason.split("|")), found
    assert model.forward.__func__ is type(model).forward


def test_a_model_that_ignores_segments_is_found_out_by_its_numbers(monkeypatch) -> None:
    from dpo_lab import segments

    model = make_model(CONFIGS["llama"])
    assert why_not_fast(model, make_pairs(), 0) is None
    honest = segments.segment_attention
    monkeypatch.setattr(
        segments,
        "segment_attention",
        lambda *given, segments=None, **more: honest(
            *given, segments=segments and [packing.Segment(0, sum(map(sum, segments)), 0)], **more
        ),
    )
    assert "log-probs differ by" in why_not_fast(model, make_pairs(), 0)
    monkeypatch.undo()
    segments.register()


def test_packing_by_hand_and_bad_rows() -> None:
    assert doctest.testmod(packing).failed == 0
    pairs = make_pairs()
    assert [packed_size(pair) for pair in pairs] == [sum(lengths) for lengths in LENGTHS]
    assert [list(group) for group in split_by_tokens(pairs, 20)] == [
        [0],
        [1, 2],
        [3],
        [4],
        [5],
        [6],
    ]
    assert [list(group) for group in split_by_tokens(pairs, 1000)] == [list(range(7))]
    with pytest.raises(InputError, match="nothing to pack"):
        pack([])
    with pytest.raises(InputError, match="pair 0: the two sides have different prompts"):
        pack([EncodedPair(pairs[0].chosen, pairs[1].rejected)])
    with pytest.raises(InputError, match="row 0: prompt and response need"):
        pack([EncodedResponse([1, 2], 2)])
    with pytest.raises(InputError, match="at least 1, got 0"):
        list(split_by_tokens(pairs, 0))
