"""Everything that only a Mac can tell, in one run and one file: `make mac-check`.

    .venv/bin/python bench/mac_check.py            # all of it, some ten minutes
    .venv/bin/python bench/mac_check.py --quick    # only the layers and the tests of the sandbox

Writes mac-report-<host>-<date>.json and exits with 0 only where every check passed:

    schema       1
    passed       every check below passed, and this is a Mac
    is_mac       false: the report was made elsewhere, and says nothing about Macs
    quick        only layers and sandbox tests were run
    started      UTC, ISO 8601;  seconds: of the whole run
    machine      host, system, release, arch, python, sw_vers, device (mlx's own words)
    layers       [{name, ok, detail, remedy}]: confinement, layer by layer
    tests        {passed, failed, errors, skipped, seconds, not_passed: [{name, outcome, message}]}
    quickstart   {ok, accuracy_before, accuracy_after, tokens_per_second, seconds, tail}
    parity       {ok, text}: bench/parity.py's words; it and quickstart are null in quick reports

It works on Linux as well, so that the script itself can be tried: `passed` is false there.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SANDBOX_TESTS = "tests/reward_workers/sandbox"
DEVICE = """
import json
from protocol.blas import preload_blas
preload_blas()
import mlx.core as mx
facts = {"device": str(mx.default_device()), "mlx": mx.__version__}
if mx.metal.is_available():
    facts |= getattr(mx, "device_info", mx.metal.device_info)()
print(json.dumps(facts))
"""
TAIL_CHARACTERS = 2000


def run(command: Sequence[str], seconds: float = 3600) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout; what it says comes back, and a hang is a failure."""
    try:
        return subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def python(*arguments: str) -> Any:  # noqa: ANN401 - whatever JSON it prints
    """JSON that this interpreter prints, or what went wrong."""
    done = run([sys.executable, *arguments], seconds=120)
    try:
        return json.loads(done.stdout)
    except ValueError:
        return {"error": done.stderr[-TAIL_CHARACTERS:]}


def machine() -> dict[str, Any]:
    """Facts of this machine, its system and its device."""
    return {
        "host": platform.node().partition(".")[0],
        "system": platform.system(),
        "release": platform.release(),
        "arch": platform.machine(),
        "python": sys.version,
        "sw_vers": run(["sw_vers"]).stdout if sys.platform == "darwin" else None,
        "device": python("-c", DEVICE),
    }


def layers() -> list[dict[str, Any]]:
    """Each layer of confinement."""
    found = python("-m", "reward_workers.doctor", "--json")
    if isinstance(found, dict):
        return [{"name": "layers", "ok": False, "detail": found["error"], "remedy": ""}]
    return found


def read_junit(text: str) -> dict[str, Any]:
    """Counts of pytest's junit XML, and every test that did not pass."""
    counts = {"passed": 0, "failed": 0, "errors": 0, "skipped": 0}
    words = {"failure": "failed", "error": "errors", "skipped": "skipped"}
    not_passed: list[dict[str, str]] = []
    suite = ET.fromstring(text)
    for case in suite.iter("testcase"):
        outcome = next((child for child in case if child.tag in words), None)
        counts["passed" if outcome is None else words[outcome.tag]] += 1
        if outcome is not None:
            name = f"{case.get('classname')}::{case.get('name')}"
            message = (outcome.get("message") or "")[:TAIL_CHARACTERS]
            not_passed.append({"name": name, "outcome": outcome.tag, "message": message})
    seconds = sum(float(each.get("time", 0)) for each in suite.iter("testsuite"))
    return {**counts, "seconds": seconds, "not_passed": not_passed}


def tests(paths: Sequence[str]) -> dict[str, Any]:
    """Run pytest; a run without a report counts as one error."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        done = run([sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *paths])
        if report.exists():
            return read_junit(report.read_text(encoding="utf-8"))
    lost = {"name": "pytest", "outcome": "error", "message": done.stdout[-TAIL_CHARACTERS:]}
    return {"passed": 0, "failed": 0, "errors": 1, "skipped": 0, "seconds": 0.0,
            "not_passed": [lost]}  # fmt: skip


def rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_run(folder: Path) -> dict[str, Any]:
    """Held-out accuracy before and after, and the median speed, of a training run's folder."""
    accuracies = [
        row["accuracy"] for row in rows(folder / "eval.jsonl") if row.get("evaluator") == "accuracy"
    ]
    speeds = [row["tokens_per_second"] for row in rows(folder / "metrics.jsonl")]
    return {
        "accuracy_before": accuracies[0] if accuracies else None,
        "accuracy_after": accuracies[-1] if accuracies else None,
        "tokens_per_second": statistics.median(speeds) if speeds else None,
    }


def quickstart() -> dict[str, Any]:
    """Train the built-in policy; it must end well and be better afterwards."""
    started, train = time.monotonic(), Path(sys.executable).with_name("mlx-train")
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        done = run([str(train), "--config", "configs/quickstart.yaml", "--run-dir", str(run_dir)])
        found = read_run(run_dir)
    before, after = found["accuracy_before"], found["accuracy_after"]
    return {
        "ok": done.returncode == 0 and before is not None and after > before,
        **found,
        "seconds": time.monotonic() - started,
        "tail": (done.stdout + done.stderr)[-TAIL_CHARACTERS:],
    }


def parity() -> dict[str, Any]:
    """How closely actor and learner agree on this device; tests/test_parity.py sets the bar."""
    done = run([sys.executable, "bench/parity.py", "builtin:tiny"])
    return {"ok": done.returncode == 0, "text": done.stdout + done.stderr[-TAIL_CHARACTERS:]}


def failures(report: dict[str, Any]) -> list[str]:
    """What keeps a report from having passed, in words."""
    found = [] if report["is_mac"] else ["this is not a Mac"]
    found += [f"layer {layer['name']}" for layer in report["layers"] if not layer["ok"]]
    outcomes = report["tests"]
    if outcomes["failed"] or outcomes["errors"] or not outcomes["passed"]:
        found.append(f"tests: {outcomes['failed']} failed, {outcomes['errors']} errors")
    found += [name for name in ("quickstart", "parity") if report[name] and not report[name]["ok"]]
    return found


def make_report(quick: bool) -> dict[str, Any]:
    """Run the checks."""
    started, clock = datetime.now(UTC), time.monotonic()
    report: dict[str, Any] = {
        "schema": 1,
        "passed": False,
        "is_mac": sys.platform == "darwin",
        "quick": quick,
        "started": started.isoformat(timespec="seconds"),
        "machine": machine(),
        "layers": layers(),
        "tests": tests([SANDBOX_TESTS] if quick else []),
        "quickstart": None if quick else quickstart(),
        "parity": None if quick else parity(),
    }
    return {**report, "passed": not failures(report), "seconds": time.monotonic() - clock}


def main() -> int:
    """Check, write the report, say in a few lines what came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only layers and sandbox tests")
    parser.add_argument("--out", type=Path, default=ROOT, help="folder of the report")
    options = parser.parse_args()
    report = make_report(options.quick)
    name = f"mac-report-{report['machine']['host']}-{report['started'][:10]}.json"
    path = options.out / name
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for layer in report["layers"]:
        print(f"{'ok  ' if layer['ok'] else 'FAIL'} {layer['name']}: {layer['detail']}")
    outcomes = report["tests"]
    print(f"tests: {outcomes['passed']} passed, {outcomes['failed']} failed,", end=" ")
    print(f"{outcomes['errors']} errors, {outcomes['skipped']} skipped")
    print(f"report: {path}")
    for reason in failures(report):
        print(f"not passed: {reason}")
    return 0 if report["passed"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
