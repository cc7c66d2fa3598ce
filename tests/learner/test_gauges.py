import math

import pytest
from prometheus_client import generate_latest

from learner.gauges import show_batch, show_config, show_evaluations, show_step, show_warnings
from protocol.config import RunConfig
from protocol.metrics import Metrics

ROW = {
    "step": 4,
    "time": 1000.5,
    "loss": 0.5,
    "reward/exact/mean": 0.25,
    "reward/exact/seconds/mean": 0.001,
    "reward/exact/length/mean": 12.0,
    "seconds/step": 2.0,
    "seconds/wait": 1.25,
    "seconds/train": 0.5,
    "seconds/publish": 0.125,
    "idle/actor": 0.75,
    "dropped/attempts": 3,
    "my_figure": 9.0,
    "skipped": "",
}


def exported(metrics):
    return generate_latest(metrics.registry).decode()


def test_a_row_sets_the_gauge_of_each_key():
    metrics = Metrics()
    show_step(metrics, ROW, ["exact"])
    assert metrics.value("mlxrl_step") == 4
    assert metrics.value("mlxrl_loss") == 0.5
    assert metrics.value("mlxrl_last_step_timestamp_seconds") == 1000.5
    assert metrics.value("mlxrl_idle_ratio", "actor") == 0.75


def test_a_reward_functions_figures_have_its_name():
    metrics = Metrics()
    show_step(metrics, ROW, ["exact", "other"])
    assert metrics.value("mlxrl_reward_function_mean", "exact") == 0.25
    assert metrics.value("mlxrl_reward_function_seconds", "exact") == 0.001
    assert math.isnan(metrics.value("mlxrl_reward_function_mean", "other"))


def test_a_key_is_shown_once():
    metrics = Metrics()
    show_step(metrics, ROW, ["exact"])
    assert metrics.value("mlxrl_step_metric", "my_figure") == 9.0
    assert metrics.value("mlxrl_step_metric", "reward/exact/length/mean") == 12.0
    for key in ("loss", "time", "reward/exact/mean", "dropped/attempts", "seconds/wait"):
        assert f'key="{key}"' not in exported(metrics)


def test_the_stages_of_a_step_add_up_to_it():
    # 2.0 = 1.25 wait + 0.5 train + 0.125 publish + 0.125 other
    metrics = Metrics()
    show_step(metrics, ROW, [])
    assert metrics.value("mlxrl_step_seconds", "wait") == 1.25
    assert metrics.value("mlxrl_step_seconds", "other") == pytest.approx(0.125)
    assert "mlxrl_step_duration_seconds_sum 2.0" in exported(metrics)


def test_a_figure_that_has_become_null_does_not_keep_its_old_value():
    metrics = Metrics()
    show_step(metrics, ROW, ["exact"])
    show_step(metrics, {**ROW, "loss": None, "reward/exact/mean": None}, ["exact"])
    assert math.isnan(metrics.value("mlxrl_loss"))
    assert math.isnan(metrics.value("mlxrl_reward_function_mean", "exact"))


def test_skipped_steps_are_counted_by_reason():
    metrics = Metrics()
    show_step(metrics, ROW, [])
    show_step(metrics, {**ROW, "skipped": "non_finite"}, [])
    assert metrics.value("mlxrl_steps_skipped_total", "non_finite") == 1
    assert metrics.value("mlxrl_steps_skipped_total", "masked") == 0


def test_a_batchs_completions_are_counted():
    metrics = Metrics()
    show_batch(metrics, [3, 5], [0, 1])
    show_batch(metrics, [2], [1])
    assert metrics.value("mlxrl_samples_trained_total") == 3
    assert metrics.value("mlxrl_tokens_trained_total") == 10
    assert 'mlxrl_staleness_bucket{le="0"} 1.0' in exported(metrics)
    assert "mlxrl_completion_tokens_count 3.0" in exported(metrics)


def test_an_evaluations_figures_have_its_name():
    metrics = Metrics()
    rows = [
        {"step": 10, "policy_version": 9, "evaluator": "accuracy", "accuracy": 0.5, "time": 1.0}
    ]
    show_evaluations(metrics, rows)
    assert metrics.value("mlxrl_evaluation", "accuracy", "accuracy") == 0.5
    assert metrics.value("mlxrl_evaluation_step") == 10
    assert 'figure="time"' not in exported(metrics)


def test_a_symptom_is_1_while_it_lasts():
    metrics = Metrics()
    show_warnings(metrics, ["entropy_collapse"])
    assert metrics.value("mlxrl_health_warning", "entropy_collapse") == 1
    show_warnings(metrics, [])
    assert metrics.value("mlxrl_health_warning", "entropy_collapse") == 0


def test_the_config_is_shown_before_the_first_step():
    metrics = Metrics()
    config = RunConfig.model_validate(
        {
            "model": {"path": "builtin:tiny"},
            "data": {"train": ["x.jsonl"]},
            "rewards": [{"name": "a.py:mine"}],
            "roles": {"actor": 3},
            "learner": {"groups_per_step": 4, "max_off_policy_steps": 2},
        }
    )
    show_config(metrics, config, ["mine"])
    assert metrics.value("mlxrl_max_groups") == 12  # (2 + 1) * 4
    assert metrics.value("mlxrl_peers_wanted", "actor") == 3
    assert metrics.value("mlxrl_run_info", "run", "builtin:tiny", "grpo") == 1
    assert 'mlxrl_reward_function_mean{reward="mine"}' in exported(metrics)
    assert metrics.value("mlxrl_health_warning", "mismatch") == 0
