"""A judge as they are usually written: candidate, tests and verdict in one unconfined process.

It is what the sandbox is compared with: a program whose harm is not seen here proves nothing where
the sandbox stops it.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hostile.judging import as_stdin, as_tests, filled
from hostile.program import Harm, Hostile

HANG_SECONDS = 1.5
END_SECONDS = 60.0

_NAIVE = """
import sys
digits = sys.get_int_max_str_digits()
sys.set_int_max_str_digits(0)
job = eval(sys.stdin.read(), {"inf": float("inf"), "nan": float("nan")})
sys.set_int_max_str_digits(digits)
space = {"__name__": "__main__"}
exec(job["support"], space)
exec(job["code"], space)
for args, expected in job["cases"]:
    assert space["f"](*args) == expected
for test in job["tests"]:
    exec(test, space)
if "check" in space and job["checks"]:
    space["check"](space["f"])
"""


def harm_unconfined(program: Hostile, facts: Mapping[str, Any]) -> Harm:
    """What a program does to a judge without a sandbox."""
    seconds = HANG_SECONDS if program.harm == "hangs" else END_SECONDS
    with tempfile.TemporaryDirectory() as folder:
        command, given = _command(program, facts, Path(folder))
        environment = {**os.environ, "TMPDIR": folder, "HOME": folder}
        try:
            ended = subprocess.run(
                command,
                input=given.encode("utf-8", "surrogatepass"),
                capture_output=True,
                timeout=seconds,
                cwd=folder,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "hangs"
    if ended.returncode != 0:
        return "ends"
    if program.mode == "stdio" and not _agrees(ended.stdout, program.cases[0][1]):
        return "ends"
    return "wins"


def _command(program: Hostile, facts: Mapping[str, Any], folder: Path) -> tuple[list[str], str]:
    """A command line, and what it reads."""
    if program.mode == "stdio":
        path = folder / "program.py"
        path.write_text(program.code, encoding="utf-8")
        return [sys.executable, str(path)], as_stdin(program.cases[0][0], facts)
    tests = as_tests(program, facts) if program.mode == "tests" else []
    job = {
        "code": program.code,
        "support": program.support,
        "cases": [(filled(args, facts), expected) for args, expected in program.cases],
        "tests": [tests] if isinstance(tests, str) else tests,
        "checks": isinstance(tests, str),
    }
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return [sys.executable, "-c", _NAIVE], repr(job)
    finally:
        sys.set_int_max_str_digits(limit)


def _agrees(stdout: bytes, expected: str) -> bool:
    return stdout.decode("utf-8", "replace").split() == expected.split()
