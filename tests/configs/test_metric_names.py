import inspect
import re
from types import ModuleType
from typing import get_args

import promql_parser as promql
import pytest

from learner import health, step
from learner.exchange import inbound
from learner.guards import SANDBOX_ERROR
from learner.ledger import arrivals, endings, groups, ledger, scoring
from learner.ledger.groups import GroupState
from protocol import metric_labels, wire
from protocol.messages import Role
from protocol.metric_table import METRICS
from protocol.transport import Channel
from reward_workers.calling import REWARD_ERROR
from reward_workers.children.child import CRASHED, MEMORY, TIMEOUT
from reward_workers.combine import NO_REWARD_APPLIES
from reward_workers.sandbox.jobs import Verdict
from tests.configs.reading import (
    Expression,
    dashboard_expressions,
    dashboards,
    metrics_in,
    nodes,
    panels_of,
    rule_expressions,
    rules,
)

EXPRESSIONS = dashboard_expressions() + rule_expressions()
TARGET_LABELS = {"instance", "job", "role", "host", "learner"}
"""Prometheus adds them to everything it scrapes; configs/prometheus/prometheus.yml says how."""
OWN = {"up": set[str](), "ALERTS": {"alertname", "alertstate", "severity"}}
"""Prometheus's own."""
RECORDED = {rule["record"]: {"reward"} for rule in rules() if "record" in rule}
NOT_SHOWN = {"mlxrl_evaluating": "for LearnerStalled: a long evaluation is no stall"}
"""Metrics in no panel, and why."""


def plain(name: str) -> str:
    """The metric that a series of a histogram belongs to."""
    found = re.sub(r"_(bucket|sum|count)$", "", name)
    return found if found in METRICS and METRICS[found].kind == "histogram" else name


def labels_of(name: str) -> set[str]:
    if name in OWN or name in RECORDED:
        return TARGET_LABELS | (OWN.get(name) or RECORDED.get(name) or set())
    metric = METRICS[plain(name)]
    return TARGET_LABELS | set(metric.labels) | ({"le"} if metric.kind == "histogram" else set())


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda e: e.where)
def test_an_expression_names_only_metrics_and_labels_that_there_are(expression: Expression):
    named = metrics_in(expression.text)
    assert named
    known = set[str]()
    for name, labels in named:
        assert plain(name) in METRICS or name in OWN or name in RECORDED, name
        assert labels <= labels_of(name), name
        if plain(name) in METRICS and METRICS[plain(name)].kind == "histogram":
            assert name != plain(name), "a histogram has _bucket, _sum and _count alone"
        known |= labels_of(name)
    for node in nodes(promql.parse(expression.text)):
        if isinstance(node, promql.AggregateExpr) and node.modifier:
            assert set(node.modifier.labels) <= known


def test_legends_name_labels_that_the_curves_have():
    for dashboard in dashboards().values():
        for panel in panels_of(dashboard):
            for target in panel["targets"]:
                wanted = set(re.findall(r"{{(\w+)}}", target.get("legendFormat", "")))
                expr = re.sub(r"\$__rate_interval", "8s", target["expr"])
                known = {label for name, _ in metrics_in(expr) for label in labels_of(name)}
                assert wanted <= known, panel["title"]


def test_counters_are_not_drawn_as_they_are_and_gauges_have_no_rate():
    for expression in EXPRESSIONS:
        rated = set[str]()
        for node in nodes(promql.parse(expression.text)):
            if isinstance(node, promql.Call) and node.func.name in ("rate", "increase"):
                rated |= {name for name, _ in metrics_in(node.args[0].prettify())}
        for name, _ in metrics_in(expression.text):
            if plain(name) in METRICS:
                assert (METRICS[plain(name)].kind != "gauge") == (name in rated), expression.where


def test_every_metric_is_in_a_panel_or_listed_as_not_shown():
    recorded = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}
    named = {name for e in dashboard_expressions() for name, _ in metrics_in(e.text)}
    named |= {name for rule in named & set(recorded) for name, _ in metrics_in(recorded[rule])}
    shown = {plain(name) for name in named} & set(METRICS)
    assert set(METRICS) - shown == set(NOT_SHOWN)


def test_names_of_labels_are_those_that_the_code_uses():
    refused = {"unexpected", "unregistered", "identity", "token_range"}
    assert set(re.findall(r'_count\(arrival, "(\w+)"\)', source(inbound))) == refused
    of_wire = set(re.findall(r', "(\w+)"\)', source(wire)))
    assert set(metric_labels.REJECTIONS) == refused | of_wire | {"protocol_version"}
    symptoms = tuple(symptom.__name__ for symptom in health.SYMPTOMS)
    assert symptoms == metric_labels.SYMPTOMS
    assert tuple(Verdict) == metric_labels.VERDICTS
    assert set(metric_labels.CHANNELS) == {channel.name.lower() for channel in Channel}
    ended = {GroupState.TRAINED, GroupState.DROPPED}
    assert set(metric_labels.STATES) == {state.value for state in set(GroupState) - ended}
    assert set(metric_labels.ROLES) == set(get_args(Role))


def test_names_of_labels_are_those_that_the_ledger_counts():
    refusals = set(re.findall(r'(?:return|reason =) "(\w+)"', source(groups, arrivals)))
    refusals |= {"unknown_group", "lease_failed"}
    assert set(metric_labels.REFUSALS) == refusals - {"duplicate", "fenced"}
    discards = set(re.findall(r'_discard\([^"]*"(\w+)"', source(ledger)))
    assert set(metric_labels.DISCARDS) == discards
    skips = set(re.findall(r'"(masked|non_finite)"', source(step))) | {step.NO_ADVANTAGE}
    assert set(metric_labels.SKIPS) == skips
    drops = set(re.findall(r'drop\(group, "(\w+)"', source(ledger, endings)))
    assert set(metric_labels.DROPS) == drops | skips
    lost = set(re.findall(r'_mask\(group, sample, "(\w+)"', source(scoring)))
    failed = {REWARD_ERROR, CRASHED, MEMORY, TIMEOUT, SANDBOX_ERROR, NO_REWARD_APPLIES}
    assert set(metric_labels.MASKS) == failed | lost


def source(*modules: ModuleType) -> str:
    return "".join(inspect.getsource(module) for module in modules)
