"""Runs the hostile programs outside pytest: under load, over and over, as another user.

    python tests/reward_workers/sandbox/adversarial/suite.py --load 4 --strategy fork --json FILE

Ends with code 1 where a program gets a verdict that it must not get.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from hostile.canaries import ROOT, damage, planted

sys.path.insert(0, str(ROOT))

from hostile.catalogue import PROGRAMS, REPRESENTATIVES
from hostile.program import Hostile
from hostile.running import run_all


@contextlib.contextmanager
def load(processes_per_cpu: int) -> Iterator[None]:
    """So many busy processes beside the suite."""
    count = processes_per_cpu * (os.cpu_count() or 1)
    command = [sys.executable, "-c", "while True: pass"]
    busy = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main() -> int:
    """The command line; see above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--strategy", choices=("auto", "fork", "fresh"), default="auto")
    parser.add_argument("--load", type=int, default=0, help="busy processes for each CPU")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--only", default="", help="programs whose names hold this")
    parser.add_argument("--few", action="store_true", help="a few of every family")
    parser.add_argument("--json", type=Path, help="file for all verdicts; - for stdout")
    options = parser.parse_args()
    programs = {
        name: program
        for name, program in (REPRESENTATIVES if options.few else PROGRAMS).items()
        if options.only in name
    }
    wrong = []
    rounds: list[dict[str, Any]] = []
    with planted() as facts, load(options.load):
        for _ in range(options.repeat):
            began = time.monotonic()
            results = asyncio.run(run_all(programs, facts, options.strategy, options.slots))
            rounds.append({name: vars(result) for name, result in results.items()})
            wrong += [*mismatches(programs, results), *damage(facts)]
            sys.stderr.write(f"{len(results)} in {time.monotonic() - began:.1f} s\n")
    report(options.json, rounds, wrong)
    return 1 if wrong else 0


def mismatches(programs: Mapping[str, Hostile], results: Mapping[str, Any]) -> list[str]:
    """A line for each program that got another verdict than it must."""
    return [
        f"{name}: {result.verdict}, not {'/'.join(sorted(programs[name].verdicts))} "
        f"({result.detail[:200]})"
        for name, result in results.items()
        if result.verdict not in programs[name].verdicts
    ]


def report(path: Path | None, rounds: list[dict[str, Any]], wrong: list[str]) -> None:
    """The verdicts to a file, the wrong ones to stderr."""
    for line in wrong:
        sys.stderr.write(f"{line}\n")
    if path is not None:
        text = json.dumps({"rounds": rounds, "wrong": wrong}, indent=1)
        if str(path) == "-":
            sys.stdout.write(text)
        else:
            path.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
