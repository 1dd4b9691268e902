"""The reference's cached log-probabilities, through a whole run: used where nothing that they
depend on has changed, and never where anything has.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dpo_lab.errors import InputError
from dpo_lab.models import load_policy, load_tokenizer, train_tokenizer
from dpo_lab.pairs import PreferencePair, read_pairs, write_pairs
from dpo_lab.training import recipe
from dpo_lab.training.config import TrainConfig
from dpo_lab.training.task import Task, rows_of


class Ready(Exception):  # noqa: N818 (no error: as far as these tests go)
    """Everything is there that training needs."""


class Runs:
    """Runs up to where training would begin, and the rows that the reference had to score."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder, self.count, self.scored = folder, 0, []
        score = Task._score

        def watched(task: Task, model: torch.nn.Module, encoded: list, *rest: object) -> object:
            self.scored.append([tuple(row.input_ids) for row in rows_of(encoded)])
            return score(task, model, encoded, *rest)

        def stop(*_: object) -> None:
            raise Ready

        monkeypatch.setattr(Task, "_score", watched)
        monkeypatch.setattr(recipe, "companions", stop)

    def scored_by(self, config: TrainConfig) -> list[list[tuple[int, ...]]]:
        """One run; what was scored anew, training part and held-out part."""
        self.count, self.scored = self.count + 1, []
        with pytest.raises(Ready):
            recipe.train(replace(config, output_dir=str(self.folder / f"run-{self.count}")), print)
        return self.scored


def copied(model: Path, folder: Path, change: Callable[[torch.nn.Module], object]) -> str:
    """A copy of a model that is changed."""
    shutil.copytree(model, folder)
    changed = load_policy(model)
    change(changed)
    changed.save_pretrained(folder)
    return str(folder)


def one_weight(model: torch.nn.Module) -> None:
    with torch.no_grad():
        next(model.parameters())[5, 0] += 1e-3


def another_weight(model: torch.nn.Module) -> None:
    with torch.no_grad():
        next(model.parameters())[6, 0] += 1e-3


def more_heads(model: torch.nn.Module) -> None:
    """The same weights, cut into heads in another way."""
    config = model.config
    config.num_attention_heads = config.num_key_value_heads = 4
    config.head_dim = config.hidden_size // 4


def other_words(model: Path, folder: Path, pairs: list[PreferencePair]) -> str:
    """The same weights behind a tokenizer that learned from other texts."""
    shutil.copytree(model, folder)
    texts = [pair.chosen[::-1] for pair in pairs]
    tokenizer = train_tokenizer(texts, vocab_size=len(load_tokenizer(model)))
    tokenizer.save_pretrained(folder)
    return str(folder)


def moved_word(pair: PreferencePair) -> PreferencePair:
    """The same text; the last word of the prompt belongs to the answers."""
    prompt, _, word = pair.prompt.rpartition(" ")
    answers = {"chosen": f" {word}{pair.chosen}", "rejected": f" {word}{pair.rejected}"}
    return pair._replace(prompt=prompt, **answers)


@pytest.fixture
def base(pair_file, tiny_model, tmp_path) -> TrainConfig:
    """64 pairs to train on, the first 8 of them to evaluate on."""
    held_out = tmp_path / "held_out.jsonl"
    write_pairs(read_pairs(pair_file)[0][:8], held_out)
    return TrainConfig(
        pairs=str(pair_file),
        eval_pairs=str(held_out),
        model=str(tiny_model),
        max_length=64,
        sample_prompts=0,
        max_steps=1,
    )


def test_cached_scores_are_used_for_nothing_else(
    base, pair_file, tiny_model, cache, tmp_path, monkeypatch
) -> None:
    runs = Runs(monkeypatch, tmp_path)
    train, held_out = runs.scored_by(base)
    assert (len(train), len(held_out)) == (128, 16)
    assert runs.scored_by(base) == []
    assert runs.scored_by(replace(base, learning_rate=1e-3, seed=3, loss=["ipo_avg"])) == []
    assert runs.scored_by(replace(base, model=copied(tiny_model, tmp_path / "c", id))) == []

    pairs = read_pairs(pair_file)[0]
    spans, word = tmp_path / "spans.jsonl", tmp_path / "word.jsonl"
    write_pairs([moved_word(pair) for pair in pairs], spans)
    write_pairs([*pairs[:-1], pairs[-1]._replace(chosen=pairs[-1].chosen + " so")], word)
    (changed,) = runs.scored_by(replace(base, pairs=str(word)))  # not the held-out part
    assert sum(a != b for a, b in zip(changed, train, strict=True)) == 1
    assert sorted(runs.scored_by(replace(base, pairs=str(spans)))) == sorted([train])

    others = {
        "weights": {"model": copied(tiny_model, tmp_path / "weights", one_weight)},
        "configuration": {"model": copied(tiny_model, tmp_path / "heads", more_heads)},
        "reference": {"reference": copied(tiny_model, tmp_path / "reference", another_weight)},
        "tokenizer": {"model": other_words(tiny_model, tmp_path / "words", pairs)},
        "length": {"max_length": 24},
        "precision": {"bf16": True},
        "path": {"fast_path": "off"},
    }
    for what, change in others.items():
        assert len(runs.scored_by(replace(base, **change))) == 2, what
        assert runs.scored_by(replace(base, **change)) == [], what
    assert runs.scored_by(base) == []


def test_cached_scores_are_what_a_run_trains_with(base, cache, tmp_path, monkeypatch) -> None:
    """Scores that were changed in the cache are met again as a policy that is not the reference."""
    with monkeypatch.context() as patch:
        Runs(patch, tmp_path).scored_by(base)
    for file in cache.iterdir():
        save_file({"logps": load_file(file)["logps"] * 1.1}, file)
    with pytest.raises(InputError, match="the policy is not the reference"):
        recipe.train(replace(base, output_dir=str(tmp_path / "run")), lambda text: None)
