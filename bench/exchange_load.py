"""The exchange under load: 200 simulated actors and 50 simulated reward workers on this machine.

Real sockets, and the real exchange thread, ledger, prompt book and publisher
(bench/loaded_learner.py); rollouts are 8 KB, and the peers compute nothing
(bench/simulated_peers.py, three processes). In turn:

    full speed   rollouts as fast as they are leased, nothing is trained: rollouts a second,
                 milliseconds of the exchange thread's CPU for each, its memory, whether every
                 group came exactly once
    beside       the tiny policy is trained in the main thread; windows take turns in which there is
                 no load, 300 rollouts a second, and as many for an exchange in another process
                 (so the machine is as busy, and the interpreter is not): seconds a step, and how
                 long a heartbeat waits for its answer; the same once more at `--rate`

    .venv/bin/python bench/exchange_load.py                  # about two minutes
    .venv/bin/python bench/exchange_load.py --seconds 300    # memory over five minutes
    .venv/bin/python bench/exchange_load.py --profile        # and what the exchange's CPU went to
"""

import argparse
import contextlib
import cProfile
import io
import pstats
import random
import statistics
import time
from collections.abc import Iterator
from typing import Any

from protocol.blas import preload_blas

preload_blas()

import psutil  # noqa: E402
from loaded_learner import CONFIG, GROUP_SIZE, GROUPS_PER_STEP, Crowd, Elsewhere, Learner  # noqa: E402

from learner.algorithm import make_algorithm  # noqa: E402
from learner.data.prompts import TokenizedPrompt  # noqa: E402
from learner.data.sources import Row  # noqa: E402
from learner.data.stream import PromptStream  # noqa: E402
from learner.exchange.evaluation_book import EvaluationBook  # noqa: E402
from learner.exchange.prompt_book import PromptBook  # noqa: E402
from learner.samples import ScoredSample  # noqa: E402
from learner.step import Trainer  # noqa: E402
from protocol.messages import Rollout, Score  # noqa: E402
from protocol.policy import load_policy  # noqa: E402

SIDE_RATE = 300
QUIET, HERE, THERE = "no load", "load in this process", "load in another process"
SETTLE_SECONDS = 0.5
WARM_UP_SECONDS = 5.0


