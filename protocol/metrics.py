"""The values of a process's metrics: what protocol/metric_table.py lists, and no more."""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast
from wsgiref.types import WSGIApplication

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from protocol.metric import Metric, Owner
from protocol.metric_table import METRICS

Labels = tuple[str, ...]

MAX_CHILDREN = 200
"""Of one metric; what names them may come from a peer, which must not fill the memory."""


class _Histogram:
    """Observations by bucket."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, values: Iterable[float]) -> None:
        for value in values:
            index = next((i for i, bound in enumerate(self._bounds) if value <= bound), -1)
            self._counts[index] += 1
            self._sum += value

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative counts by upper bound, and the sum."""
        below, found = 0, list[tuple[str, float]]()
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            below += count
            found.append((bound if isinstance(bound, str) else f"{float(bound):g}", below))
        return found, self._sum


class Metrics(Collector):
    """All metrics of the table that belong to one process. Thread-safe.

    Args:
        of: whose; a peer has those of `peer` too.
    """

    def __init__(self, *of: Owner) -> None:
        self._table = {
            name: metric for name, metric in METRICS.items() if metric.of in (of or ("learner",))
        }
        self._lock = threading.Lock()
        self._values: dict[str, dict[Labels, float]] = {}
        self._histograms: dict[str, _Histogram] = {}
        for name, metric in self._table.items():
            if metric.kind == "histogram":
                self._histograms[name] = _Histogram(metric.buckets)
            first = metric.children or (() if metric.labels else ((),))
            start = 0.0 if metric.kind == "counter" else float("nan")
            self._values[name] = dict.fromkeys(first, start)
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def count(self, name: str, *labels: str, by: float = 1.0) -> None:
        """Add to a counter."""
        with self._lock:
            children = self._children(name, labels)
            if children is not None:
                children[labels] = children.get(labels, 0.0) + by

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge, or a counter that is kept elsewhere."""
        with self._lock:
            children = self._children(name, labels)
            if children is not None:
                children[labels] = value

    def observe(self, name: str, values: Iterable[float]) -> None:
        """Add observations to a histogram."""
        with self._lock:
            self._histograms[name].observe(values)

    def set_from(self, kind: str, values: Mapping[str, float]) -> None:
        """Set every metric whose source is of this kind and has a value here.

        Args:
            kind: `row`, `count` or `figure`.
            values: by key.
        """
        for key, value in values.items():
            for name, labels in sources(kind, key):
                if name in self._table:
                    self.set(name, value, *labels)

    def value(self, name: str, *labels: str) -> float:
        """Current value of a counter or gauge, 0 where there is none."""
        with self._lock:
            return self._values[name].get(labels, 0.0)

    def _children(self, name: str, labels: Labels) -> dict[Labels, float] | None:
        """Where a value goes; None where there are too many already."""
        children, metric = self._values[name], self._table[name]
        if len(labels) != len(metric.labels):
            raise ValueError(f"{name} has the labels {metric.labels}, not {labels}")
        return None if labels not in children and len(children) >= MAX_CHILDREN else children

    def collect(self) -> Iterator[Family]:
        """Everything as prometheus_client's families."""
        with self._lock:
            families = [self._family(name, metric) for name, metric in self._table.items()]
        yield from families

    def _family(self, name: str, metric: Metric) -> Family:
        if metric.kind == "histogram":
            histogram = HistogramMetricFamily(name, metric.help)
            histogram.add_metric([], *self._histograms[name].buckets())
            return histogram
        family_type = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        family = family_type(name, metric.help, labels=metric.labels)
        for labels, value in self._values[name].items():
            family.add_metric(labels, value)
        return cast("Family", family)


def sources(kind: str, key: str) -> tuple[tuple[str, Labels], ...]:
    """Metrics that a key is the source of, each with its labels."""
    return (*_EXACT.get(f"{kind} {key}", ()), *_by_pattern(kind, key))


def _by_pattern(kind: str, key: str) -> Iterator[tuple[str, Labels]]:
    for name, before, after, metric in _PATTERNS.get(kind, ()):
        if not (key.startswith(before) and key.endswith(after)):
            continue
        label = key[len(before) : len(key) - len(after)]
        is_open = bool(before or after)
        if label and (is_open or (label,) in metric.children):
            yield name, (label,)


def _tables() -> tuple[
    dict[str, tuple[tuple[str, Labels], ...]], dict[str, list[tuple[str, str, str, Metric]]]
]:
    exact: dict[str, tuple[tuple[str, Labels], ...]] = {}
    patterns: dict[str, list[tuple[str, str, str, Metric]]] = {}
    for name, metric in METRICS.items():
        if "*" in metric.source:
            kind, _, pattern = metric.source.partition(" ")
            before, _, after = pattern.partition("*")
            patterns.setdefault(kind, []).append((name, before, after, metric))
        elif metric.source:
            exact[metric.source] = (*exact.get(metric.source, ()), (name, ()))
    return exact, patterns


_EXACT, _PATTERNS = _tables()


def exposition(metrics: Metrics) -> WSGIApplication:
    """What answers a scrape of them."""
    exported = cast("Any", prometheus_client).make_wsgi_app(metrics.registry)
    return cast("WSGIApplication", exported)


def peer_metrics(
    role: Owner,
    *,
    policy_version: int,
    capacity: int,
    figures: Mapping[str, float],
    heartbeat_age_seconds: float = 0.0,
) -> Metrics:
    """What one actor or reward worker shows, from what its heartbeats say."""
    metrics = Metrics("peer", role)
    metrics.set("mlxrl_peer_policy_version", policy_version)
    metrics.set("mlxrl_peer_capacity", capacity)
    metrics.set("mlxrl_peer_heartbeat_age_seconds", heartbeat_age_seconds)
    metrics.set_from("figure", figures)
    return metrics
