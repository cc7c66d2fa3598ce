"""Whole training runs against other trainers on the same machine: every process, start to end."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

from bench.table.rivals.launch import Limits, only_core, run_ours, run_rival
from bench.table.rivals.steps import Steps, our_seconds
from bench.table.rivals.venvs import MLX_LM_LORA, TEXTPOLICY, Rival, python_of
from bench.table.rivals.workload import (
    ADDITIONS,
    TOLD_STORIES,
    Inputs,
    OurSettings,
    Workload,
    make_inputs,
)
from bench.table.row import Better, Row

ACCURACY = 0.9
"""Held out; the built-in policy begins at 0.41."""
EVERY = 4
"""Steps between weights that are kept, for both sides."""
SEEDED_STEPS = 32
"""About 13 are needed."""


class Training(Row):
    """Samples that are generated, scored and trained on in a second, in the steady state."""

    unit = "samples/s"
    better: Better = "higher"

    def __init__(
        self,
        name: str,
        rival: Rival,
        reach: float,
        workload: Workload,
        settings: OurSettings,
        steps: tuple[int, int],
    ) -> None:
        """Args: ..., steps of one run of ours and of the rival's."""
        self.name, self.rival_name, self.reach = name, rival.name, reach
        self._rival, self._workload, self._settings = rival, workload, settings
        self._our_steps, self._rival_steps = steps
        self._inputs: Inputs
        self._folder: tempfile.TemporaryDirectory[str]
        self._last_run: Path | None = None
        self._rival_threads = 1

    def prepare(self) -> None:
        """The rival's venv and the workload's files; each run warms itself up."""
        python_of(self._rival)
        self._inputs = make_inputs(self._workload)
        self._folder = tempfile.TemporaryDirectory(prefix="bench-train-")
        self._rival_threads = self.blas_threads
        if self._workload is ADDITIONS:  # products so small that a second thread may cost more
            rates = {threads: self._rival_rate(threads) for threads in (1, self.blas_threads)}
            self._rival_threads = max(rates, key=lambda threads: rates[threads])
        self.note = (
            f"{self._workload.told()}; whole processes, the wall clock between the ends of "
            f"steps: ours without the first two and the last, the rival's without the first; "
            f"{self._settings.told()}; rival: one process, {self._rival_threads} BLAS threads, "
            "strictly on-policy; the same BLAS for both"
        )

    def ours(self) -> float:
        """One run of ours."""
        self._last_run = Path(tempfile.mkdtemp(dir=self._folder.name))
        limits = Limits(self._settings.threads)
        finished = run_ours(
            self._workload, self._inputs, self._our_steps, self._last_run, self._settings, limits
        )
        return finished.steps.samples_per_second(self._workload.samples_per_step)

    def rival(self) -> float:
        """One run of the rival's."""
        return self._rival_rate(self._rival_threads)

    def profile(self) -> str:
        """Mean seconds of our steps by what they were spent on."""
        rate = self.ours()
        assert self._last_run is not None
        return f"{rate:.2f} samples/s; {our_seconds(self._last_run / 'run')}"

    def close(self) -> None:
        """Remove the runs."""
        self._folder.cleanup()

    def _rival_rate(self, threads: int) -> float:
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        job = self._inputs.job(self._workload, folder, self._rival_steps)
        steps = run_rival(self._rival, job, Limits(threads)).steps
        return steps.samples_per_second(self._workload.samples_per_step)


