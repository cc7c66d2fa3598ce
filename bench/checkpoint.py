"""Seconds that training stands still for a checkpoint, until it is on disk, and to resume from it.

A random model of SmolLM2-135M's shape, full tuning, with AdamW's state: 1.9 GB a checkpoint.
Beside it, in the same process and in turn: a plain `mx.save_safetensors` of the policy's weights
alone, and of the whole state; a plain `mx.load` of that state. The checkpoint's save includes
rounding the policy, digests and fsync; the plain ones include no fsync and no digests.

    .venv/bin/python bench/checkpoint.py             # about a minute, 4 GB of disk, 5 GB of memory
    .venv/bin/python bench/checkpoint.py --folder /Volumes/other --rounds 5
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from protocol.blas import preload_blas

preload_blas()

import mlx.core as mx  # noqa: E402
from learner_step import SMOLLM2  # noqa: E402
from mlx_lm.models.llama import Model  # noqa: E402

from learner.checkpoints.position import Position  # noqa: E402
from learner.checkpoints.restore import restore_checkpoint  # noqa: E402
from learner.checkpoints.writer import CheckpointWriter  # noqa: E402
from learner.ledger.snapshot import Snapshot  # noqa: E402
from learner.parameters import Parameters  # noqa: E402
from protocol.config import RunConfig  # noqa: E402
from protocol.policy import Policy  # noqa: E402

CONFIG = RunConfig.model_validate(
    {
        "model": {"path": "builtin:tiny"},
        "data": {"train": ["arithmetic:add2?count=8"]},
        "rewards": [{"name": "exact_match"}],
        "checkpoints": {"keep_last": 1},
    }
)


class Bench:
    """A policy with its optimizer's state, and files to write it to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        mx.random.seed(0)
        (folder / "model").mkdir()
        self.policy = Policy(Model(SMOLLM2), None, folder / "model", mx.bfloat16, mx.float32)
        self.parameters = Parameters(self.policy, None, CONFIG)
        self.step = 0
        self.optimizer_step()
        self.checkpoints = folder / "checkpoints"
        self.checkpoints.mkdir()
        self.writer = CheckpointWriter(self.checkpoints, CONFIG, {})

    def optimizer_step(self) -> None:
        """One step of AdamW with gradients that are the masters themselves."""
        self.parameters.apply({"policy": dict(self.parameters.masters.arrays)}, self.step)
        self.step += 1

    def save(self) -> None:
        """The call that training waits for."""
        self.writer.save(Position(self.step, self.step, Snapshot()), self.policy, self.parameters)

    def save_weights_plainly(self) -> None:
        """The policy alone, rounded: what a trainer without a resume would write."""
        mx.save_safetensors(
            str(self.folder / "weights.safetensors"), self.parameters.masters.rounded()
        )

    def save_state_plainly(self) -> None:
        """Everything that a resume needs, in the thread that trains."""
        mx.save_safetensors(str(self.folder / "state.safetensors"), self.parameters.state())

    def load_state_plainly(self) -> None:
        """The state's arrays, and nothing done with them."""
        mx.eval(mx.load(str(self.folder / "state.safetensors")))

    def resume(self) -> None:
        """Sizes, digests, arrays, and the policy that computes with them."""
        assert restore_checkpoint(self.checkpoints, self.parameters, CONFIG) is not None


def seconds(work: Callable[[], None]) -> float:
    """Wall time of a call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def one_round(bench: Bench) -> dict[str, float]:
    """Seconds by what was done."""
    found = {
        "mx.save_safetensors, weights": seconds(bench.save_weights_plainly),
        "mx.save_safetensors, whole state": seconds(bench.save_state_plainly),
        "an optimizer step": seconds(bench.optimizer_step),
        "training stands still": seconds(bench.save),
        "until it is on disk, after that": seconds(bench.writer.wait),
    }
    bench.save()
    found["an optimizer step while it is written"] = seconds(bench.optimizer_step)
    bench.writer.wait()
    found["mx.load, whole state"] = seconds(bench.load_state_plainly)
    found["resume"] = seconds(bench.resume)
    return found


def report(rounds: list[dict[str, float]]) -> None:
    """Medians, least and most, and the ratios that count."""
    for name in rounds[0]:
        values = [found[name] for found in rounds]
        median = statistics.median(values)
        print(f"{name:40} {median:7.3f} s   ({min(values):.3f} to {max(values):.3f})")
    for name, plain in (
        ("training stands still", "mx.save_safetensors, weights"),
        ("training stands still", "mx.save_safetensors, whole state"),
        ("an optimizer step while it is written", "an optimizer step"),
        ("resume", "mx.load, whole state"),
    ):
        ratio = statistics.median(found[name] / found[plain] for found in rounds)
        print(f"{name} / {plain}: {ratio:.2f}")


def main() -> None:
    """Print seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, help="where to write; default: the system's own")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-checkpoint-", dir=options.folder))
    try:
        bench = Bench(folder)
        trained = sum(array.size for array in bench.parameters.masters.arrays.values())
        print(f"{trained / 1e6:.1f} million parameters, written to {folder}")
        report([one_round(bench) for _ in range(options.rounds)])
        sizes = sum(path.stat().st_size for path in bench.checkpoints.rglob("*") if path.is_file())
        print(f"a checkpoint has {sizes / 1e9:.2f} GB")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
