"""bench/results.json, and the table that is printed of it."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.table.row import Result, Row
from learner.plan.machine import this_machine

MACHINE = "machine"
"""The one key of results.json that is no row."""
PACKAGES = ("mlx", "mlx-lm", "numpy", "pyzmq")


def read(path: Path) -> dict[str, Any]:
    """What an earlier table wrote; empty where there is none."""
    return json.loads(path.read_text()) if path.is_file() else {}


def write(path: Path, entries: Mapping[str, Any]) -> None:
    """Replace the file at once, rows sorted by name."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(dict(sorted(entries.items())), indent=2) + "\n")
    new.replace(path)


def entry(result: Result, warning: str = "") -> dict[str, Any]:
    """A row as results.json keeps it."""
    low, high = result.spread
    said = [
        f"against {result.rival_name}",
        f"rounds in turn: {result.rounds}, ratio of single rounds {low:.3g} to {high:.3g}",
        result.note,
        warning,
    ]
    return {
        "ours": significant(result.ours),
        "rival": significant(result.rival),
        "ratio": significant(result.ratio),
        "unit": result.unit,
        "note": "; ".join(filter(None, said)),
    }


def significant(number: float, digits: int = 6) -> float:
    """Rounded to what such a measurement can say."""
    return float(f"{number:.{digits}g}")


def table_of(rows: Mapping[str, Row], entries: Mapping[str, Any]) -> Table:
    """Every row that has figures, with what it is to reach."""
    table = Table(title="bench: ratio = how many times better than the rival")
    table.add_column("row", no_wrap=True)
    table.add_column("rival", overflow="fold")
    for column in ("ours", "theirs", "ratio", "reach"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    for name, row in rows.items():
        if name not in entries:
            continue
        found = entries[name]
        colour = "green" if found["ratio"] >= row.reach else "red"
        table.add_row(
            name,
            row.rival_name,
            f"{found['ours']:,.4g}",
            f"{found['rival']:,.4g}",
            f"[{colour}]{found['ratio']:.2f}[/]",
            f"{row.reach:g}",
            found["unit"],
        )
    return table


def machine() -> dict[str, Any]:
    """Where the table was made."""
    found = this_machine()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": found.num_cores if found else os.cpu_count(),
        "memory_bytes": found.memory_bytes if found else None,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def _processor() -> str:
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), "")
