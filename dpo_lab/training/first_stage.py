"""The model that preference training starts from: loaded, or made here and tuned on answers."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from dpo_lab.batching import padding_id
from dpo_lab.errors import InputError
from dpo_lab.models import (
    build_model,
    check_same_vocabulary,
    load_policy,
    load_tokenizer,
    train_tokenizer,
)
from dpo_lab.pairs import PreferencePair, UnpairedExample
from dpo_lab.training.config import TrainConfig
from dpo_lab.training.processes import is_main, wait_for_all
from dpo_lab.training.run_data import EncodedData, RunData, Say
from dpo_lab.training.run_folder import RunFolder
from dpo_lab.training.sft import SFTConfig, train_sft


def prepare_models(
    config: TrainConfig, run: RunFolder, data: RunData
) -> tuple[PreTrainedTokenizerBase, str | None]:
    """The tokenizer, and the tuned model to start from, or None where one must be made first."""
    if config.model is not None:
        # A wrong name, or two vocabularies, should not cost the user a pass over the data.
        load_policy(config.model)
        tokenizer = load_tokenizer(config.model)
        if config.reference is not None:
            check_same_vocabulary(config.reference, tokenizer)
        return tokenizer, config.model
    if run.reference.is_dir():  # a resumed run whose supervised stage was done
        return load_tokenizer(run.reference), str(run.reference)
    if not isinstance(data.train[0].prompt, str):
        raise InputError("conversational data need --model: a model made here has no chat template")
    texts = (text for example in data.train for text in _texts(example))
    return train_tokenizer(texts, config.vocab_size), None


def _texts(example: PreferencePair | UnpairedExample) -> list[str]:
    if isinstance(example, PreferencePair):
        return [example.prompt + example.chosen, example.rejected]
    return [example.prompt + example.completion]


def supervised_stage(
    config: TrainConfig,
    run: RunFolder,
    tokenizer: PreTrainedTokenizerBase,
    encoded: EncodedData,
    say: Say,
) -> str:
    """Make a small model, tune it on the good answers, save it as the run's reference."""
    model = build_model(tokenizer, config.model_size(), config.seed)
    say(f"no --model given: a new one of {model.num_parameters():,} parameters learns the answers")
    sft = SFTConfig(
        config.sft_epochs,
        config.sft_learning_rate,
        2 * config.per_device_train_batch_size,
        config.seed,
    )
    train_sft(model, encoded.good_answers, padding_id(tokenizer), sft, run.sft_checkpoints)
    if is_main():
        run.save_model(run.reference, model.cpu(), tokenizer)
    wait_for_all()
    return str(run.reference)
