"""The report of `make mac-check`: read from what the checks left, and passed only where all did."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

JUNIT = """<?xml version="1.0"?>
<testsuites><testsuite name="pytest" time="1.5">
  <testcase classname="a.b" name="test_good" time="0.1"/>
  <testcase classname="a.b" name="test_bad"><failure message="assert 1 == 2">x</failure></testcase>
  <testcase classname="a.b" name="test_torn"><error message="fixture">long</error></testcase>
  <testcase classname="a.b" name="test_not_here"><skipped message="needs a Mac"/></testcase>
</testsuite></testsuites>
"""


def _bench() -> Any:
    path = Path(__file__).parents[1] / "bench" / "mac_check.py"
    spec = importlib.util.spec_from_file_location("bench_mac_check", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bench = _bench()


def good_report(**changes):
    return {
        "is_mac": True,
        "layers": [{"name": "macOS", "ok": True}],
        "tests": {"passed": 9, "failed": 0, "errors": 0},
        "quickstart": {"ok": True},
        "parity": {"ok": True},
        **changes,
    }


def test_counts_and_names_come_from_pytests_own_report():
    found = bench.read_junit(JUNIT)
    not_passed = found.pop("not_passed")
    assert found == {"passed": 1, "failed": 1, "errors": 1, "skipped": 1, "seconds": 1.5}
    assert [(each["name"], each["outcome"], each["message"]) for each in not_passed] == [
        ("a.b::test_bad", "failure", "assert 1 == 2"),
        ("a.b::test_torn", "error", "fixture"),
        ("a.b::test_not_here", "skipped", "needs a Mac"),
    ]


def test_accuracy_and_speed_come_from_the_run_folder(tmp_path):
    evals = [
        {"evaluator": "other"},
        *({"evaluator": "accuracy", "accuracy": a} for a in (0.4, 0.9)),
    ]
    (tmp_path / "eval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in evals))
    metrics = [{"tokens_per_second": speed} for speed in (100.0, 900.0, 300.0)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    assert bench.read_run(tmp_path) == {
        "accuracy_before": 0.4,
        "accuracy_after": 0.9,
        "tokens_per_second": 300.0,
    }


def test_a_run_that_left_nothing_has_no_figures(tmp_path):
    assert set(bench.read_run(tmp_path).values()) == {None}


def test_a_report_without_a_fault_has_passed():
    assert bench.failures(good_report()) == []
    assert bench.failures(good_report(quickstart=None, parity=None)) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"is_mac": False}, "this is not a Mac"),
        ({"layers": [{"name": "libsandbox", "ok": False}]}, "layer libsandbox"),
        ({"tests": {"passed": 9, "failed": 1, "errors": 0}}, "tests: 1 failed, 0 errors"),
        ({"tests": {"passed": 0, "failed": 0, "errors": 0}}, "tests: 0 failed, 0 errors"),
        ({"quickstart": {"ok": False}}, "quickstart"),
        ({"parity": {"ok": False}}, "parity"),
    ],
)
def test_one_fault_is_enough_not_to_pass(changes, reason):
    assert bench.failures(good_report(**changes)) == [reason]


def test_a_quick_run_writes_a_report_that_says_where_it_was_made(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "layers", lambda: [{"name": "l", "ok": True, "detail": "d"}])
    monkeypatch.setattr(bench, "tests", lambda _: bench.read_junit(JUNIT))
    monkeypatch.setattr(bench, "machine", lambda: {"host": "here"})
    monkeypatch.setattr(sys, "argv", ["mac_check.py", "--quick", "--out", str(tmp_path)])
    assert bench.main() == 1
    (path,) = tmp_path.glob("mac-report-here-*.json")
    report = json.loads(path.read_text())
    assert report["is_mac"] == (sys.platform == "darwin")
    assert report["quickstart"] is None
    assert not report["passed"]
    assert "not passed: tests: 1 failed, 1 errors" in capsys.readouterr().out


def test_code_that_fails_is_told_and_does_not_stop_the_report():
    assert "ZeroDivisionError" in bench.python("-c", "1 / 0")["error"]
