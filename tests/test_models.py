"""Models and tokenizers: what is loaded, what is refused, what stays the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from dpo_lab.errors import InputError
from dpo_lab.models import (
    SmallModelConfig,
    build_model,
    disable_dropout,
    freeze_reference,
    load_policy,
    load_tokenizer,
    model_hash,
    train_tokenizer,
)

TINY = SmallModelConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["the soup was warm", "the film was long"], vocab_size=300)


@pytest.mark.parametrize("text", ["the soup", "naïve 🍲 日本", " two  spaces\n\tand a tab", "\x00"])
def test_any_text_survives_the_byte_level_tokenizer(tokenizer, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == text


def test_special_tokens_are_three_different_ids(tokenizer) -> None:
    ids = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    assert len(ids) == 3
    assert None not in ids


def test_a_vocabulary_without_room_for_bytes_is_refused() -> None:
    with pytest.raises(InputError, match="259"):
        train_tokenizer(["a"], vocab_size=258)


def test_the_seed_decides_the_weights_and_leaves_the_callers_generator_alone(tokenizer) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    same = [model_hash(build_model(tokenizer, TINY, seed=7)) for _ in range(2)]
    assert torch.rand(1) == expected
    assert same[0] == same[1] != model_hash(build_model(tokenizer, TINY, seed=8))


def test_hash_sees_a_single_changed_bit(tokenizer) -> None:
    model = build_model(tokenizer, TINY)
    before = model_hash(model)
    with torch.no_grad():
        weight = next(model.parameters())
        weight.view(-1)[3] = torch.nextafter(weight.view(-1)[3], torch.tensor(9.0))
    assert model_hash(model) != before


def test_saved_and_loaded_model_is_the_same(tokenizer, tmp_path: Path) -> None:
    model = build_model(tokenizer, TINY)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert model_hash(load_policy(tmp_path)) == model_hash(model)
    assert load_tokenizer(tmp_path)("the soup")["input_ids"] == tokenizer("the soup")["input_ids"]


def test_disable_dropout_makes_training_mode_deterministic() -> None:
    """GPT-2 drops in its embeddings, its attention and its residual branches by default."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    model = GPT2LMHeadModel(config).train()
    ids = torch.arange(12)[None]
    assert not torch.equal(model(ids).logits, model(ids).logits)
    disable_dropout(model)
    assert torch.equal(model(ids).logits, model(ids).logits)


def test_a_frozen_reference_takes_no_gradient(tokenizer) -> None:
    model = freeze_reference(build_model(tokenizer, TINY))
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("no model")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    for name, message in (
        ("empty", "not a model folder"),
        ("file.txt", "not a model folder but a file"),
        ("broken", "no model could be loaded"),
        ("nowhere", "no such folder"),
    ):
        with pytest.raises(InputError, match=message):
            load_policy(tmp_path / name)


def test_a_tokenizer_without_eos_is_refused(tokenizer, tmp_path: Path) -> None:
    endless = train_tokenizer(["a b"], vocab_size=300)
    endless.eos_token = None
    endless.save_pretrained(tmp_path)
    build_model(tokenizer, TINY).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no EOS"):
        load_tokenizer(tmp_path)
