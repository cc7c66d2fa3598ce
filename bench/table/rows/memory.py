"""Peak memory of everything that a training run needs, against a trainer in one process."""

import tempfile
from pathlib import Path

from bench.table.rivals.launch import Limits, run_ours, run_rival
from bench.table.rivals.venvs import MLX_LM_LORA, python_of
from bench.table.rivals.workload import TOLD_STORIES, Inputs, OurSettings, make_inputs
from bench.table.row import Better, Row

STEPS = 2
COLOCATED = True
"""Generation inside the learner's process; False: an actor beside it, with its own copy."""
LEAN = OurSettings(
    actors=0 if COLOCATED else 1,
    threads=2 if COLOCATED else 1,
    sections={
        "learner": {"microbatch_tokens": 128, "logits_chunk_tokens": 64},
        "reward_worker": {"processes": 1},
    },
)
GIBI = 2**30


class AllRoles(Row):
    """Peak of the proportional memory of all processes of a run."""

    name = "memory/all_roles_vs_mlx_lm_lora"
    unit = "GiB"
    better: Better = "lower"
    rival_name = MLX_LM_LORA.name
    reach = 0.9

    def __init__(self) -> None:
        self._inputs: Inputs
        self._folder: tempfile.TemporaryDirectory[str]

    def prepare(self) -> None:
        """The rival's venv and the model's files."""
        python_of(MLX_LM_LORA)
        self._inputs = make_inputs(TOLD_STORIES)
        self._folder = tempfile.TemporaryDirectory(prefix="bench-memory-")
        self.note = (
            f"{TOLD_STORIES.told()}; {STEPS} steps; the sum of proportional set sizes (PSS) over "
            f"all processes, the launcher included, looked at 20 times a second; {LEAN.told()}, "
            "1 process of rewards, microbatches of 128 tokens, logits of 64 at a time; the rival "
            "differentiates 4 completions at a time"
        )

    def ours(self) -> float:
        """One run of ours."""
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        limits = Limits(LEAN.threads, watch_memory=True)
        finished = run_ours(TOLD_STORIES, self._inputs, STEPS, folder, LEAN, limits)
        return finished.peak_bytes / GIBI

    def rival(self) -> float:
        """One run of the rival's."""
        job = self._inputs.job(TOLD_STORIES, Path(tempfile.mkdtemp(dir=self._folder.name)), STEPS)
        limits = Limits(self.blas_threads, watch_memory=True)
        return run_rival(MLX_LM_LORA, job, limits).peak_bytes / GIBI

    def close(self) -> None:
        """Remove the runs."""
        self._folder.cleanup()


ROWS = [AllRoles()]