class OneCore(Row):
    """Seconds until a held-out accuracy, from the first step's beginning; one seed a round."""

    name = "train/one_core_vs_textpolicy"
    unit = "s"
    better: Better = "lower"
    rival_name = TEXTPOLICY.name
    reach = 1.0
    blas_threads = 1

    def __init__(self) -> None:
        self._inputs: Inputs
        self._folder: tempfile.TemporaryDirectory[str]
        self._seeds = {"ours": 0, "rival": 0}
        self._launches: dict[str, list[float]] = {"ours": [], "rival": []}
        self._last_run: Path | None = None

    def prepare(self) -> None:
        """The venv, and the files."""
        from bench.table.rivals.heldout import HeldOut

        python_of(TEXTPOLICY)
        self._inputs = make_inputs(ADDITIONS)
        self._heldout = HeldOut(self._inputs.model)
        self._folder = tempfile.TemporaryDirectory(prefix="bench-one-core-")
        self._say()

    def ours(self) -> float:
        """One run of ours, every role on the one core."""
        folder, seed = self._next("ours")
        checkpoints = {"interval": EVERY, "keep_last": SEEDED_STEPS}
        settings = replace(_ONE_CORE, seed=seed, sections={"checkpoints": checkpoints})
        run = run_ours(ADDITIONS, self._inputs, SEEDED_STEPS, folder, settings, self._limits)
        self._last_run = folder / "run"
        saved = self._last_run / "checkpoints"
        return self._seconds(
            "ours", run.steps, lambda step: saved / f"step_{step:06d}" / "model.safetensors"
        )

    def rival(self) -> float:
        """One run of the rival's on the same core."""
        folder, seed = self._next("rival")
        job = self._inputs.job(ADDITIONS, folder, SEEDED_STEPS, seed=seed, save_interval=EVERY)
        steps = run_rival(TEXTPOLICY, job, self._limits).steps
        return self._seconds("rival", steps, lambda step: folder / f"{step}.safetensors")

    def profile(self) -> str:
        """Mean seconds of our steps by what they were spent on."""
        seconds = self.ours()
        assert self._last_run is not None
        return f"{seconds:.2f} s; {our_seconds(self._last_run)}"

    def close(self) -> None:
        """Remove the runs."""
        self._folder.cleanup()

    @property
    def _limits(self) -> Limits:
        return Limits(threads=1, core=only_core())

    def _next(self, side: str) -> tuple[Path, int]:
        self._seeds[side] += 1
        return Path(tempfile.mkdtemp(dir=self._folder.name)), self._seeds[side]

    def _seconds(self, side: str, steps: Steps, weights_of: Callable[[int], Path]) -> float:
        from bench.table.rivals.heldout import crossing

        points = [(0.0, self._heldout.accuracy(self._inputs.model / "model.safetensors"))]
        for step in range(EVERY, SEEDED_STEPS + 1, EVERY):
            if points[-1][1] >= ACCURACY:
                break
            seconds = steps.ended[step - 1] - steps.began
            points.append((seconds, self._heldout.accuracy(weights_of(step))))
        found = crossing(points, ACCURACY)
        self._launches[side].append(found + steps.began - steps.launched)
        self._say()
        return found

    def _say(self) -> None:
        started = ", ".join(
            f"{side} {median(each):.1f}" for side, each in self._launches.items() if each
        )
        self.note = (
            f"{ADDITIONS.told()}; {_ONE_CORE.told()}; everything on core {only_core()}, "
            f"1 BLAS thread a process; from the beginning of the first step to {ACCURACY:.0%} of "
            f"1024 held-out sums (greedy, of weights kept every {EVERY} steps, looked at after the "
            f"run, straight between them); "
            f"seeds 1, 2, ...; with start-up, medians in s: {started}"
        )


_TINY = OurSettings(actors=1)
_SMOLLM2 = OurSettings(actors=1)
_ONE_CORE = OurSettings(actors=0, max_off_policy_steps=0)
"""Nothing can go on beside training: in turns, and then strictly on-policy costs nothing."""

ROWS = [
    Training("train/smollm2_vs_mlx_lm_lora", MLX_LM_LORA, 2.0, TOLD_STORIES, _SMOLLM2, (5, 3)),
    Training("train/tiny_vs_mlx_lm_lora", MLX_LM_LORA, 2.0, ADDITIONS, _TINY, (40, 25)),
    Training("train/smollm2_vs_textpolicy", TEXTPOLICY, 1.3, TOLD_STORIES, _SMOLLM2, (5, 3)),
    Training("train/tiny_vs_textpolicy", TEXTPOLICY, 1.3, ADDITIONS, _TINY, (40, 25)),
    OneCore(),
]
