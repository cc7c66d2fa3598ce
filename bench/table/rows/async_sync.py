"""What one policy version of staleness buys: generation beside training, by the same roles."""

import tempfile
from dataclasses import replace
from pathlib import Path

from bench.table.rivals.launch import Limits, run_ours
from bench.table.rivals.steps import our_seconds
from bench.table.rivals.workload import TOLD_STORIES, Inputs, OurSettings, make_inputs
from bench.table.row import Better, Row

STEPS = 5
ASYNC = OurSettings(actors=1, threads=1, max_off_policy_steps=1)
SYNC = replace(ASYNC, max_off_policy_steps=0)


class AsyncVersusSync(Row):
    """Samples a second with max_off_policy_steps 1 against 0."""

    name = "async/vs_sync"
    unit = "samples/s"
    better: Better = "higher"
    rival_name = "ourselves with max_off_policy_steps 0"
    reach = 1.3
    blas_threads = 1

    def __init__(self) -> None:
        self._inputs: Inputs
        self._folder: tempfile.TemporaryDirectory[str]

    def prepare(self) -> None:
        """The model's files."""
        self._inputs = make_inputs(TOLD_STORIES)
        self._folder = tempfile.TemporaryDirectory(prefix="bench-async-")
        self.note = f"{TOLD_STORIES.told()}; {ASYNC.told()}; against 0, all else the same"

    def ours(self) -> float:
        """One run that may be one version behind."""
        return self._rate(ASYNC)[0]

    def rival(self) -> float:
        """One run that waits for each new version."""
        return self._rate(SYNC)[0]

    def profile(self) -> str:
        """Where both spend their steps."""
        return "\n".join(
            "max_off_policy_steps {}: {:.2f} samples/s; {}".format(
                settings.max_off_policy_steps, *self._rate(settings)
            )
            for settings in (ASYNC, SYNC)
        )

    def close(self) -> None:
        """Remove the runs."""
        self._folder.cleanup()

    def _rate(self, settings: OurSettings) -> tuple[float, str]:
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        limits = Limits(settings.threads)
        steps = run_ours(TOLD_STORIES, self._inputs, STEPS, folder, settings, limits).steps
        rate = steps.samples_per_second(TOLD_STORIES.samples_per_step)
        return rate, our_seconds(folder / "run")


ROWS = [AsyncVersusSync()]
