"""Logging for every role, and the one table of all metric names."""

import logging
import sys
from pathlib import Path
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge
from rich.console import Console
from rich.logging import RichHandler

from protocol.errors import ConfigError

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
PLAIN_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class Metric(NamedTuple):
    """One Prometheus metric of the learner."""

    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()


METRICS: dict[str, Metric] = {
    "mlxrl_wire_rejected_total": Metric(
        "counter", "Messages that were dropped, by channel and reason", ("channel", "reason")
    ),
    "mlxrl_peers": Metric("gauge", "Registered peers by role", ("role",)),
    "mlxrl_groups": Metric("gauge", "Groups of the ledger by state", ("state",)),
    "mlxrl_groups_ended": Metric("gauge", "Groups trained or dropped, by outcome", ("outcome",)),
    "mlxrl_reward_workers": Metric(
        "gauge",
        "What reward workers say of themselves, their children and sandboxes, summed, by figure",
        ("figure",),
    ),
    "mlxrl_policy_version": Metric("gauge", "The learner's policy version"),
    "mlxrl_step": Metric("gauge", "Training steps done"),
    "mlxrl_step_metric": Metric("gauge", "The last metrics.jsonl row, by key", ("key",)),
}


class Metrics:
    """All metrics of METRICS, in a Prometheus registry of their own. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        for name, metric in METRICS.items():
            if metric.kind == "counter":
                counter = Counter(name, metric.help, metric.labels, registry=self.registry)
                self._counters[name] = counter
            else:
                gauge = Gauge(name, metric.help, metric.labels, registry=self.registry)
                self._gauges[name] = gauge

    def count(self, name: str, *labels: str) -> None:
        """Add one to a counter."""
        counter = self._counters[name]
        (counter.labels(*labels) if labels else counter).inc()

    def set(self, name: str, value: float, *labels: str) -> None:
        """Set a gauge."""
        gauge = self._gauges[name]
        (gauge.labels(*labels) if labels else gauge).set(value)

    def value(self, name: str, *labels: str) -> float:
        """Current value of a metric, 0 before its first change."""
        names = METRICS[name].labels
        found = self.registry.get_sample_value(name, dict(zip(names, labels, strict=True)))
        return found or 0.0


def setup_logging(level: str) -> None:
    """Send logs to standard error: rich on a terminal, plain lines elsewhere.

    Args:
        level: one of LOG_LEVELS.

    Raises:
        ConfigError: another level.
    """
    if level not in LOG_LEVELS:
        raise ConfigError(f"log level {level!r}: wanted one of {', '.join(LOG_LEVELS)}")
    if sys.stderr.isatty():
        handler: logging.Handler = RichHandler(
            console=Console(stderr=True), show_path=False, rich_tracebacks=True
        )
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s", "%H:%M:%S"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(PLAIN_FORMAT, "%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def log_to_file(path: Path) -> None:
    """Also write logs to a file of the run folder, by appending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(PLAIN_FORMAT))
    logging.getLogger().addHandler(handler)
