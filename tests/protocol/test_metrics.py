import math
import threading

import pytest
from prometheus_client import generate_latest

from protocol.metric_labels import CHANNELS, REJECTIONS
from protocol.metric_table import METRICS
from protocol.metrics import MAX_CHILDREN, Metrics, peer_metrics, sources

OWNERS = ("learner", "peer", "actor", "reward_worker")


def exported(metrics):
    return generate_latest(metrics.registry).decode()


def test_a_counter_counts_by_its_labels():
    metrics = Metrics()
    metrics.count("mlxrl_wire_rejected_total", "control", "malformed")
    metrics.count("mlxrl_wire_rejected_total", "control", "malformed", by=2)
    metrics.count("mlxrl_wire_rejected_total", "rollouts", "malformed")
    assert metrics.value("mlxrl_wire_rejected_total", "control", "malformed") == 3.0
    assert metrics.value("mlxrl_wire_rejected_total", "rollouts", "malformed") == 1.0


def test_a_gauge_holds_the_last_value():
    metrics = Metrics()
    metrics.set("mlxrl_step", 3)
    metrics.set("mlxrl_step", 4)
    metrics.set("mlxrl_peers", 2, "actor")
    assert metrics.value("mlxrl_step") == 4.0
    assert metrics.value("mlxrl_peers", "actor") == 2.0


def test_children_of_a_counter_are_there_before_the_first_event():
    text = exported(Metrics())
    for channel in CHANNELS:
        for reason in REJECTIONS:
            labels = f'channel="{channel}",reason="{reason}"'
            assert f"mlxrl_wire_rejected_total{{{labels}}} 0.0" in text
    assert 'mlxrl_steps_skipped_total{reason="non_finite"} 0.0' in text


def test_a_gauge_that_nobody_has_set_is_not_shown_as_0():
    assert "mlxrl_loss NaN" in exported(Metrics())


@pytest.mark.parametrize("owner", OWNERS)
def test_every_metric_of_an_owner_is_exported_under_its_name_and_no_other(owner):
    metrics = Metrics(owner)
    for name, metric in METRICS.items():
        if metric.of == owner and metric.kind != "histogram":
            metrics.set(name, 1, *("x" for _ in metric.labels))
    text = exported(metrics)
    for name, metric in METRICS.items():
        there = any(f"\n{name}{after}" in text for after in (" ", "{", "_bucket{"))
        assert there == (metric.of == owner), name


def test_a_histogram_counts_up_to_each_bound():
    # bounds 0, 1, 2, 3, 4, 6, ...: 0 is in the first, 5 in that of 6, 100 above all
    metrics = Metrics()
    metrics.observe("mlxrl_staleness", [0, 0, 5, 100])
    text = exported(metrics)
    assert 'mlxrl_staleness_bucket{le="0"} 2.0' in text
    assert 'mlxrl_staleness_bucket{le="4"} 2.0' in text
    assert 'mlxrl_staleness_bucket{le="6"} 3.0' in text
    assert 'mlxrl_staleness_bucket{le="16"} 3.0' in text
    assert 'mlxrl_staleness_bucket{le="+Inf"} 4.0' in text
    assert "mlxrl_staleness_sum 105.0" in text


def test_counts_of_the_exchange_find_their_metrics():
    metrics = Metrics()
    counts = {"trained": 8, "ready": 3, "dropped/attempts": 1, "masked/odd one": 2, "prompts": 9}
    metrics.set_from("count", counts)
    assert metrics.value("mlxrl_groups_trained_total") == 8
    assert metrics.value("mlxrl_groups", "ready") == 3
    assert metrics.value("mlxrl_groups_dropped_total", "attempts") == 1
    assert metrics.value("mlxrl_samples_masked_total", "odd one") == 2
    assert 'state="prompts"' not in exported(metrics)


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("memory/actor/peak_bytes", [("mlxrl_memory_peak_bytes", ("actor",))]),
        ("memory/other/peak_bytes", [("mlxrl_memory_peak_bytes", ("other",))]),
        ("memory//peak_bytes", []),
        ("scores", [("mlxrl_scores_total", ())]),
        ("scored_again/ok", []),
    ],
)
def test_a_key_is_the_source_of(key, found):
    assert list(sources("count", key)) == found


def test_wrong_labels_are_a_mistake_of_ours():
    with pytest.raises(ValueError, match="mlxrl_peers has the labels"):
        Metrics().set("mlxrl_peers", 1)
    with pytest.raises(KeyError, match="mlxrl_nothing"):
        Metrics().count("mlxrl_nothing_total")


def test_names_that_a_peer_makes_up_do_not_fill_the_memory():
    figures = {f"reward_failures/{number}": 1.0 for number in range(10 * MAX_CHILDREN)}
    metrics = peer_metrics("reward_worker", policy_version=-1, capacity=1, figures=figures)
    assert exported(metrics).count("mlxrl_reward_failures_total{") == MAX_CHILDREN


def test_a_peer_shows_its_heartbeat_and_nothing_that_the_table_does_not_name():
    figures = {"tokens_sampled": 7.0, "scores_total": 3.0, "mlxrl_step": 1.0, "x": 2.0}
    text = exported(
        peer_metrics(
            "actor", policy_version=4, capacity=64, figures=figures, heartbeat_age_seconds=0.5
        )
    )
    assert "mlxrl_actor_tokens_sampled_total 7.0" in text
    assert "mlxrl_peer_policy_version 4.0" in text
    assert "mlxrl_peer_heartbeat_age_seconds 0.5" in text
    assert "scores" not in text
    assert "mlxrl_step" not in text


def test_labels_are_escaped():
    hostile = 'a"} 1\nmlxrl_step{x="'
    figures = {f"reward_failures/{hostile}": 1.0}
    metrics = peer_metrics("reward_worker", policy_version=-1, capacity=1, figures=figures)
    assert "\nmlxrl_step" not in exported(metrics)


def test_counts_from_many_threads_all_arrive():
    metrics = Metrics()

    def count():
        for _ in range(2000):
            metrics.count("mlxrl_messages_total", "control")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.value("mlxrl_messages_total", "control") == 8000.0


def test_two_learners_of_one_process_share_no_metrics():
    one, two = Metrics(), Metrics()
    one.set("mlxrl_step", 5)
    assert math.isnan(two.value("mlxrl_step"))
