"""What the learner shows Prometheus of a run: its config, each step, the ledger's counts, peers."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from protocol.config import RunConfig
from protocol.metric_labels import STAGES, SYMPTOMS
from protocol.metrics import Metrics, sources

_NO_METRIC = ("step", "time", "policy_version", "run_epoch", "trained", "duplicates", "fenced")
_COUNTED = ("dropped/", "discarded/", "masked/", "peers/", "memory/", "seconds/")
"""Keys of a row that other metrics show, as they are now."""


def show_config(metrics: Metrics, config: RunConfig, rewards: Sequence[str]) -> None:
    """Set what stays the same for the whole run, and make the children of its rewards.

    Args:
        metrics: the learner's.
        config: of the run.
        rewards: names that rewards have in rows.
    """
    learner = config.learner
    in_hand = (learner.max_off_policy_steps + 1) * learner.groups_per_step
    metrics.set("mlxrl_run_info", 1, config.run.name, config.model.path, config.algorithm.name)
    metrics.set("mlxrl_run_active", 1)
    metrics.set("mlxrl_evaluating", 0)
    metrics.set("mlxrl_last_step_timestamp_seconds", time.time())
    metrics.set("mlxrl_max_steps", config.run.max_steps)
    metrics.set("mlxrl_max_off_policy_steps", learner.max_off_policy_steps)
    metrics.set("mlxrl_max_groups", in_hand)
    metrics.set("mlxrl_no_progress_seconds", learner.no_progress_seconds)
    metrics.set("mlxrl_peers_wanted", config.roles.actor, "actor")
    metrics.set("mlxrl_peers_wanted", config.roles.reward_worker, "reward_worker")
    for symptom in SYMPTOMS:
        metrics.set("mlxrl_health_warning", 0, symptom)
    for reward in rewards:
        metrics.set("mlxrl_reward_function_mean", math.nan, reward)
        metrics.set("mlxrl_reward_function_seconds", math.nan, reward)


def show_step(metrics: Metrics, row: Mapping[str, Any], rewards: Sequence[str]) -> None:
    """Set every gauge that a step changes.

    Args:
        metrics: the learner's.
        row: of metrics.jsonl; a figure that is null becomes NaN.
        rewards: names that rewards have in rows.
    """
    figures = {
        key: math.nan if value is None else float(value)
        for key, value in row.items()
        if value is None or isinstance(value, int | float)
    }
    metrics.set_from("row", figures)
    for reward in rewards:
        for key, name in (("", "mean"), ("seconds/", "seconds")):
            value = figures.pop(f"reward/{reward}/{key}mean", math.nan)
            metrics.set(f"mlxrl_reward_function_{name}", value, reward)
    for key, value in figures.items():
        if not (sources("row", key) or key in _NO_METRIC or key.startswith(_COUNTED)):
            metrics.set("mlxrl_step_metric", value, key)
    if row.get("skipped"):
        metrics.count("mlxrl_steps_skipped_total", row["skipped"])
    _show_seconds(metrics, figures)


def _show_seconds(metrics: Metrics, figures: Mapping[str, float]) -> None:
    whole = figures.get("seconds/step", math.nan)
    spent = {stage: figures.get(f"seconds/{stage}", 0.0) for stage in STAGES[:-1]}
    spent[STAGES[-1]] = max(whole - sum(spent.values()), 0.0)
    for stage, seconds in spent.items():
        metrics.set("mlxrl_step_seconds", seconds, stage)
    metrics.observe("mlxrl_step_duration_seconds", [whole])


def show_batch(metrics: Metrics, lengths: Sequence[int], staleness: Iterable[int]) -> None:
    """Count the completions of a batch that was handed to the trainer.

    Args:
        metrics: the learner's.
        lengths: tokens of each completion.
        staleness: of each, in versions, by its oldest token.
    """
    metrics.count("mlxrl_samples_trained_total", by=len(lengths))
    metrics.count("mlxrl_tokens_trained_total", by=sum(lengths))
    metrics.observe("mlxrl_completion_tokens", lengths)
    metrics.observe("mlxrl_staleness", staleness)


def show_evaluations(metrics: Metrics, rows: Iterable[Mapping[str, Any]]) -> None:
    """Set the figures of an evaluation, from its rows of eval.jsonl."""
    for row in rows:
        metrics.set("mlxrl_evaluation_step", row["step"])
        for figure, value in row.items():
            if figure not in ("step", "policy_version", "time") and isinstance(value, int | float):
                metrics.set("mlxrl_evaluation", value, row["evaluator"], figure)


def show_warnings(metrics: Metrics, symptoms: Iterable[str]) -> None:
    """Set which symptoms of bad learning last."""
    lasting = set(symptoms)
    for symptom in SYMPTOMS:
        metrics.set("mlxrl_health_warning", float(symptom in lasting), symptom)
