import math

from prometheus_client import generate_latest

from learner.gauges import show, show_reward_workers
from protocol.telemetry import Metrics


def test_gauges_show_the_step_the_groups_and_the_peers():
    metrics = Metrics()
    counts = {"ready": 3, "leased": 2, "trained": 8, "dropped/attempts": 1, "peers/actor": 2}
    show(metrics, {"step": 4, "loss": 0.5, "skipped": ""}, counts)
    assert metrics.value("mlxrl_step") == 4
    assert metrics.value("mlxrl_step_metric", "loss") == 0.5
    assert metrics.value("mlxrl_groups", "ready") == 3
    assert metrics.value("mlxrl_groups", "scored") == 0
    assert metrics.value("mlxrl_groups_ended", "dropped/attempts") == 1
    assert metrics.value("mlxrl_groups_ended", "trained") == 8
    assert metrics.value("mlxrl_peers", "actor") == 2


def test_a_figure_that_has_become_null_does_not_keep_its_old_value():
    metrics = Metrics()
    show(metrics, {"step": 1, "loss": 0.5}, {})
    show(metrics, {"step": 2, "loss": None}, {})
    assert math.isnan(metrics.value("mlxrl_step_metric", "loss"))


def test_idle_shares_are_shown_with_the_row_and_are_no_count_of_groups():
    metrics = Metrics()
    show(metrics, {"step": 1, "idle/actor": 0.25, "idle/learner": None}, {"idle/actor": 0.25})
    assert metrics.value("mlxrl_step_metric", "idle/actor") == 0.25
    assert math.isnan(metrics.value("mlxrl_step_metric", "idle/learner"))
    assert b"mlxrl_groups_ended{" not in generate_latest(metrics.registry)


def test_figures_of_reward_workers_are_shown_but_for_odd_names():
    metrics = Metrics()
    show_reward_workers(metrics, {"sandbox_jobs_total": 7.0, "Odd name": 1.0})
    assert metrics.value("mlxrl_reward_workers", "sandbox_jobs_total") == 7.0
    assert b"Odd name" not in generate_latest(metrics.registry)
