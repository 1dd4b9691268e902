"""TRL's DPOTrainer on the same model and pairs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence

from datasets import Dataset
from transformers import PreTrainedModel, PrinterCallback

from dpo_lab.bench.contenders import CONTENDERS, Clock, Job, Measured, losses_of, trainer_settings
from dpo_lab.bench.shapes import SHAPES, as_text, build, word_tokenizer
from dpo_lab.encoded import EncodedPair
from dpo_lab.errors import InputError


def train_with_trl(job: Job, model: PreTrainedModel, pairs: Sequence[EncodedPair]) -> Measured:
    """Train `model` with TRL. Raises `InputError` where TRL is not installed.

    `setup` holds its tokenisation and, where it is precomputed, the reference pass.
    """
    try:
        from trl import DPOConfig, DPOTrainer
    except ImportError as error:
        raise InputError("the benchmark needs TRL: pip install 'dpo_lab[bench]'") from error
    settings = trainer_settings(job) | CONTENDERS[job.contender].settings
    if settings.pop("one_by_one", False):
        settings["precompute_ref_batch_size"] = settings["per_device_train_batch_size"] = 1
        settings["gradient_accumulation_steps"] = job.pairs
    rows = Dataset.from_list([as_text(pair) for pair in pairs])
    tokenizer = word_tokenizer(SHAPES[job.shape].vocab)
    reference = None
    if not settings.get("precompute_ref_log_probs"):
        reference = build(SHAPES[job.shape], job.device)
    clock = Clock(job.device)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        trainer = DPOTrainer(
            model,
            ref_model=reference,
            args=DPOConfig(folder, beta=job.beta, **settings),
            train_dataset=rows,
            processing_class=tokenizer,
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        setup = time.perf_counter() - begin
        trainer.train()
    return Measured(losses_of(trainer), clock.seconds, setup)
