"""One preference run from data to a saved model: what `dpo-lab train` does.

Read and check the data, make or load a tuned model, compute the reference's log-probabilities,
train, evaluate on held-out data, write everything down. Whatever can be wrong with the input is
found before the first minute of computing is spent.
"""

from __future__ import annotations

import time
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainingArguments, set_seed
from transformers.utils.logging import disable_progress_bar

from dpo_lab.adapters import add_adapter, save_adapter
from dpo_lab.batching import padding_id
from dpo_lab.errors import InputError
from dpo_lab.evaluation import AnswerEvaluation, PairEvaluation
from dpo_lab.models import (
    best_device,
    freeze_reference,
    load_policy,
    model_hash,
)
from dpo_lab.training.checkpoints import (
    CheckpointMarker,
    MetricsFile,
    closed_progress,
    last_complete_checkpoint,
    use_readable_progress,
)
from dpo_lab.training.companions import companions
from dpo_lab.training.config import TrainConfig, changed_setting
from dpo_lab.training.config_checks import check_config
from dpo_lab.training.first_stage import prepare_models, supervised_stage
from dpo_lab.training.hub import check_hub, push
from dpo_lab.training.processes import check_one_card, is_main, on_cpu, wait_for_all
from dpo_lab.training.run_data import Say, encode, load_data
from dpo_lab.training.run_folder import RunFolder, whole_folder
from dpo_lab.training.scratch import remove_left_overs, scratch_folder
from dpo_lab.training.surroundings import bound_kernel_caches, peak_memory, surroundings
from dpo_lab.training.task import Task, TaskExamples, prepare_task


def train(config: TrainConfig, say: Say = print) -> PairEvaluation | AnswerEvaluation | None:
    """Run the whole recipe and return the held-out evaluation; the main process does, of several.

    Raises `InputError` for anything wrong with the configuration, the data, the models or the
    output folder, before training starts; and where a file cannot be written, at any time.
    """
    started = time.monotonic()
    disable_progress_bar()  # transformers' own, for files; training has its bar
    check_config(config)
    check_one_card()
    if config.bf16 and on_cpu():
        bound_kernel_caches()
    run = RunFolder(config.output_dir)
    say = say if is_main() else _say_nothing
    record = run.open_existing() if config.resume else {}
    if is_main():
        if not config.resume:
            run.check_free()
        run.check_writable()
        remove_left_overs(run.root)
    if config.hub_model_id is not None and is_main():
        check_hub(config.hub_model_id)
    wait_for_all()
    with scratch_folder(run.root) as folder:
        return _train(config, run, record, folder, started, say)


def _train(
    config: TrainConfig,
    run: RunFolder,
    record: dict[str, Any],
    folder: Path,
    started: float,
    say: Say,
) -> PairEvaluation | AnswerEvaluation | None:
    """`train`, with a folder for the rows that are at work; `record`: run.json so far."""
    data = load_data(config, folder, say)
    losses = config.loss_config()
    facts = {"config": asdict(config.settled()), "data": data.facts}
    if config.resume:
        _check_same_run(config, record, facts)
    tokenizer, start_from = prepare_models(config, run, data)
    encoded = encode(tokenizer, data, config, folder, say)
    # Written before the first stage, so that a kill from here on leaves a run to resume.
    facts |= {"status": "running", "encoding": encoded.facts, "surroundings": surroundings()}
    if is_main():
        run.write_run(facts)
    if start_from is None:
        start_from = supervised_stage(config, run, tokenizer, encoded, say)

    task = prepare_task(losses, encoded, padding_id(tokenizer), config)
    reference = None
    if losses.needs_reference:
        reference = freeze_reference(load_policy(config.reference or start_from))
        facts["reference_sha256"] = model_hash(reference)
        reference.to(best_device())
    policy = load_policy(start_from)
    model = policy.to(best_device()) if reference is None else reference
    task = _choose_path(task, model, facts, say)
    parts = task.examples(reference)
    beside = companions(config, data, reference, start_from, tokenizer)
    del reference
    if config.use_peft:
        base_sha256 = model_hash(policy)
        policy = add_adapter(policy, config.lora_r, config.lora_alpha, config.seed)
    weights = _preference_stage(config, run, policy, task, parts, beside, say)
    if not is_main():
        return None
    if losses.needs_reference:
        after = beside["reference"] or load_policy(config.reference or start_from)
        if model_hash(after) != facts["reference_sha256"]:
            raise RuntimeError("the reference changed during the run; its results mean nothing")
    if config.use_peft:
        with whole_folder(run.adapter) as folder:
            save_adapter(policy, folder, tokenizer, base_sha256, weights)
        policy, weights = load_policy(run.adapter), None
    run.save_model(run.model, policy, tokenizer, weights)
    # What is judged is what lies on the disk.
    policy = load_policy(run.model).to(best_device())
    evaluation = task.evaluate(policy, parts.held_out_logps)
    facts |= {
        "status": "complete",
        "model_sha256": model_hash(policy),
        "evaluation": evaluation.to_dict(),
        "peak_memory_bytes": peak_memory(),
        "seconds": round(time.monotonic() - started, 1),
    }
    run.write_run(facts)
    if config.hub_model_id is not None:
        say(f"pushed to {push(run.model, config.hub_model_id)}")
    say(f"\n{evaluation.table()}")
    return evaluation


