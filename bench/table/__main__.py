"""One table: every row against its rival, measured in turn. `make bench` runs it all.

    .venv/bin/python -m bench.table                                    # everything
    .venv/bin/python -m bench.table --only engine,weights/chunks_vs_tcp --rounds 1
    .venv/bin/python -m bench.table --only engine/short --profile      # where the time goes

Writes bench/results.json: row name -> {ours, rival, ratio, unit, note}, and where it was measured
under `machine`. A row that is not run keeps its entry. The exit code is 1 if a row failed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
from rich.console import Console

from bench.table.catalogue import all_rows, chosen
from bench.table.results import MACHINE, entry, machine, read, table_of, write
from bench.table.row import Result, Row

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_OUT = ROOT / "bench" / "results.json"
BUSY_PERCENT = 10.0
"""Of all cores, before a row begins: more, and its figures are not to be trusted."""
LOOK_SECONDS = 2.0
TABLE_WIDTH = 110
"""Where the output is no terminal, or a narrow one."""


def main() -> int:
    """Run the chosen rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="rows or families, with commas between them")
    parser.add_argument("--rounds", type=int, default=5, help="of each side; below 5 only to try")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument("--blas-threads", type=int, help="for every row, instead of its own")
    parser.add_argument("--profile", action="store_true", help="show where our time goes instead")
    parser.add_argument("--list", action="store_true", help="name the rows and what they reach for")
    options = parser.parse_args()
    rows = all_rows()
    console = Console(width=max(Console().width, TABLE_WIDTH))
    if options.list:
        for row in rows.values():
            print(f"{row.name}  against {row.rival_name}, reach {row.reach:g}")
        return 0
    entries, failed = read(options.out), False
    if not options.profile:
        entries[MACHINE] = machine()
    for row in chosen([name for name in options.only.split(",") if name], rows):
        console.rule(row.name)
        warning = _busy(console)
        threads = options.blas_threads or row.blas_threads
        result = _in_a_process(row, threads, options.rounds, profile=options.profile)
        failed |= result is None and not options.profile
        if result is not None:
            entries[row.name] = entry(result, warning)
            write(options.out, entries)  # after each row: a long table may be cut short
            console.print(f"{row.name}: {entries[row.name]}")
    if not options.profile:
        console.print(table_of(rows, entries))
    return int(failed)


def _busy(console: Console) -> str:
    """A warning where something else keeps the cores busy; "" on a quiet machine."""
    percent = psutil.cpu_percent(LOOK_SECONDS)
    if percent <= BUSY_PERCENT:
        return ""
    load = os.getloadavg()[0]
    warning = f"the machine was busy before it began: {percent:.0f} % of all cores, load {load:.1f}"
    console.print(f"[red]{warning}[/]")
    return warning


def _in_a_process(row: Row, threads: int, rounds: int, *, profile: bool) -> Result | None:
    """The row's result from a process of its own; None where it failed, or was only profiled."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "row.json")
        command = [sys.executable, "-m", "bench.table.child", row.name, f"--rounds={rounds}"]
        command += ["--profile"] if profile else [f"--out={out}"]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads)}
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        if code:
            print(f"{row.name} failed with exit code {code}", file=sys.stderr)
        if not out.exists():
            return None
        found = json.loads(out.read_text())
    found["spread"] = tuple(found["spread"])
    found["note"] = f"OPENBLAS_NUM_THREADS={threads}; {found['note']}"
    return Result(**found)


if __name__ == "__main__":
    raise SystemExit(main())
