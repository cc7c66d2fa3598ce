import logging
import subprocess
import sys

import pytest
from prometheus_client import generate_latest

from protocol.telemetry import METRICS, Metrics, log_to_file


def test_a_counter_counts_by_its_labels():
    metrics = Metrics()
    assert metrics.value("mlxrl_wire_rejected_total", "control", "malformed") == 0.0
    metrics.count("mlxrl_wire_rejected_total", "control", "malformed")
    metrics.count("mlxrl_wire_rejected_total", "control", "malformed")
    metrics.count("mlxrl_wire_rejected_total", "rollouts", "malformed")
    assert metrics.value("mlxrl_wire_rejected_total", "control", "malformed") == 2.0
    assert metrics.value("mlxrl_wire_rejected_total", "rollouts", "malformed") == 1.0


def test_a_gauge_holds_the_last_value_with_and_without_labels():
    metrics = Metrics()
    metrics.set("mlxrl_step", 3)
    metrics.set("mlxrl_step", 4)
    metrics.set("mlxrl_peers", 2, "actor")
    assert metrics.value("mlxrl_step") == 4.0
    assert metrics.value("mlxrl_peers", "actor") == 2.0


def test_every_metric_of_the_table_is_exported_under_its_name():
    metrics = Metrics()
    for name, metric in METRICS.items():
        change = (
            metrics.count if metric.kind == "counter" else lambda *a: metrics.set(a[0], 1, *a[1:])
        )
        change(name, *("x" for _ in metric.labels))
    exported = generate_latest(metrics.registry).decode()
    for name in METRICS:
        assert f"\n{name} 1.0" in exported or f"\n{name}{{" in exported


def test_two_learners_of_one_process_share_no_metrics():
    one, two = Metrics(), Metrics()
    one.set("mlxrl_step", 5)
    assert two.value("mlxrl_step") == 0.0


def test_a_name_that_is_not_in_the_table_is_refused():
    with pytest.raises(KeyError):
        Metrics().count("mlxrl_nothing_total")


def test_logs_go_to_standard_error_as_plain_lines_where_there_is_no_terminal():
    code = (
        "from protocol.telemetry import setup_logging; import logging; setup_logging('INFO'); "
        "logging.getLogger('learner').info('hello'); logging.getLogger('learner').debug('quiet')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == ""
    assert ran.stderr.endswith("INFO    learner: hello\n")
    assert "quiet" not in ran.stderr


def test_a_log_file_is_made_with_its_folder_and_appended_to(tmp_path):
    path = tmp_path / "logs" / "learner.log"
    root = logging.getLogger()
    for text in ("first", "grüße"):
        log_to_file(path)
        root.handlers[-1].setLevel("WARNING")
        root.warning(text)
        root.handlers.pop().close()
    assert [line.rsplit(": ")[-1] for line in path.read_text("utf-8").splitlines()] == [
        "first",
        "grüße",
    ]
