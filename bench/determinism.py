"""Are the weights the same bytes, whoever works and whatever dies? Runs, and their SHA-256.

With run.deterministic the quickstart's task is run by one actor, by three, by three of which some
are killed together with a reward worker, by a learner that is killed and resumed twice, and by all
that at once; then under another seed, which must not give the same. Exit code 1 if one of this does
not hold.

    .venv/bin/python bench/determinism.py [--steps 10] [--only one,killed,...]
"""

import argparse
import contextlib
import hashlib
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from run_processes import RunProcesses

MIN_CONTRIBUTORS = 2
"""Actors that must have contributed where there are several."""


@dataclass(frozen=True)
class Variant:
    """One way to run the same training."""

    name: str
    num_actors: int = 3
    peers_to_kill: tuple[str, ...] = ()
    """Roles, one kill each, spread over the run."""
    num_learner_kills: int = 0
    seed: int = 1

    def victims(self, num_steps: int) -> list[tuple[int, str]]:
        """(after this step, role), rising."""
        roles = [*self.peers_to_kill, *["learner"] * self.num_learner_kills]
        return [((i + 1) * num_steps // (len(roles) + 1), role) for i, role in enumerate(roles)]


VARIANTS = {
    "one": Variant("1 actor", num_actors=1),
    "three": Variant("3 actors"),
    "killed": Variant(
        "3 actors, kills of actors and reward workers",
        peers_to_kill=("actors", "reward_workers", "actors", "actors", "reward_workers"),
    ),
    "resumed": Variant("3 actors, learner killed and resumed twice", num_learner_kills=2),
    "all": Variant(
        "3 actors, kills of all roles",
        peers_to_kill=("actors", "reward_workers", "actors"),
        num_learner_kills=1,
    ),
    "other": Variant("1 actor, another seed", num_actors=1, seed=2),
}


@dataclass(frozen=True)
class Result:
    """What a run left behind."""

    model: str
    """SHA-256 of the weights as they were published last."""
    trainer: str
    """SHA-256 of the fp32 masters and the optimizer's state."""
    rollouts: Counter[str]
    """By actor."""
    killed: Counter[str]
    seconds: float


def main() -> int:
    """Run the variants and compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--port", type=int, default=19550)
    parser.add_argument("--only", default=",".join(VARIANTS), help="which: " + ", ".join(VARIANTS))
    options = parser.parse_args()
    chosen = [VARIANTS[name] for name in options.only.split(",")]
    results: dict[Variant, Result] = {}
    with tempfile.TemporaryDirectory(prefix="determinism-") as folder:
        for number, variant in enumerate(chosen):
            run_dir = Path(folder, str(number))
            results[variant] = train(variant, run_dir, options.port, options.steps)
            show(variant, results[variant])
    return judge(results)


def train(variant: Variant, run_dir: Path, port: int, num_steps: int) -> Result:
    """Run one variant to its end."""
    began, rng = time.monotonic(), random.Random(variant.seed)
    run = RunProcesses(run_dir, port, overrides(variant, num_steps))
    victims, killed = variant.victims(num_steps), Counter[str]()
    try:
        run.start_peers("actors", variant.num_actors)
        run.start_peers("reward_workers", 2)
        code = None
        while code in (None, -signal.SIGKILL):
            run.start_learner()
            for step, role in list(victims):
                if kill(run, step, role, rng):
                    victims.remove((step, role))
                    killed[role] += 1
            run.until(lambda: False)
            code = run.learner.wait()
    finally:
        run.end()
    if code or victims:
        raise SystemExit(f"{variant.name}: the learner ended with code {code}, unkilled {victims}")
    newest = max((run_dir / "checkpoints").glob("step_*"))
    return Result(
        digest(newest / "model.safetensors"),
        digest(newest / "trainer.safetensors"),
        Counter(actors_of(run_dir)),
        killed,
        time.monotonic() - began,
    )


def overrides(variant: Variant, num_steps: int) -> dict[str, object]:
    """The quickstart's task, smaller and deterministic."""
    return {
        "run.deterministic": "true",
        "run.seed": variant.seed,
        "run.max_steps": num_steps,
        "data.heldout": '["arithmetic:add2?count=32"]',
        "learner.groups_per_step": 8,
        "learner.max_off_policy_steps": 0,
        "learner.lease_seconds": 10,
        "learner.score_seconds": 10,
        "reward_worker.processes": 1,
        "evaluation.interval": 4,
        "checkpoints.interval": 2,
        "network.heartbeat_seconds": 0.3,
    }


def kill(run: RunProcesses, step: int, role: str, rng: random.Random) -> bool:
    """Kill one process of a role somewhere after a step; False if the learner ended before."""
    if not run.until(lambda: run.num_steps() >= step):
        return False
    run.until(lambda: False, rng.uniform(0.0, 0.2))
    if not run.until(lambda: bool(run.members(role))):
        return False
    with contextlib.suppress(psutil.NoSuchProcess):
        rng.choice(run.members(role)).kill()
    return True


def digest(path: Path) -> str:
    """SHA-256 over name, dtype, shape and bytes of every array of a safetensors file, by name."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    state = hashlib.sha256()
    for name, array in sorted(header.items()):
        begin, end = array["data_offsets"]
        state.update(f"{name}\0{array['dtype']}\0{array['shape']}\0".encode())
        state.update(data[start + begin : start + end])
    return state.hexdigest()


def actors_of(run_dir: Path) -> Iterator[str]:
    """The actor of each rollout trained on."""
    for path in sorted(run_dir.glob("rollouts/step_*.jsonl")):
        for line in path.read_text().splitlines():
            yield json.loads(line)["actor"]


def show(variant: Variant, result: Result) -> None:
    """Print one run."""
    shares = " + ".join(map(str, sorted(result.rollouts.values(), reverse=True)))
    kills = ", ".join(f"{number} x {role}" for role, number in result.killed.items())
    print(f"{variant.name} (seed {variant.seed}, {result.seconds:.0f} s)")
    print(f"    rollouts by actor {shares}; killed {kills or 'nobody'}")
    print(f"    model   {result.model}\n    trainer {result.trainer}", flush=True)


def judge(results: dict[Variant, Result]) -> int:
    """Say what does not hold; returns 1 then."""
    by_seed: dict[int, set[tuple[str, str]]] = {}
    wrong: list[str] = []
    for variant, result in results.items():
        by_seed.setdefault(variant.seed, set()).add((result.model, result.trainer))
        if variant.num_actors > 1 and len(result.rollouts) < MIN_CONTRIBUTORS:
            wrong.append(f"{variant.name}: only one actor contributed")
    wrong += [f"seed {s}: {len(d)} different ends" for s, d in by_seed.items() if len(d) > 1]
    if len(by_seed) > 1 and set.intersection(*by_seed.values()):
        wrong.append("two seeds end in the same bytes")
    print("\n".join(wrong) or "the same bytes in all runs of a seed, others under another seed")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
