"""Runs one job with mlx-lm-lora's `train_grpo`, in its venv: `python run_mlx_lm_lora.py job.json`.

Its CLI wraps every prompt in a system turn of its own, so that the trainer is called as its CLI
calls it. At its best: the batch is all prompts of a step (`batch_size` also bounds how many
completions it decodes at once, and how many it differentiates at once); no KL penalty, hence no
reference model.
"""

# pyright: basic, reportMissingImports=false

import sys
from typing import Any

from job import StepLog, preload_blas, read_job

preload_blas()

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
from mlx.optimizers import AdamW  # noqa: E402
from mlx.utils import tree_flatten  # noqa: E402
from mlx_lm import load  # noqa: E402
from mlx_lm.tuner.callbacks import TrainingCallback  # noqa: E402
from mlx_lm.tuner.utils import linear_to_lora_layers  # noqa: E402
from mlx_lm_lora.trainer.grpo_trainer import GRPOTrainingArgs, train_grpo  # noqa: E402

NEVER = 10**9


class Steps(TrainingCallback):
    """Notes the end of each step."""

    def __init__(self, log: StepLog) -> None:
        self._log = log

    def on_train_loss_report(self, train_info: dict) -> None:
        """Called after each step, once its arrays are evaluated."""
        self._log.step(
            reward=train_info["train_total_rewards_mean"],
            tokens=train_info["train_average_generated_tokens"],
        )


def main() -> None:
    """Train."""
    job = read_job(sys.argv[1])
    mx.random.seed(job.seed)
    np.random.seed(job.seed)  # its batches are drawn from numpy's global state
    loaded: Any = load(job.model)
    model, tokenizer = loaded[0], loaded[1]
    if job.lora_rank:
        model.freeze()
        keys = {"rank": job.lora_rank, "scale": job.lora_scale, "dropout": 0.0}
        linear_to_lora_layers(model, len(model.layers), keys)
    log = StepLog(job, lambda path: mx.save_safetensors(path, _weights(model)))
    train_grpo(
        model=model,
        ref_model=None,
        tokenizer=tokenizer,
        optimizer=AdamW(job.learning_rate, weight_decay=0.0, bias_correction=True),
        train_dataset=[(p.token_ids, [0], p.text, p.answer) for p in job.read_prompts()],
        reward_funcs=[_reward_function(job.load_reward())],
        args=_arguments(job),
        training_callback=Steps(log),
        end_answer_token="",
    )


def _reward_function(score):  # noqa: ANN001, ANN202
    def reward(prompts, completions, answer, types=None):  # noqa: ANN001, ANN202
        return score(completions, answer=answer)

    return reward


def _weights(model) -> dict[str, mx.array]:  # noqa: ANN001
    return dict(tree_flatten(model.parameters()))


def _arguments(job) -> GRPOTrainingArgs:  # noqa: ANN001
    return GRPOTrainingArgs(
        batch_size=job.prompts_per_step,
        iters=job.steps,
        steps_per_report=1,
        steps_per_eval=NEVER,
        steps_per_save=NEVER,
        max_seq_length=2048,
        adapter_file=f"{job.folder}/adapters.safetensors",
        group_size=job.group_size,
        beta=0.0,
        epsilon=0.2,
        max_completion_length=job.max_completion_tokens,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        min_p=0.0,
    )


if __name__ == "__main__":
    main()
