"""The command that each tutorial gives in its docstring, as it stands there, but for ports."""

import ast
import shlex
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("your_own_*.py"))


def command_of(page: Path) -> list[str]:
    """The words of the indented command that the docstring says to try."""
    text = ast.get_docstring(ast.parse(page.read_text()))
    assert text is not None
    block = text.split("Try it", 1)[1].split("\n\n")[1]
    program, *words = shlex.split(block.replace("\\\n", " "))
    return [str(Path(sys.executable).with_name(Path(program).name)), *words]


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_its_command_runs(page, start, port, tmp_path):
    run_dir = tmp_path / "run"
    ours = ["--run-dir", run_dir, "--set", f"network.port={port}", "--set", "network.http_port=0"]
    run = start(*command_of(page), *ours, run_dir=run_dir)
    run.succeeds(seconds=120)
    assert f"{page.name}:" in (run_dir / "config.yaml").read_text()
    rows = run.rows()
    assert rows
    assert all(not row["skipped"] for row in rows)
