"""`mlx-doctor`: what this machine has of what a run needs, each with OK or what to do.

So far: the layers of confinement that rewards need to run untrusted code.
"""

import argparse
import asyncio
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import NoReturn

from protocol.errors import ConfigError, SandboxUnavailable
from protocol.process import EXIT_DONE, EXIT_FAILED, run_main
from reward_workers.sandbox import Case, Result, SandboxPool, Verdict
from reward_workers.sandbox.layers import Layer, check_layers
from reward_workers.sandbox.select import DEGRADATIONS

HONEST = "def f(x):\n    return x + 1\n"
HOSTILE = {
    "reads a file": "def f(path):\n    return open(path).readline() != ''\n",
    "opens a socket": (
        "import socket\ndef f(path):\n"
        "    socket.create_connection(('127.0.0.1', 9), 1)\n    return True\n"
    ),
    "starts a process": "import os\ndef f(path):\n    return os.fork() >= 0\n",
    "agrees with everything": (
        "class Yes:\n    def __eq__(self, other): return True\ndef f(path):\n    return Yes()\n"
    ),
}
"""Programs that must not get what they try: each returns True where it does."""


def main() -> NoReturn:
    """Entry point of `mlx-doctor`."""
    run_main(examine)


def examine(arguments: Sequence[str] | None = None) -> int:
    """Print one line for each layer; returns 0 when nothing is missing, else 1."""
    given = _parser().parse_args(arguments)
    found = list(check_sandbox(given.allow_degraded))
    print(json.dumps([asdict(layer) for layer in found]) if given.json else _as_text(found))
    return EXIT_DONE if all(layer.ok for layer in found) else EXIT_FAILED


def _as_text(found: Sequence[Layer]) -> str:
    lines = [
        f"{platform.platform()}, Python {platform.python_version()}",
        "sandbox (rewards that run code):",
    ]
    for layer in found:
        lines.append(f"  {'OK     ' if layer.ok else 'MISSING'} {layer.name}: {layer.detail}")
        if not layer.ok:
            lines.append(f"          to do: {layer.remedy}")
    return "\n".join(lines)


def check_sandbox(allow_degraded: Sequence[str] = ()) -> Iterator[Layer]:
    """Each layer by itself, then a worker, then an honest program and hostile ones in it."""
    unknown = set(allow_degraded) - set(DEGRADATIONS)
    if unknown:
        raise ConfigError(f"--allow-degraded {min(unknown)}: known are {', '.join(DEGRADATIONS)}")
    layers = check_layers()
    yield from layers
    if not all(layer.ok or layer.name in allow_degraded for layer in layers):
        return
    try:
        yield from asyncio.run(_try_programs(allow_degraded))
    except SandboxUnavailable as error:
        yield Layer("self-test", False, str(error), "mend the layer that it names")


async def _try_programs(allow_degraded: Sequence[str]) -> list[Layer]:
    async with SandboxPool(slots=1, warm=1, allow_degraded=allow_degraded) as pool:
        honest = await pool.run_calls(HONEST, entry="f", cases=[Case([1], 2)])
        hostile = {
            name: await pool.run_calls(code, entry="f", cases=[Case([__file__], True)])
            for name, code in HOSTILE.items()
        }
    passed = honest.verdict is Verdict.PASSED
    report = "report this, with the lines above"
    return [
        Layer("self-test", True, "a confined worker tried its limits, and they held", report),
        Layer("honest program", passed, _said(honest), report),
        *(
            Layer(f"program that {name}", result.verdict is Verdict.FAILED, _said(result), report)
            for name, result in hostile.items()
        ),
    ]


def _said(result: Result) -> str:
    return f"{result.verdict}, {result.detail}" if result.detail else str(result.verdict)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mlx-doctor", description=__doc__)
    parser.add_argument(
        "--allow-degraded",
        action="append",
        default=[],
        metavar="LAYER",
        help=f"as sandbox.allow_degraded in a config: {', '.join(DEGRADATIONS)}",
    )
    parser.add_argument("--json", action="store_true", help="the same as one line of JSON")
    return parser


if __name__ == "__main__":
    main()
