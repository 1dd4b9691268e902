"""What stands beside the policy while it trains, by what the run's configuration asks for."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dpo_lab.models import freeze_reference, load_policy
from dpo_lab.reviews import true_reward
from dpo_lab.training.config import TrainConfig
from dpo_lab.training.moving_reference import MovingReference
from dpo_lab.training.processes import is_main, sharded
from dpo_lab.training.run_data import RunData
from dpo_lab.training.run_folder import RunFolder
from dpo_lab.training.sample_metrics import SampleMetrics


def companions(
    config: TrainConfig,
    data: RunData,
    reference: PreTrainedModel | None,
    start_from: str,
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, Any]:
    """What stands beside the policy while it trains: a reference model, where sums are not
    enough; one that moves; and what measures the policy's own answers."""
    needed = config.loss_config().needs_reference_model and not config.use_peft
    moving = None
    if config.sync_ref_model:
        moving = MovingReference(
            freeze_reference(load_policy(start_from)),
            config.ref_model_mixup_alpha,
            config.ref_model_sync_steps,
        )
    measure = None
    count = 0 if sharded() else config.prompts_to_sample()  # no process could generate alone
    if count:
        fixed = None if config.use_peft else reference
        if fixed is None and not config.use_peft:
            fixed = freeze_reference(load_policy(start_from))
        measure = SampleMetrics(
            fixed,
            tokenizer,
            [example.prompt for example in data.held_out[:count]],
            max_new_tokens=config.max_new_tokens,
            seed=config.seed,
            # A small model's logits are small; a real one's go with the batches it is trained on.
            batch_size=32 if config.model is None else 2 * config.per_device_train_batch_size,
            gold=true_reward if config.pairs is None else None,
            precision=config.precision(),
            record=RunFolder(config.output_dir).append_samples if is_main() else None,
        )
    kept = reference if needed and moving is None else None
    return {"reference": kept, "moving": moving, "sample_metrics": measure}
