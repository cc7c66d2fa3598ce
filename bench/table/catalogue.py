"""Which rows there are: all that the modules in rows/ list."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.table.row import Row


def all_rows() -> dict[str, Row]:
    """Every row by its name, in the order of modules and of their lists."""
    rows: dict[str, Row] = {}
    for path in sorted(Path(__file__).with_name("rows").glob("[a-z]*.py")):
        for row in importlib.import_module(f"bench.table.rows.{path.stem}").ROWS:
            assert row.name not in rows, f"two rows are called {row.name}"
            rows[row.name] = row
    return rows


def chosen(names: Sequence[str], rows: Mapping[str, Row]) -> list[Row]:
    """The rows of these names or families (`engine`); all of them where none is named.

    Raises:
        SystemExit: a name that no row has.
    """
    for name in names:
        if not any(_is_meant(name, row) for row in rows):
            raise SystemExit(f"no row is called {name}; there are: {', '.join(rows)}")
    return [row for row in rows.values() if not names or any(_is_meant(n, row.name) for n in names)]


def _is_meant(name: str, row_name: str) -> bool:
    return row_name == name or row_name.startswith(f"{name}/")
