"""What a metric is; protocol/metric_table.py has all of them."""

from typing import Literal, NamedTuple

Owner = Literal["learner", "peer", "actor", "reward_worker"]
"""`peer`: actors and reward workers alike."""


class Metric(NamedTuple):
    """One metric; its name is the table's key."""

    kind: Literal["counter", "gauge", "histogram"]
    of: Owner
    help: str
    """What it counts, in which unit."""
    source: str = ""
    labels: tuple[str, ...] = ()
    children: tuple[tuple[str, ...], ...] = ()
    """Values of the labels that are there from the start, so that the first event is a rise."""
    buckets: tuple[float, ...] = ()
    """Upper bounds, of a histogram."""


def each(*values: str) -> tuple[tuple[str, ...], ...]:
    """Children of a metric with one label."""
    return tuple((value,) for value in values)


def row(key: str, help_text: str) -> Metric:
    """A gauge of the learner that shows a key of metrics.jsonl."""
    return Metric("gauge", "learner", help_text, f"row {key}")


def count(key: str, help_text: str) -> Metric:
    """A counter of the learner that the exchange keeps."""
    return Metric("counter", "learner", help_text, f"count {key}")


def figure(of: Owner, key: str, help_text: str) -> Metric:
    """What a peer's heartbeats say: a counter where it only grows."""
    kind = "counter" if key.endswith("_total") or key in _GROWING else "gauge"
    return Metric(kind, of, help_text, f"figure {key}")


_GROWING = (
    *("busy_seconds", "alive_seconds", "tokens_sampled", "weights_fetched_bytes"),
    *("weights_mismatches",),
)
"""Figures of heartbeats that only grow, whatever their names say."""
