"""Small saved models and pair files that the training and command-line tests share.

The libraries are imported inside, so that a test that needs none of this starts at once.
"""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def review_pairs() -> list:
    from dpo_lab.reviews import sample_pairs

    return sample_pairs(64, seed=11)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, review_pairs) -> Path:
    """A saved model with random weights, which is all that a reference needs to be."""
    from dpo_lab.models import SmallModelConfig, build_model, train_tokenizer

    folder = tmp_path_factory.mktemp("tiny_model")
    tokenizer = train_tokenizer([p.prompt + p.chosen for p in review_pairs], vocab_size=320)
    tokenizer.save_pretrained(folder)
    size = SmallModelConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
    build_model(tokenizer, size, seed=1).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pair_file(tmp_path_factory: pytest.TempPathFactory, review_pairs) -> Path:
    from dpo_lab.pairs import write_pairs

    file = tmp_path_factory.mktemp("pairs") / "reviews.jsonl"
    write_pairs(review_pairs, file)
    return file


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own cache folder, so that a test meets only what it put there."""
    monkeypatch.setenv("DPO_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are built and not rendered, which is most of the time of a run of two steps.

    What a run's rendered figure is worth, test_cli.py and test_run_landscape.py see.
    """
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **options: Path(file).touch())


@pytest.fixture(scope="session")
def encoded(tiny_model: Path, review_pairs) -> list:
    from dpo_lab.batching import encode_pairs
    from dpo_lab.models import load_tokenizer

    pairs, _ = encode_pairs(load_tokenizer(tiny_model), review_pairs, 64)
    return pairs


@pytest.fixture(scope="session")
def other_model(tiny_model: Path):
    """The tiny model, moved a little, in float64."""
    import torch

    from dpo_lab.models import load_policy

    model = load_policy(tiny_model).double()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.05 * noise)
    return model


def make_trainer(tiny_model, examples, folder, losses, token_budget=None, **arguments):
    """A trainer of a copy of the tiny model, and of its reference where the losses need one."""
    from transformers import TrainingArguments

    from dpo_lab.models import load_policy
    from dpo_lab.training.preference import PreferenceTrainer

    settings = {
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "max_steps": 6,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    }
    args = TrainingArguments(output_dir=str(folder), **(settings | arguments))
    policy = load_policy(tiny_model)
    reference = load_policy(tiny_model) if losses.needs_reference_model else None
    return PreferenceTrainer(
        policy,
        args,
        losses,
        pad_id=0,
        reference=reference,
        train_dataset=examples,
        token_budget=token_budget,
    )
