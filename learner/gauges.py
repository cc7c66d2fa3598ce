"""The last step's row, the ledger's counts and the peers' figures as Prometheus gauges."""

import math
import re
from collections.abc import Mapping
from typing import Any

from protocol.telemetry import Metrics

STATES = ("ready", "leased", "scoring", "scored", "handed_over")
_ENDED = ("trained", "dropped/")
_FIGURE = re.compile(r"[a-z][a-z0-9_]{0,59}")
MAX_FIGURES = 100
"""Of reward workers; a peer must not fill the learner's memory with names."""


def show(metrics: Metrics, row: Mapping[str, Any], counts: Mapping[str, float]) -> None:
    """Set every gauge that a step changes.

    Args:
        metrics: the learner's.
        row: the row of metrics.jsonl; a figure that is not there becomes NaN.
        counts: the exchange's.
    """
    metrics.set("mlxrl_step", row["step"])
    for key, value in row.items():
        if value is None or isinstance(value, int | float):
            metrics.set("mlxrl_step_metric", math.nan if value is None else value, key)
    for state in STATES:
        metrics.set("mlxrl_groups", counts.get(state, 0), state)
    for name, count in counts.items():
        if name.startswith(_ENDED):
            metrics.set("mlxrl_groups_ended", count, name)
        elif name.startswith("peers/"):
            metrics.set("mlxrl_peers", count, name.removeprefix("peers/"))


def show_reward_workers(metrics: Metrics, sums: Mapping[str, float]) -> None:
    """Set the gauges of what reward workers say in heartbeats.

    Args:
        metrics: the learner's.
        sums: over all reward workers, by figure; those with odd names are left out.
    """
    for name in sorted(filter(_FIGURE.fullmatch, sums))[:MAX_FIGURES]:
        metrics.set("mlxrl_reward_workers", sums[name], name)
