"""One training step of the small model: the library's trainer beside a bare PyTorch loop.

    python bench/step.py

All take the same pairs in the same order from the same weights, with AdamW, clipping and a
reference that is a column of numbers. Their losses must agree before anything is timed. Rounds
alternate; what is printed is the median over all steps after the first five of a round.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, TrainerCallback, TrainingArguments
from transformers.utils.logging import disable_progress_bar

from dpo_lab.batching import EncodedPair, encode_pairs, padding_id
from dpo_lab.models import load_policy, load_tokenizer
from dpo_lab.reviews import sample_pairs
from dpo_lab.scoring import score_pairs
from dpo_lab.training.examples import PreferenceExample, attach_reference
from dpo_lab.training.objective import LossConfig
from dpo_lab.training.preference import PreferenceTrainer
from dpo_lab.training.starting_model import StartConfig, starting_model

STEPS, BATCH, BETA, RATE, ROUNDS, WARM = 45, 8, 0.1, 1e-4, 3, 5


def bare_loop(
    model: nn.Module, examples: list[PreferenceExample], pad_id: int
) -> tuple[list[float], list[float]]:
    """Losses and seconds of each step of a loop that uses nothing but PyTorch."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    losses, seconds = [], []
    model.train()
    for step in range(STEPS):
        begin = time.perf_counter()
        batch = examples[step * BATCH : (step + 1) * BATCH]
        ids, mask = pad([e.pair for e in batch], pad_id)
        ref = torch.tensor([e.ref_chosen_logps - e.ref_rejected_logps for e in batch])
        logits = model(input_ids=ids, attention_mask=(ids != pad_id).long()).logits[:, :-1]
        logps = logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
        chosen, rejected = (logps * mask[:, 1:]).sum(-1).chunk(2)
        loss = -nn.functional.logsigmoid(BETA * (chosen - rejected - ref)).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - begin)
    return losses, seconds


def pad(pairs: list[EncodedPair], pad_id: int) -> tuple[Tensor, Tensor]:
    """Chosen rows, then rejected rows, padded on the right, and where their responses are."""
    rows = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    ids = torch.full((len(rows), max(len(row.input_ids) for row in rows)), pad_id)
    mask = torch.zeros(ids.shape)
    for i, row in enumerate(rows):
        ids[i, : len(row.input_ids)] = torch.tensor(row.input_ids)
        mask[i, row.prompt_length : len(row.input_ids)] = 1
    return ids, mask


class Stamps(TrainerCallback):
    """When each optimiser step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_begin(self, *_: object, **__: object) -> None:
        self.times.append(time.perf_counter())

    def on_step_end(self, *_: object, **__: object) -> None:
        self.times.append(time.perf_counter())


def trainer_loop(
    model: nn.Module, examples: list[PreferenceExample], pad_id: int, token_budget: int | None
) -> tuple[list[float], list[float]]:
    """The same by the library's trainer, in the same order; its log of each step is in the time."""
    stamps = Stamps()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=STEPS,
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            train_sampling_strategy="sequential",
            use_cpu=True,
        )
        trainer = PreferenceTrainer(
            model,
            arguments,
            LossConfig({"dpo": 1.0}, BETA),
            pad_id,
            train_dataset=examples,
            token_budget=token_budget,
            callbacks=[stamps],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return losses, [b - a for a, b in zip(stamps.times, stamps.times[1:], strict=False)]


def main() -> None:
    """Check that both train alike, then time them in turn."""
    disable_progress_bar()
    folder = starting_model(StartConfig())
    tokenizer = load_tokenizer(folder)
    pad_id = padding_id(tokenizer)
    pairs, _ = encode_pairs(tokenizer, sample_pairs(STEPS * BATCH, seed=3), 64)
    reference = score_pairs(load_policy(folder), pairs, pad_id, progress=False)
    examples = attach_reference(pairs, reference)
    loops = {
        "bare PyTorch": bare_loop,
        "trainer, padded": partial(trainer_loop, token_budget=None),
        "trainer, packed": partial(trainer_loop, token_budget=4096),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(ROUNDS):
        losses = {}
        for name, loop in loops.items():
            losses[name], spent = loop(load_policy(folder), examples, pad_id)
            seconds[name] += spent[WARM:]
        worst = max(max(step) - min(step) for step in zip(*losses.values(), strict=True))
        if worst > 1e-4:
            raise SystemExit(f"they do not train alike: losses differ by {worst:.2e}")
    medians = {name: 1000 * statistics.median(values) for name, values in seconds.items()}
    print(f"{torch.get_num_threads()} threads, {BATCH} pairs a step, losses within {worst:.1e}")
    for name, median in medians.items():
        ratio = median / medians["bare PyTorch"]
        print(f"{name:16} {median:6.1f} ms a step, {ratio:.2f} of bare")


if __name__ == "__main__":
    main()