def _say_nothing(text: str) -> None:
    """What the processes besides the main one say."""


def _choose_path(task: Task, model: PreTrainedModel, facts: dict[str, Any], say: Say) -> Task:
    """The task on the fast path where `model` allows it; says and records why where it does not."""
    reason = task.why_plain(model)
    facts["path"] = "fast" if reason is None else f"plain: {reason}"
    if reason is None:
        return replace(task, token_budget=task.config.token_budget)
    say(f"padded batches, every token's logits: {reason}")
    return task


def _preference_stage(
    config: TrainConfig,
    run: RunFolder,
    policy: nn.Module,
    task: Task,
    parts: TaskExamples,
    beside: dict[str, Any],
    say: Say,
) -> dict[str, Tensor] | None:
    """Train; returns the weights where they lay in shards."""
    set_seed(config.seed)
    checkpoint = last_complete_checkpoint(run.checkpoints)
    trainer = task.trainer(
        policy,
        _arguments(config, run, fresh=checkpoint is None),
        task.losses,
        task.pad_id,
        token_budget=task.token_budget,
        **beside,
        train_dataset=parts.train,
        eval_dataset=parts.held_out,
        callbacks=[MetricsFile(run), CheckpointMarker()],
    )
    if checkpoint is not None:
        say(f"going on from {checkpoint}")
    elif task.losses.needs_reference:
        loss = trainer.check_step_zero()
        say(f"loss at step 0: {loss:.4f}, as it must be where policy and reference are equal")
    else:
        loss = trainer.check_step_zero()
        say(f"loss at step 0: {loss:.4f}; without a reference there is no value to check it by")
    use_readable_progress(trainer)
    with closed_progress(trainer):
        trainer.train(resume_from_checkpoint=checkpoint)
    last = trainer.state.global_step
    if not any("eval_loss" in row and row["step"] == last for row in trainer.state.log_history):
        trainer.evaluate()
    return trainer.whole_weights()


def _arguments(config: TrainConfig, run: RunFolder, *, fresh: bool) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(run.checkpoints),
        per_device_train_batch_size=config.per_device_train_batch_size,
        per_device_eval_batch_size=config.per_device_train_batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        num_train_epochs=config.num_train_epochs,
        max_steps=config.max_steps,
        learning_rate=config.preference_learning_rate(),
        lr_scheduler_type="linear",
        warmup_steps=0.1,  # a number below 1 is a share of all steps
        weight_decay=0.0,  # decay pulls weights to 0, not to the reference
        max_grad_norm=1.0,
        **_checkpointing(config.gradient_checkpointing),
        bf16=config.bf16,
        fp16=config.fp16,
        # In bfloat16 transformers wants a CUDA card, or to be told that there is none.
        use_cpu=on_cpu() or (config.bf16 and not torch.cuda.is_available()),
        logging_steps=config.logging_steps,
        logging_first_step=True,
        eval_strategy="steps",
        eval_steps=config.eval_steps,
        eval_on_start=fresh,
        save_steps=config.save_steps,
        save_total_limit=2,
        seed=config.seed,
        report_to=config.report_to,
        dataloader_pin_memory=torch.cuda.is_available(),
    )


def _checkpointing(wanted: bool) -> dict[str, Any]:
    """Arguments by the name that this transformers knows them by; newer ones renamed them."""
    if not wanted:
        return {}
    known = {each.name for each in fields(TrainingArguments)}
    name = "activation" if "activation_checkpointing" in known else "gradient"
    return {
        f"{name}_checkpointing": True,
        f"{name}_checkpointing_kwargs": {"use_reentrant": False},
    }


def _check_same_run(config: TrainConfig, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise `InputError` naming the first setting in which a resumed run differs."""
    if changed := changed_setting(old["config"], config):
        raise InputError(f"cannot resume: {changed}")
    for name in ("train_sha256", "held_out_sha256"):
        if old["data"][name] != new["data"][name]:
            raise InputError(f"cannot resume: the pairs have changed ({name} differs)")
