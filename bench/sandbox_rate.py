"""How many programs a second does the sandbox judge? Beside two ways without confinement.

Every program is another one, the verdict cache is off, and two run at a time. All ways run in turn,
in each round, so that a ratio compares what one machine did within a minute.

    .venv/bin/python bench/sandbox_rate.py [--rounds 3] [--jobs 300] [--burst 64]

    bare        subprocess `python -I -S`, nothing else: no isolation, no judge
    spawn       a multiprocessing spawn process for each program: no isolation
    fork        SandboxPool, forks of a zygote (Linux only), sustained
    fresh       SandboxPool, single-use interpreters, sustained
    * burst     all at once, from warm spares; the refill begins; seconds until the last verdict
    * refilled  the same burst; seconds until all spares are warm again

Latency is of one job: sustained, from the call, with a slot free, to its result; in a burst, where
all but two wait, from the delivery to a worker to the verdict.
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Literal

from reward_workers.sandbox import Case, SandboxPool, Verdict

AT_A_TIME = 2
Latencies = list[float]
Start = Literal["fork", "fresh"]
Figures = tuple[float, Latencies]
"""Programs a second, and the seconds of each."""


def programs(count: int, tag: str) -> Iterator[str]:
    """Distinct small programs that define `f`."""
    for number in range(count):
        yield (
            "from collections import Counter\n"
            f"def f(text, shift):  # {tag}\n"
            "    counts = Counter(text)\n"
            f"    return sorted((c, n + shift + {number}) for c, n in counts.items())\n"
        )


def check_of(number: int) -> str:
    """A line that runs `f` as the pool's case does."""
    return f"assert f('hello', 1) == {expected(number)!r}\n"


def expected(number: int) -> list[tuple[str, int]]:
    """What `f` of program `number` returns for ('hello', 1)."""
    return [(c, n + 1 + number) for c, n in (("e", 1), ("h", 1), ("l", 2), ("o", 1))]


def timed(run: Callable[[str], None], sources: list[str]) -> Figures:
    """Run all sources, two at a time, by a blocking call."""

    def one(source: str) -> float:
        began = time.perf_counter()
        run(source)
        return time.perf_counter() - began

    began = time.perf_counter()
    with ThreadPoolExecutor(AT_A_TIME) as executor:
        latencies = list(executor.map(one, sources))
    return len(sources) / (time.perf_counter() - began), latencies


def run_bare(source: str) -> None:
    """A bare interpreter."""
    subprocess.run([sys.executable, "-I", "-S", "-c", source], check=True)


def run_spawned(source: str) -> None:
    """A multiprocessing child, as most training code does it."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=execute, args=(source, sender))
    process.start()
    sender.close()
    assert receiver.recv() == "ok"
    process.join()


def execute(source: str, sender: Connection) -> None:
    """Child's side of `run_spawned`."""
    exec(source, {})
    sender.send("ok")


async def judge(pool: SandboxPool, count: int, tag: str, *, at_once: bool = False) -> Figures:
    """Judge distinct programs: as many at a time as the pool has slots, or all at once."""
    free = asyncio.Semaphore(count if at_once else AT_A_TIME)
    latencies: Latencies = []

    async def one(number: int, code: str) -> None:
        async with free:
            began = time.perf_counter()
            case = Case(["hello", 1], expected(number))
            result = await pool.run_calls(code, entry="f", cases=[case])
            seconds = result.wall_seconds if at_once else time.perf_counter() - began
            latencies.append(seconds)
        assert result.verdict is Verdict.PASSED, result

    began = time.perf_counter()
    await asyncio.gather(*(one(n, code) for n, code in enumerate(programs(count, tag))))
    return count / (time.perf_counter() - began), latencies


async def measure_pool(start: Start, jobs: int, burst: int) -> dict[str, Figures]:
    """Sustained and burst rates of one strategy."""
    async with SandboxPool(AT_A_TIME, warm=8, start=start, cache_size=0) as pool:
        await until_warm(pool, 8)
        sustained = await judge(pool, jobs, "sustained")
    async with SandboxPool(AT_A_TIME, warm=burst, start=start, cache_size=0) as pool:
        await until_warm(pool, burst)
        began = time.perf_counter()
        bursting = await judge(pool, burst, "burst", at_once=True)
        await until_warm(pool, burst)
        refilled = burst / (time.perf_counter() - began), bursting[1]
    return {start: sustained, f"{start} burst": bursting, f"{start} refilled": refilled}


async def until_warm(pool: SandboxPool, count: int) -> None:
    """Wait until the pool has all its spares."""
    while pool.statistics()["warm"] < count:  # noqa: ASYNC110 - a figure is no event
        await asyncio.sleep(0.001)


def run_round(jobs: int, burst: int, number: int) -> dict[str, Figures]:
    """Every way once."""
    sources = [
        code + check_of(n) for n, code in enumerate(programs(min(jobs, 100), f"round {number}"))
    ]
    figures = {"bare": timed(run_bare, sources), "spawn": timed(run_spawned, sources[:30])}
    strategies: list[Callable[[], Awaitable[dict[str, Figures]]]] = []
    if sys.platform == "linux":
        strategies.append(lambda: measure_pool("fork", jobs, burst))
    strategies.append(lambda: measure_pool("fresh", max(jobs // 3, 1), burst))
    for strategy in strategies:
        figures |= asyncio.run(wrapped(strategy))
    return figures


async def wrapped(call: Callable[[], Awaitable[dict[str, Figures]]]) -> dict[str, Figures]:
    """A coroutine, for asyncio.run."""
    return await call()


def milliseconds(values: Latencies, quantile: float) -> float:
    """A quantile in milliseconds."""
    return sorted(values)[min(int(len(values) * quantile), len(values) - 1)] * 1000


def main() -> None:
    """Print a line for each way: rates and latencies over all rounds, ratio to spawn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--burst", type=int, default=64)
    options = parser.parse_args()
    rounds = [run_round(options.jobs, options.burst, n) for n in range(options.rounds)]
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {options.rounds} rounds")
    print(
        f"{'':16}{'/s median':>10}{'least':>8}{'most':>8}{'x spawn':>9}{'p50 ms':>9}{'p99 ms':>9}"
    )
    for name in rounds[0]:
        rates = [figures[name][0] for figures in rounds]
        latencies = [seconds for figures in rounds for seconds in figures[name][1]]
        ratio = statistics.median(figures[name][0] / figures["spawn"][0] for figures in rounds)
        print(
            f"{name:16}{statistics.median(rates):10.1f}{min(rates):8.1f}{max(rates):8.1f}"
            f"{ratio:9.1f}{milliseconds(latencies, 0.5):9.1f}{milliseconds(latencies, 0.99):9.1f}"
        )


if __name__ == "__main__":
    main()
