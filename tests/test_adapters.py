"""Adapters saved alone: merged when loaded, and refused on another base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from dpo_lab.adapters import BASE, WEIGHTS, add_adapter, save_adapter
from dpo_lab.errors import InputError
from dpo_lab.models import (
    SmallModelConfig,
    build_model,
    load_policy,
    load_tokenizer,
    model_hash,
)


@pytest.fixture
def adapter(tiny_model: Path, tmp_path: Path) -> Path:
    """Adapters of the tiny model whose weights are not zero, beside a copy of their base."""
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    policy = load_policy(base)
    base_sha256 = model_hash(policy)
    policy = add_adapter(policy, r=2, alpha=4.0)
    with torch.no_grad():
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.01)
    save_adapter(policy, tmp_path / "adapter", load_tokenizer(base), base_sha256)
    return tmp_path / "adapter"


def test_loaded_it_is_the_base_plus_the_product_of_its_two_factors(adapter: Path) -> None:
    base, merged = load_policy(adapter.with_name("base")), load_policy(adapter)
    weight = "model.layers.0.self_attn.q_proj.weight"
    from safetensors.torch import load_file

    parts = load_file(adapter / WEIGHTS)
    low, high = (parts[f"base_model.model.{weight[:-7]}.lora_{x}.weight"] for x in "AB")
    moved = merged.get_parameter(weight) - base.get_parameter(weight)
    torch.testing.assert_close(moved, 4.0 / 2 * high @ low)
    assert moved.abs().max() > 1e-3


def test_a_base_whose_weights_have_changed_is_named(adapter: Path) -> None:
    base = load_policy(adapter.with_name("base"))
    with torch.no_grad():
        base.model.embed_tokens.weight += 0.01
    base.save_pretrained(adapter.with_name("base"))
    with pytest.raises(InputError, match=r"adapter: an adapter for another base; .* other weights"):
        load_policy(adapter)


def test_a_base_of_other_shapes_is_named_where_no_hash_tells(adapter: Path, tmp_path) -> None:
    """Adapters of another program carry no hash of their base."""
    (adapter / BASE).unlink()
    size = SmallModelConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=2)
    build_model(load_tokenizer(adapter), size).save_pretrained(tmp_path / "wide")
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(tmp_path / "wide")
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"an adapter for another base than .*wide"):
        load_policy(adapter)


def test_without_a_base_or_safetensors_there_is_one_message(adapter: Path) -> None:
    shutil.rmtree(adapter.with_name("base"))
    with pytest.raises(InputError, match="base: no such folder"):
        load_policy(adapter)
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")
    with pytest.raises(InputError, match="pickled weights are not read"):
        load_policy(adapter)


def test_adapters_without_a_tokenizer_have_that_of_their_base(adapter: Path) -> None:
    own = load_tokenizer(adapter).get_vocab()
    for file in adapter.glob("tokenizer*"):
        file.unlink()
    assert load_tokenizer(adapter).get_vocab() == own
