"""Ask pip whether everything that we depend on has wheels for a Mac with Apple silicon.

pip takes a platform to fetch wheels for, but judges environment markers (`sys_platform`,
`python_version`) by the machine that it runs on. So pip runs in a child whose marker environment is
a Mac's: its resolver then walks our dependencies as it would there, and nothing is installed.

    .venv/bin/python bench/mac_wheels.py [3.12 ...]
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLATFORM = "macosx_14_0_arm64"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
LEFT_OUT = {
    "reasoning-gym": "pycosat has no wheel and is compiled",
    "mutation": "for `make mutants` alone; pip's resolver does not end over it on 3.13",
}
"""Extras that are not asked about, and why."""
ONLY_ON_A_MAC = "mlx-metal"
"""Its absence shows that pip's markers were not a Mac's after all."""

PIP_AS_ON_A_MAC = """
import json, sys
from pip._vendor.packaging import markers
here, mac = markers.default_environment(), json.loads(sys.argv.pop(1))
markers.default_environment = lambda: {**here, **mac}
from pip._internal.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def mac_markers(python: str) -> dict[str, str]:
    """Return what environment markers are on such a Mac."""
    return {
        "os_name": "posix",
        "sys_platform": "darwin",
        "platform_system": "Darwin",
        "platform_machine": "arm64",
        "platform_release": "23.6.0",
        "platform_version": "Darwin Kernel Version 23.6.0",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "python_version": python,
        "python_full_version": f"{python}.0",
        "implementation_version": f"{python}.0",
    }


def resolve(python: str, requirements: list[str]) -> subprocess.CompletedProcess[str]:
    """Let pip resolve the requirements for a Mac, wheels only."""
    with tempfile.TemporaryDirectory() as target:
        arguments = [
            "install", "--dry-run", "--quiet", "--ignore-installed", "--report", "-",
            "--only-binary=:all:", "--platform", PLATFORM, "--implementation", "cp",
            "--python-version", python, "--target", target, *requirements,
        ]  # fmt: skip
        command = [sys.executable, "-c", PIP_AS_ON_A_MAC, json.dumps(mac_markers(python))]
        return subprocess.run(command + arguments, capture_output=True, text=True, check=False)


def wheels(python: str, requirements: list[str]) -> list[str]:
    """Return `name version` of everything that a Mac would install.

    Raises:
        SystemExit: with pip's words, when something has no wheel.
    """
    done = resolve(python, requirements)
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        sys.exit(f"error: Python {python} on {PLATFORM}: {' '.join(words) or done.stderr[-2000:]}")
    installs = json.loads(done.stdout)["install"]
    found = sorted(f"{m['name'].lower()} {m['version']}" for m in (i["metadata"] for i in installs))
    if not any(entry.startswith(f"{ONLY_ON_A_MAC} ") for entry in found):
        sys.exit(
            f"error: pip did not resolve as on a Mac: no {ONLY_ON_A_MAC} in {', '.join(found)}"
        )
    return found


def main() -> None:
    """Print what a Mac would install for each Python, or exit with what has no wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    groups = [project["dependencies"], *(extras[name] for name in extras if name not in LEFT_OUT)]
    ours = f"{project['name']}["  # one extra in another
    requirements = [need for group in groups for need in group if not need.startswith(ours)]
    for python in sys.argv[1:] or PYTHONS:
        found = wheels(python, requirements)
        print(f"Python {python} on {PLATFORM}: {len(found)} wheels: {', '.join(found)}")
    for extra, why in LEFT_OUT.items():
        print(f"not asked about: the extra {extra} ({why})")


if __name__ == "__main__":
    main()