def full_speed(learner: Learner, crowd: Crowd, seconds: float) -> None:
    """Print rate, CPU and memory without training."""
    crowd.rate(0)
    time.sleep(WARM_UP_SECONDS)
    rollouts, scores = figures(learner)
    cpu, began, resident = learner.clock.cpu_seconds, time.monotonic(), list[float]()
    while time.monotonic() - began < seconds:
        time.sleep(1.0)
        resident.append(psutil.Process().memory_info().rss / 2**20)
    took, cpu = time.monotonic() - began, learner.clock.cpu_seconds - cpu
    more, more_scores = (b - a for a, b in zip((rollouts, scores), figures(learner), strict=True))
    fifth = max(1, len(resident) // 5)
    parts = [statistics.mean(resident[i * fifth : (i + 1) * fifth]) for i in range(5)]
    print(
        f"full speed, {took:.0f} s: {more / took:,.0f} rollouts/s and {more_scores / took:,.0f} "
        f"scores/s, {1000 * cpu / more:.3f} ms of the exchange thread's CPU a rollout "
        f"({100 * cpu / took:.0f} % of a core)\n"
        f"  memory of the learner, {fifth} s each: {', '.join(f'{p:.1f}' for p in parts)} MB; "
        f"first to last {100 * (parts[-1] / parts[0] - 1):+.1f} %\n  {learner.verdict()}",
        flush=True,
    )


def figures(learner: Learner) -> tuple[float, float]:
    """Rollouts and scores taken so far."""
    counts = learner.exchange.counts()
    return counts["rollouts"], counts["scores"]


def beside_training(
    crowds: dict[str, Crowd], learner: Learner, rate: float, window_seconds: float, rounds: int
) -> list[tuple[float, float]]:
    """Print how training fares beside so many rollouts a second; returns the windows of load."""
    trainer = Trainer(load_policy(CONFIG), make_algorithm(CONFIG.algorithm), CONFIG)
    samples = training_samples()
    trainer.step(samples, 0, 0)
    took: dict[str, list[float]] = {name: [] for name in (QUIET, *crowds)}
    windows: list[tuple[float, float]] = []
    before, loaded_seconds = figures(learner)[0], 0.0
    for name in [*took] * rounds:
        if name in crowds:
            crowds[name].rate(rate)
        resumed_at = time.time()
        time.sleep(SETTLE_SECONDS)
        began = time.time()
        while time.time() - began < window_seconds:
            at = time.perf_counter()
            trainer.step(samples, 0, 0)
            took[name].append(time.perf_counter() - at)
        if name in crowds:
            crowds[name].tell("pause")
        if name == HERE:
            windows.append((began, time.time()))
            loaded_seconds += time.time() - resumed_at
    taken = (figures(learner)[0] - before) / loaded_seconds
    print_steps(took, taken)
    return windows


def print_steps(took: dict[str, list[float]], rollouts_a_second: float) -> None:
    """Print seconds a step, and by how much the load changes them.

    The fastest steps are those that other work on the machine disturbed least.
    """
    for name, part in (("median", 0.5), ("fastest tenth", 0.1)):
        at = {n: sorted(seconds)[int(part * len(seconds))] for n, seconds in took.items()}
        told = [f"{1000 * seconds:.1f} ms with {n} ({len(took[n])})" for n, seconds in at.items()]
        slower = [
            f"{100 * (at[HERE] / at[other] - 1):+.1f} % slower than with {other}"
            for other in (QUIET, THERE)
        ]
        print(
            f"training beside {rollouts_a_second:,.0f} rollouts/s, {name}: {', '.join(told)}\n"
            f"  {HERE}: {', '.join(slower)}",
            flush=True,
        )


def training_samples() -> list[ScoredSample]:
    """A batch for the tiny policy: 32 groups of 8 completions of 8 tokens."""
    rng, samples = random.Random(0), list[ScoredSample]()
    for index in range(GROUPS_PER_STEP * GROUP_SIZE):
        where = {"run_epoch": 1, "group_id": index // GROUP_SIZE, "attempt": 1}
        where["sample"] = index % GROUP_SIZE
        rollout = {
            **where,
            "token_ids": [rng.randrange(17) for _ in range(8)],
            "behaviour_logprobs": [-2.8] * 8,
            "policy_versions": ((0, 8),),
            "finish_reason": "length",
            "completion": "",
            "seconds": 1.0,
        }
        score = {**where, "reward": float(index % 2), "rewards": (), "status": "ok"}
        prompt = TokenizedPrompt(Row("p", "p", {}), tuple(rng.randrange(17) for _ in range(8)))
        entry = PromptBook([prompt], EvaluationBook(), PromptStream(1, 0), 0).entry(0)
        samples.append(
            ScoredSample(
                *("p", "p", entry.prompt_ids, "actor"),
                Rollout.model_validate(rollout),
                Score.model_validate(score),
            )
        )
    return samples


def print_heartbeats(
    seen: list[dict[str, Any]], name: str, windows: list[tuple[float, float]]
) -> None:
    """Print how long heartbeats of these windows waited for their answer."""
    waits = sorted(
        wait
        for process in seen
        for at, wait in process["heartbeats"]
        if any(start <= at <= end for start, end in windows)
    )
    if waits:
        p50, p99 = waits[len(waits) // 2], waits[int(0.99 * len(waits))]
        print(
            f"heartbeats {name}: {len(waits)}, answered after {1000 * p50:.0f} ms (median), "
            f"{1000 * p99:.0f} ms (p99), {1000 * waits[-1]:.0f} ms (most)"
        )


@contextlib.contextmanager
def profiled(profiler: cProfile.Profile | None) -> Iterator[None]:
    """Print what a profiler has found in the meantime."""
    yield
    if profiler is not None:
        text = io.StringIO()
        pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(35)
        print(text.getvalue())


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=30.0, help="at full speed, 5 or more")
    parser.add_argument("--window", type=float, default=3.0, help="seconds of each kind of load")
    parser.add_argument("--rounds", type=int, default=8, help="of windows; 0: no training")
    parser.add_argument("--rate", type=float, default=1000.0, help="of the second training run")
    parser.add_argument("--port", type=int, default=random.randrange(20_000, 29_000))
    parser.add_argument("--profile", action="store_true", help="of full speed; slows it down")
    options = parser.parse_args()
    profiler = cProfile.Profile() if options.profile else None
    learner = Learner(options.port, profiler)
    crowd = Crowd(options.port)
    time.sleep(WARM_UP_SECONDS)
    with profiled(profiler):
        full_speed(learner, crowd, options.seconds)
    crowd.tell("pause")
    windows = measure_training(learner, crowd, options) if options.rounds else {}
    crowd.rate(SIDE_RATE)
    time.sleep(WARM_UP_SECONDS)
    seen = crowd.end()
    for rate, spans in windows.items():
        print_heartbeats(seen, f"beside training and {rate:.0f} rollouts/s", spans)
    print(f"{learner.verdict()}; {sum(process['again'] for process in seen)} messages sent again")
    learner.exchange.close("the load is over")


def measure_training(
    learner: Learner, crowd: Crowd, options: argparse.Namespace
) -> dict[float, list[tuple[float, float]]]:
    """Train beside both rates; returns the windows of load by rate."""
    elsewhere = Elsewhere(options.port + 100)
    time.sleep(WARM_UP_SECONDS)
    elsewhere.crowd.tell("pause")
    crowds = {HERE: crowd, THERE: elsewhere.crowd}
    windows = {
        float(rate): beside_training(crowds, learner, rate, options.window, options.rounds)
        for rate in (SIDE_RATE, options.rate)
    }
    elsewhere.crowd.rate(SIDE_RATE)
    elsewhere.end()
    return windows


if __name__ == "__main__":
    main()
