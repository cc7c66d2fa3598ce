"""One row, measured in this process; bench/table/__main__.py starts it with the BLAS threads set.

OPENBLAS_NUM_THREADS=2 python -m bench.table.child engine/short --rounds 1 --out row.json
OPENBLAS_NUM_THREADS=2 python -m bench.table.child engine/short --profile
"""

import argparse
import dataclasses
import json
from pathlib import Path

from bench.table.catalogue import all_rows
from bench.table.row import measure


def main() -> None:
    """Measure or profile one row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("row")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    row = all_rows()[options.row]
    if options.profile:
        try:
            row.prepare()
            print(row.profile() or f"{row.name} has no profile")
        finally:
            row.close()
        return
    result = json.dumps(dataclasses.asdict(measure(row, options.rounds)))
    print(result)
    if options.out is not None:
        options.out.write_text(result)


if __name__ == "__main__":
    main()
