"""This library on the same model and pairs: its trainer, and bare loops that add one technique
after the other."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PrinterCallback, TrainingArguments

from dpo_lab.batching import Batch, collate, pair_rows
from dpo_lab.bench.contenders import (
    CLIP,
    CONTENDERS,
    RATE,
    Clock,
    Job,
    Measured,
    losses_of,
    trainer_settings,
)
from dpo_lab.bench.shapes import PAD, SHAPES, build
from dpo_lab.encoded import EncodedPair
from dpo_lab.fast import packed_logps, score_packed, use_fast_path, why_not_fast
from dpo_lab.losses import PairLogps, compute_loss
from dpo_lab.packing import pack
from dpo_lab.scoring import ScoredPairs, autocast, batch_logps, score_responses
from dpo_lab.tiled import tiled_logps
from dpo_lab.training.examples import attach_reference
from dpo_lab.training.objective import LossConfig
from dpo_lab.training.preference import PreferenceTrainer


def train_with_trainer(job: Job, model: PreTrainedModel, pairs: Sequence[EncodedPair]) -> Measured:
    """As `dpo-lab train` does it: compare both paths, score the reference, train.

    Where the fast path does not fit (a card without its kernel) the plain one is taken.
    """
    budget, remark = CONTENDERS[job.contender].settings["token_budget"], ""
    clock = Clock(job.device)
    begin = time.perf_counter()
    if budget is not None:
        reason = why_not_fast(model, pairs[:4], PAD, job.precision)
        if reason is not None:
            budget, remark = None, f"plain path: {reason}"
    if budget is None:
        logps = score_responses(
            model, pair_rows(pairs), PAD, precision=job.precision, progress=False
        )
    else:
        logps = score_packed(model, pairs, budget, precision=job.precision, progress=False)
    examples = attach_reference(pairs, ScoredPairs(*logps.chunk(2)))
    with tempfile.TemporaryDirectory() as folder:
        trainer = PreferenceTrainer(
            model,
            TrainingArguments(folder, **trainer_settings(job)),
            LossConfig({"dpo": 1.0}, job.beta),
            PAD,
            train_dataset=examples,
            token_budget=budget,
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        setup = time.perf_counter() - begin
        trainer.train()
    return Measured(losses_of(trainer), clock.seconds, setup, remark)


class Form(NamedTuple):
    """How pairs become a batch, and a batch 2B log-probabilities."""

    collate: Callable[[Sequence[EncodedPair]], Any]
    logps: Callable[[nn.Module, Any], Float[Tensor, "sequences"]]


def train_in_a_loop(
    job: Job,
    model: PreTrainedModel,
    pairs: Sequence[EncodedPair],
    watch: Callable[[], None] = lambda: None,
) -> Measured:
    """The step written out. `watch` is called after each."""
    settings = CONTENDERS[job.contender].settings
    form, online = FORMS[settings["form"]], settings.get("online", False)
    if settings["form"] in ("packed", "shared"):
        use_fast_path(model)
    device = torch.device(job.device)
    batches = [pairs[i : i + job.pairs] for i in range(0, len(pairs), job.pairs)]

    def log_probs(of: nn.Module, batch: Any) -> Tensor:
        with autocast(device, job.precision):
            return form.logps(of, batch)

    begin = time.perf_counter()
    model.train()
    reference, references = build(SHAPES[job.shape], job.device) if online else model, []
    if not online:
        with torch.no_grad():
            references = [log_probs(model, form.collate(rows).to(device)) for rows in batches]
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.0, fused=True)
    clock, losses = Clock(job.device), []
    setup = time.perf_counter() - begin
    clock.stamp()
    for step, rows in enumerate(batches):
        batch = form.collate(rows).to(device)
        if online:
            with torch.no_grad():
                references.append(log_probs(reference, batch))
        both = PairLogps(*log_probs(model, batch).chunk(2), *references[step].chunk(2))
        loss = compute_loss("dpo", both, job.beta).losses.mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
        clock.stamp()
        watch()
    return Measured(losses, clock.seconds, setup)


def _answer_states(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor, list[int]]:
    """States that predict response tokens, those tokens, and how many each row has."""
    hidden = model.base_model(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        position_ids=batch.position_ids,
        use_cache=False,
    ).last_hidden_state
    columns = torch.arange(batch.input_ids.shape[1], device=hidden.device) + 1
    predicts = (columns >= batch.starts[:, None]) & (columns < batch.ends[:, None])
    targets = batch.input_ids.roll(-1, 1)[predicts]
    return hidden[predicts], targets, (batch.ends - batch.starts).tolist()


def _at_answers(model: nn.Module, batch: Batch) -> Tensor:
    hidden, targets, sizes = _answer_states(model, batch)
    logits = model.get_output_embeddings()(hidden)
    logps = logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
    return torch.stack([part.sum() for part in logps.split(sizes)])


def _in_tiles(model: nn.Module, batch: Batch) -> Tensor:
    hidden, targets, sizes = _answer_states(model, batch)
    logps = tiled_logps(hidden, model.get_output_embeddings().weight, targets)
    return torch.stack([part.sum() for part in logps.split(sizes)])


def _padded(pairs: Sequence[EncodedPair]) -> Batch:
    return collate(pairs, PAD)


FORMS = {
    "logits": Form(_padded, batch_logps),
    "answers": Form(_padded, _at_answers),
    "tiled": Form(_padded, _in_tiles),
    "packed": Form(lambda pairs: pack(pair_rows(pairs)), packed_logps),
    "shared": Form(pack, packed_logps),
}
