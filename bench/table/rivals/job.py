"""What a rival is asked to train, and the log of its steps: the one file that both sides know.

Rivals' scripts run in venvs of their own and import this file by its bare name; nothing but the
standard library may be needed here.
"""

import ctypes
import importlib.util
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BLAS_VARIABLE = "BENCH_BLAS_LIBRARY"
"""Names the library that our own roles use; see protocol/blas.py."""
STEPS_FILE = "steps.jsonl"

Reward = Callable[..., list[float]]
"""Completions, and each column of the data as a keyword -> rewards: our reward workers' call."""


@dataclass(frozen=True)
class Prompt:
    """One row of the data."""

    token_ids: list[int]
    """As our actors get them, the chat's markers included."""
    text: str
    """Of these ids."""
    answer: str


@dataclass(frozen=True)
class Job:
    """One training run: GRPO, AdamW, temperature 1, one update a step, no evaluation."""

    model: str
    """A folder in mlx-lm's layout, float32."""
    prompts: str
    """A JSONL file of `Prompt`."""
    reward: str
    """file.py:function"""
    folder: str
    """For the log of steps and what is saved; exists."""
    prompts_per_step: int
    group_size: int
    max_completion_tokens: int
    steps: int
    learning_rate: float
    seed: int = 0
    lora_rank: int = 0
    """0 trains every parameter; else adapters on every linear layer of every block."""
    lora_scale: float = 2.0
    save_interval: int = 0
    """Weights are saved after every so many steps, as <step>.safetensors; 0: never."""

    @property
    def samples_per_step(self) -> int:
        """Completions in a step."""
        return self.prompts_per_step * self.group_size

    def write(self) -> Path:
        """Put it into its folder."""
        path = Path(self.folder) / "job.json"
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return path

    def read_prompts(self) -> list[Prompt]:
        """All rows, in their order."""
        with open(self.prompts, encoding="utf-8") as lines:
            return [Prompt(**json.loads(line)) for line in lines]

    def load_reward(self) -> Reward:
        """The reward function, from its file."""
        path, _, name = self.reward.rpartition(":")
        spec = importlib.util.spec_from_file_location("bench_reward", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return getattr(module, name)


def read_job(path: str) -> Job:
    """The job that `Job.write` wrote."""
    return Job(**json.loads(Path(path).read_text(encoding="utf-8")))


def preload_blas() -> None:
    """Give this process the BLAS of our own roles; to be called before the first import of mlx."""
    if library := os.environ.get(BLAS_VARIABLE):
        ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)


class StepLog:
    """One line a step, with the time at which it ended; weights where the job wants them."""

    def __init__(self, job: Job, save: Callable[[str], None]) -> None:
        """Args: the job; what saves all weights under a path."""
        self._job = job
        self._save = save
        self._path = Path(job.folder) / STEPS_FILE
        self._began = time.time()
        self._num_steps = 0

    def step(self, **figures: Any) -> None:  # noqa: ANN401
        """A step has ended: generated, rewarded, trained, evaluated by mlx."""
        self._num_steps += 1
        times = {"time": time.time(), "began": self._began, "cpu_seconds": time.process_time()}
        row = {"step": self._num_steps, **times, **figures}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        if self._job.save_interval and self._num_steps % self._job.save_interval == 0:
            self._save(str(Path(self._job.folder) / f"{self._num_steps}.safetensors"))
