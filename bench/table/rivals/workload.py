"""The two trainings that whole runs are compared on: what is trained, on what, by how much."""

import json
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.table.rivals.job import Job
from bench.table.rivals.venvs import cache_folder

REWARDS = Path(__file__).with_name("rewards.py")
STORIES = Path(__file__).with_name("stories.jsonl")
TINY = Path(__file__).resolve().parents[3] / "protocol" / "builtin" / "tiny"
MAX_PROMPT_TOKENS = 1024


@dataclass(frozen=True)
class Workload:
    """One training, the same for both sides: GRPO, AdamW, temperature 1, float32."""

    name: str
    source: str
    """Of prompts, as in our `data.train`."""
    reward: str
    """A function of rewards.py."""
    prompts_per_step: int
    group_size: int
    max_completion_tokens: int
    learning_rate: float
    lora_rank: int = 0
    """0 trains every parameter."""

    @property
    def samples_per_step(self) -> int:
        """Completions in a step."""
        return self.prompts_per_step * self.group_size

    def told(self) -> str:
        """For notes."""
        tuning = f"LoRA rank {self.lora_rank} on all layers" if self.lora_rank else "full"
        return (
            f"{self.name} fp32, {tuning}, {self.prompts_per_step} prompts x {self.group_size} "
            f"completions a step, at most {self.max_completion_tokens} tokens, dense reward, "
            f"temperature 1, learning rate {self.learning_rate:g}, no evaluation"
        )


ADDITIONS = Workload("builtin:tiny", "arithmetic:add2?count=4096", "digits_right", 16, 8, 8, 1e-4)
"""The quickstart's."""
TOLD_STORIES = Workload("SmolLM2-135M", str(STORIES), "distinct_words", 4, 4, 32, 1e-4, lora_rank=8)
"""No completion ends before its last token, so that both sides always have the same work."""


@dataclass(frozen=True)
class Inputs:
    """A workload's files."""

    model: Path
    """mlx-lm's layout, float32: bfloat16 is 30 times slower on the CPU."""
    prompts: Path
    """JSONL of job.Prompt."""

    def job(self, workload: Workload, folder: Path, steps: int, **changes: Any) -> Job:  # noqa: ANN401
        """What a rival is asked for."""
        return Job(
            model=str(self.model),
            prompts=str(self.prompts),
            reward=f"{REWARDS}:{workload.reward}",
            folder=str(folder),
            prompts_per_step=workload.prompts_per_step,
            group_size=workload.group_size,
            max_completion_tokens=workload.max_completion_tokens,
            learning_rate=workload.learning_rate,
            lora_rank=workload.lora_rank,
            steps=steps,
            **changes,
        )


@dataclass(frozen=True)
class OurSettings:
    """What only we have a choice of."""

    actors: int = 1
    """0: generation inside the learner's process."""
    threads: int = 1
    """BLAS threads of each role."""
    max_off_policy_steps: int = 1
    seed: int = 0
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Further keys of the config, by section."""

    def told(self) -> str:
        """For notes."""
        where = f"{self.actors} actors" if self.actors else "colocated actor"
        return (
            f"ours: {where}, 1 reward worker, {self.threads} BLAS threads a role, "
            f"max_off_policy_steps {self.max_off_policy_steps}"
        )


def our_config(
    workload: Workload, inputs: Inputs, steps: int, port: int, settings: OurSettings
) -> dict[str, Any]:
    """The run's config; a JSON file of it is YAML."""
    tuning: dict[str, Any] = {"tuning": "lora" if workload.lora_rank else "full"}
    if workload.lora_rank:
        tuning["lora"] = {"rank": workload.lora_rank, "scale": 2.0}
    learner = {
        **tuning,
        "groups_per_step": workload.prompts_per_step,
        "max_off_policy_steps": settings.max_off_policy_steps,
        "colocated_actor": not settings.actors,
        "optimizer": {"name": "adamw", "learning_rate": workload.learning_rate},
    }
    config: dict[str, Any] = {
        "run": {"name": "bench", "seed": settings.seed, "max_steps": steps},
        "roles": {"actor": settings.actors, "reward_worker": 1},
        "model": {"path": str(inputs.model)},
        "policy": {"weight_dtype": "float32"},
        "data": {"train": [workload.source]},
        "generation": {
            "group_size": workload.group_size,
            "max_completion_tokens": workload.max_completion_tokens,
            "max_sequences": workload.samples_per_step,
        },
        "rewards": [{"name": f"{REWARDS}:{workload.reward}"}],
        "algorithm": {"name": "grpo"},
        "learner": learner,
        "evaluation": {"before_training": False},
        "checkpoints": {"interval": 0},
        "network": {"port": port, "http_port": 0},
    }
    for name, section in settings.sections.items():
        config[name] = {**config.get(name, {}), **section}
    return config


def make_inputs(workload: Workload) -> Inputs:
    """The workload's files, made anew in the cache folder; imports mlx."""
    from protocol.blas import preload_blas

    preload_blas()
    from protocol.smollm2 import smollm2_folder

    source = smollm2_folder() if workload is TOLD_STORIES else TINY
    folder = cache_folder() / "inputs" / source.name
    _write_float32(source, folder)
    prompts = folder.with_suffix(".jsonl")
    prompts.write_text("".join(f"{json.dumps(row)}\n" for row in _prompts(workload, folder)))
    return Inputs(folder, prompts)


def _write_float32(source: Path, folder: Path) -> None:
    import mlx.core as mx

    folder.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.suffix == ".safetensors":
            arrays = mx.load(str(path))
            assert isinstance(arrays, dict)
            wide = {name: array.astype(mx.float32) for name, array in arrays.items()}
            mx.save_safetensors(str(folder / path.name), wide, metadata={"format": "mlx"})
        elif path.name != "manifest.json":
            shutil.copy(path, folder / path.name)


def _prompts(workload: Workload, folder: Path) -> list[dict[str, Any]]:
    """The rows of the source as our learner tokenizes them."""
    import asyncio

    from mlx_lm.utils import load_tokenizer

    from learner.data.prompts import tokenize_prompts
    from learner.data.sources import read_source

    rows = asyncio.run(read_source(workload.source, "train", "prompt"))
    tokenizer: Any = load_tokenizer(folder)
    found = [
        {
            "token_ids": list(prompt.prompt_ids),
            "text": tokenizer.decode(list(prompt.prompt_ids)),
            "answer": str(prompt.row.columns.get("answer", "")),
        }
        for prompt in tokenize_prompts(rows, tokenizer, MAX_PROMPT_TOKENS)
    ]
    random.Random(0).shuffle(found)
    return found
