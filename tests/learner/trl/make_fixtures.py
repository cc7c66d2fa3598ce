# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
"""What TRL's own code makes of random inputs: writes losses.json, advantages.json and ppo.json.

TRL and torch are no dependencies of the project. In a virtual environment of its own:

    python -m venv /tmp/trl && /tmp/trl/bin/pip install trl==1.16.0 torch==2.14.1
    /tmp/trl/bin/pip download --no-deps --dest /tmp/trl trl==0.24.0
    /tmp/trl/bin/python tests/learner/trl/make_fixtures.py /tmp/trl/trl-0.24.0-py3-none-any.whl

TRL 1.16 has no PPO trainer; the wheel is of a version that has. No line of TRL is here: methods
run on a stand-in for the trainer whose model returns given log-probabilities, and what lies inside
long methods is cut out of their source, statement by statement, and run. In float64.
"""

import inspect
import json
import re
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Optional

import torch
import trl
from stand_in import (
    MAX_COMPLETION_TOKENS,
    cut,
    in_1024ths,
    loss_and_gradients,
    no_ids,
    plain,
    stand_in,
)
from trl.rewards import get_soft_overlong_punishment
from trl.trainer import grpo_trainer, rloo_trainer

FOLDER = Path(__file__).parent
TOKENS_B = [9, 4, 1, 7, 6, 2, 9, 5]
TRUNCATE = {"use_vllm": True, "vllm_importance_sampling_mode": "token_truncate"}
MASK = {"use_vllm": True, "vllm_importance_sampling_mode": "token_mask"}
SEQUENCE = {"importance_sampling_level": "sequence", "epsilon_low": 0.1, "epsilon_high": 0.15}
GRPO_CASES = {
    "grpo": {"loss_type": "grpo"},
    "bnpo": {"loss_type": "bnpo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "dapo_of_token_advantages": {"loss_type": "dapo", "token_advantages": True},
    "grpo_kl": {"loss_type": "grpo", "beta": 0.04},
    "dapo_kl": {"loss_type": "dapo", "beta": 0.04},
    "dapo_delta": {"loss_type": "dapo", "epsilon_high": 0.28, "delta": 1.5},
    "dapo_entropy": {"loss_type": "dapo", "entropy_coef": 0.02},
    "gspo": {"loss_type": "grpo", **SEQUENCE},
    "gspo_truncate": {
        "loss_type": "grpo",
        **SEQUENCE,
        **TRUNCATE,
        "vllm_importance_sampling_clip_max": 1.2,
    },
    "cispo": {"loss_type": "cispo", "epsilon_high": 1.3},
    "dapo_truncate": {"loss_type": "dapo", **TRUNCATE, "vllm_importance_sampling_clip_max": 1.2},
    "dapo_truncate_kl": {
        "loss_type": "dapo",
        "beta": 0.04,
        **TRUNCATE,
        "vllm_importance_sampling_clip_max": 1.2,
    },
    "dapo_mask": {
        "loss_type": "dapo",
        **MASK,
        "vllm_importance_sampling_clip_min": 0.7,
        "vllm_importance_sampling_clip_max": 1.4,
    },
    "cispo_mask": {
        "loss_type": "cispo",
        "epsilon_high": 1.3,
        **MASK,
        "vllm_importance_sampling_clip_min": 0.7,
        "vllm_importance_sampling_clip_max": 1.4,
    },
}
GRPO_DEFAULTS = {
    "aux_loss_enabled": False,
    "top_entropy_quantile": 1.0,
    "off_policy_mask_threshold": None,
    "importance_sampling_level": "token",
    "beta": 0.0,
    "epsilon_low": 0.2,
    "epsilon_high": 0.2,
    "use_vllm": False,
    "vllm_importance_sampling_correction": True,
    "vllm_importance_sampling_clip_min": None,
    "vllm_importance_sampling_clip_max": None,
    "use_adaptive_entropy": False,
    "entropy_coef": 0.0,
}
PPO_SETTINGS = {
    "gamma": 0.97,
    "lam": 0.9,
    "cliprange": 0.2,
    "cliprange_value": 0.2,
    "vf_coef": 0.1,
}
ARGUMENT_DEFAULTS = {"use_bias_correction_kl": False, "delta": None, "steps_per_generation": 1}


def main(ppo_wheel: str) -> None:
    """Writes the three files."""
    with zipfile.ZipFile(ppo_wheel) as wheel:
        core, ppo = (
            wheel.read(f"trl/{name}.py").decode() for name in ("core", "trainer/ppo_trainer")
        )
    versions = {"trl": trl.__version__, "torch": torch.__version__}
    write("losses", {**versions, **losses()})
    write("advantages", {**versions, **advantages()})
    write("ppo", {"trl": Path(ppo_wheel).name, "torch": torch.__version__, **ppo_parts(core, ppo)})


def losses() -> dict:
    """GRPOTrainer's and RLOOTrainer's losses with their gradients, of one batch."""
    torch.manual_seed(0)
    batch = random_batch()
    cases = {
        name: {"settings": settings, **grpo_loss(batch, settings)}
        for name, settings in GRPO_CASES.items()
    }
    cases["rloo"] = {"settings": {}, **rloo_loss(batch)}
    return {
        "max_completion_tokens": MAX_COMPLETION_TOKENS,
        "batch": {name: plain(array) for name, array in batch.items()},
        "cases": cases,
    }


def random_batch() -> dict[str, torch.Tensor]:
    """Inputs that float32 holds exactly; what stands in the padding is random too."""
    shape = (len(TOKENS_B), max(TOKENS_B))
    behaviour_BT = -torch.distributions.Exponential(1.0).sample(shape)
    proximal_BT = behaviour_BT + 0.2 * torch.randn(shape)
    batch = {
        "behaviour_logprobs_BT": behaviour_BT,
        "proximal_logprobs_BT": proximal_BT,
        "logprobs_BT": proximal_BT + 0.25 * torch.randn(shape),
        "ref_logprobs_BT": behaviour_BT + 0.4 * torch.randn(shape),
        "entropy_BT": torch.rand(shape) * 3,
        "advantages_B": torch.randn(len(TOKENS_B)),
        "advantages_BT": torch.randn(shape),
        "mask_BT": torch.arange(shape[1]) < torch.tensor(TOKENS_B)[:, None],
    }
    return {
        name: array if array.dtype == torch.bool else in_1024ths(array)
        for name, array in batch.items()
    }


def grpo_loss(batch: dict[str, torch.Tensor], settings: dict) -> dict:
    """One case: GRPOTrainer._compute_loss on one microbatch that is the whole step."""
    self = stand_in({**GRPO_DEFAULTS, **settings})
    self.args = SimpleNamespace(**{**ARGUMENT_DEFAULTS, **settings})
    self._entropy_bonus_enabled = self.entropy_coef != 0.0
    mask_BT = batch["mask_BT"].long()
    old = "proximal" if self.use_vllm else "behaviour"
    inputs = {
        **no_ids(mask_BT),
        "advantages": batch["advantages_BT" if "token_advantages" in settings else "advantages_B"],
        "old_per_token_logps": batch[f"{old}_logprobs_BT"],
        "ref_per_token_logps": batch["ref_logprobs_BT"],
        "num_items_in_batch": mask_BT.sum(),
    }
    if self.use_vllm:
        correction = cut(
            inspect.getsource(grpo_trainer.GRPOTrainer._generate_and_score_completions),
            "mask = completion_mask if tool_mask is None",
            "if self.vllm_importance_sampling_mode in ['sequence_truncate'",
        )
        inputs["importance_sampling_ratio"] = correction(
            vars(grpo_trainer),
            self=self,
            completion_mask=mask_BT,
            tool_mask=None,
            old_per_token_logps=batch["proximal_logprobs_BT"],
            sampling_per_token_logps=batch["behaviour_logprobs_BT"],
        )["vllm_importance_sampling_ratio"]
    return loss_and_gradients(grpo_trainer.GRPOTrainer._compute_loss, self, batch, inputs)


def rloo_loss(batch: dict[str, torch.Tensor]) -> dict:
    """RLOOTrainer._compute_loss where the policy is the one that sampled: nothing is clipped."""
    self = stand_in({"aux_loss_enabled": False, "epsilon_low": 0.2, "epsilon_high": 0.2})
    mask_BT = batch["mask_BT"].long()
    inputs = {
        **no_ids(mask_BT),
        "advantages": batch["advantages_B"],
        "old_logps": (batch["logprobs_BT"] * mask_BT).sum(1),
    }
    return loss_and_gradients(rloo_trainer.RLOOTrainer._compute_loss, self, batch, inputs)


def advantages() -> dict:
    """Advantages of two groups of four, one reward missing, and DAPO's price of length."""
    torch.manual_seed(1)
    rewards = in_1024ths(torch.randn(8))
    rewards[5] = torch.nan
    grpo = cut(
        inspect.getsource(grpo_trainer.GRPOTrainer._generate_and_score_completions),
        "mean_grouped_rewards = torch.nanmean(rewards.view",
        "if self.scale_rewards != 'none'",
    )
    rloo = cut(
        inspect.getsource(rloo_trainer.RLOOTrainer._generate_and_score_completions),
        "grouped_rewards = rewards.view",
        "advantages = torch.nan_to_num",
    )
    found = {}
    for scale in ("group", "none"):
        self = SimpleNamespace(scale_rewards=scale)
        made = grpo(vars(grpo_trainer), self=self, rewards=rewards, num_generations=4)
        found[f"grpo_{scale}"] = plain(torch.nan_to_num(made["advantages"], nan=0.0))
    self = SimpleNamespace(normalize_advantages=False)
    made = rloo(vars(rloo_trainer), self=self, rewards=rewards, num_generations=4)
    found["rloo"] = plain(made["advantages"])
    rewards_B = [None if value != value else value for value in rewards.tolist()]
    penalties = {
        str(buffer): get_soft_overlong_punishment(10, buffer)([[0] * n for n in range(13)])
        for buffer in (0, 4, 10)
    }
    return {
        "rewards_B": rewards_B,
        "groups_B": [0] * 4 + [1] * 4,
        "advantages_B": found,
        "overlong_of_0_to_12_tokens_by_buffer": penalties,
    }


def ppo_parts(core: str, ppo: str) -> dict:
    """PPOTrainer's rewards, returns, advantages and losses, of one batch."""
    torch.manual_seed(2)
    shape = (len(TOKENS_B), max(TOKENS_B))
    names = ("scores", "values", "logprobs", "new_logprobs", "vpred", "mb_return", "mb_advantage")
    inputs = {
        name: in_1024ths(0.5 * torch.randn(shape[:1] if name == "scores" else shape))
        for name in names
    }
    known = cut(core, "def masked_mean", "def masked_whiten")(
        {"torch": torch, "Optional": Optional, "INVALID_LOGPROB": 1.0}
    )
    estimated = cut(ppo, "response_idxs = torch.arange", "advantages = torch.masked_fill")(
        known,
        args=SimpleNamespace(**PPO_SETTINGS, kl_coef=0.0, kl_estimator="k1", whiten_rewards=False),
        responses=torch.zeros(shape),
        sequence_lengths=torch.tensor(TOKENS_B) - 1,
        ref_logprobs=inputs["logprobs"],
        **{name: inputs[name].clone() for name in ("logprobs", "values", "scores")},
    )
    return {
        "settings": PPO_SETTINGS,
        "tokens_B": TOKENS_B,
        "inputs": {name: plain(array) for name, array in inputs.items()},
        "returns_BT": plain(estimated["returns"]),
        "whitened_advantages_BT": plain(estimated["advantages"]),
        **ppo_loss(ppo, known, inputs, estimated["padding_mask"]),
    }


def ppo_loss(ppo: str, known: dict, inputs: dict, padding_BT: torch.Tensor) -> dict:
    """PPOTrainer's loss with its gradients, of one microbatch."""
    logprobs_BT = inputs["new_logprobs"].clone().requires_grad_()
    values_BT = inputs["vpred"].clone().requires_grad_()
    made = cut(ppo, "vpredclipped = torch.clamp", "loss = pg_loss + args.vf_coef")(
        known,
        args=SimpleNamespace(**PPO_SETTINGS),
        padding_mask=padding_BT,
        padding_mask_p1=padding_BT,  # the loss of values too over the tokens alone
        micro_batch_inds=slice(None),
        new_logprobs=logprobs_BT,
        vpred=values_BT,
        mb_logprobs=inputs["logprobs"],
        mb_values=inputs["values"],
        mb_return=inputs["mb_return"],
        mb_advantage=inputs["mb_advantage"],
    )
    made["loss"].backward()
    return {
        "loss": made["loss"].item(),
        "value_loss": made["vf_loss"].item(),
        "value_clip_fraction": made["vf_clipfrac"].item(),
        "logprobs_gradient_BT": plain(logprobs_BT.grad),
        "values_gradient_BT": plain(values_BT.grad),
    }


def write(name: str, content: dict) -> None:
    """Writes one file, a row of an array in a line."""
    rows = re.compile(r"\[[^][{}]*\]")
    text = rows.sub(lambda row: " ".join(row[0].split()), json.dumps(content, indent=1))
    (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
