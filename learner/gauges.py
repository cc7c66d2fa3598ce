"""The last step's row and the ledger's counts as Prometheus gauges."""

import math
from collections.abc import Mapping
from typing import Any

from protocol.telemetry import Metrics

STATES = ("ready", "leased", "scoring", "scored", "handed_over")
_ENDED = ("trained", "dropped/")


def show(metrics: Metrics, row: Mapping[str, Any], counts: Mapping[str, int]) -> None:
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
