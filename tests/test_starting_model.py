"""The model that experiments start from: made once, kept, and better than chance at its text."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpo_lab.cli import main
from dpo_lab.models import load_policy, load_tokenizer, model_hash
from dpo_lab.reviews import WORDS, sample_prompt
from dpo_lab.sampling import sample_responses
from dpo_lab.training.starting_model import StartConfig, starting_model

SMALL = StartConfig(
    world_pairs=1000,
    num_train_epochs=4.0,
    learning_rate=3e-3,
    vocab_size=320,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
)


@pytest.mark.slow
def test_it_is_made_once_and_speaks_the_language(cache: Path) -> None:
    import random

    said: list[str] = []
    folder = starting_model(SMALL, said.append)
    assert folder.parent == cache
    before = model_hash(load_policy(folder))
    assert starting_model(SMALL, said.append) == folder
    assert len(said) == 1  # the second time it was there
    assert model_hash(load_policy(folder)) == before
    assert list(cache.iterdir()) == [folder]
    rng = random.Random(0)
    samples = sample_responses(
        load_policy(folder),
        load_tokenizer(folder),
        [sample_prompt(rng) for _ in range(40)],
        max_new_tokens=40,
        progress=False,
    )
    fluent = [
        text.startswith(" was ") and any(word in text.split() for word in WORDS)
        for text in samples.texts
    ]
    assert sum(fluent) > 30
    assert samples.share_cut < 0.2


def test_another_configuration_is_another_model(cache: Path, capsys) -> None:
    words = ["--world_pairs", "20", "--hidden_size", "16", "--num_hidden_layers", "1"]
    words += ["--num_attention_heads", "2", "--vocab_size", "300", "--num_train_epochs", "1"]
    folders = []
    for seed in ("0", "1", "0"):
        assert main(["start", *words, "--seed", seed]) == 0
        folders.append(capsys.readouterr().out.splitlines()[-1])
    assert folders[0] == folders[2] != folders[1]
    assert main(["start", "--hidden_size", "30"]) == 2
    assert "hidden_size must be a multiple" in capsys.readouterr().err
