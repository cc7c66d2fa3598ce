"""The score of mutation testing, by file, from what mutmut wrote; fails below a share.

    mutmut run && python bench/mutants.py --at-least 0.9

A mutant is killed if a test fails with it or never ends. What no test saw counts as alive, and what
was not run at all is an error.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

FOLDER = Path("mutants")
KILLED = {1, 3, 24, -24, 36, 152, 255}
"""Exit codes: a test failed, pytest itself did, or the time was up."""


def count(meta: Path) -> tuple[Counter[str], list[str]]:
    """Counts a file's mutants: all, killed, not run; returns the names of those alive as well."""
    codes: dict[str, int | None] = json.loads(meta.read_text())["exit_code_by_key"]
    alive = [name for name, code in codes.items() if code is not None and code not in KILLED]
    num_missing = sum(code is None for code in codes.values())
    num_killed = len(codes) - len(alive) - num_missing
    return Counter(all=len(codes), killed=num_killed, missing=num_missing), alive


def main() -> int:
    """Prints the table and the mutants that no test noticed; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-least", type=float, default=0.9, metavar="SHARE")
    wanted: float = parser.parse_args().at_least
    total: Counter[str] = Counter()
    survivors: list[str] = []
    for meta in sorted(FOLDER.rglob("*.py.meta")):
        counts, alive = count(meta)
        if counts["all"]:
            print(f"{meta.name.removesuffix('.meta'):20} {counts['killed']:5} of {counts['all']:5}")
        total += counts
        survivors += alive
    for name in survivors:
        print(f"alive: {name}")
    if not total["all"] or total["missing"]:
        print(f"error: {total['missing']} of {total['all']} mutants were not run; run mutmut first")
        return 2
    share = total["killed"] / total["all"]
    print(f"{total['killed']} of {total['all']} killed: {share:.1%}; {wanted:.0%} wanted")
    return 0 if share >= wanted else 1


if __name__ == "__main__":
    sys.exit(main())
