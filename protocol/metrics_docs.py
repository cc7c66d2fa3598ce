"""The metric table as Markdown: `python -m protocol.metrics_docs > docs/metrics.md`."""

import sys

from protocol.metric import Metric, Owner
from protocol.metric_table import METRICS

_HEAD = """\
# Metrics

Made from protocol/metric_table.py by `python -m protocol.metrics_docs > docs/metrics.md`.
The learner serves its own at `/metrics`, each peer's at `/metrics?peer=NAME`, and the list of
peers at `/sd`. A histogram has `_bucket`, `_sum` and `_count` after its name. A gauge is NaN until
it is first set. Source: `row KEY` of metrics.jsonl, `count KEY` of the exchange, `figure KEY` of a
heartbeat, where `*` becomes the label's value; empty where code sets it by name.
"""

_TABLE = """
## {title}

| name | kind | labels | meaning | source |
|---|---|---|---|---|
"""

_TITLES: dict[Owner, str] = {
    "learner": "Learner",
    "peer": "Actors and reward workers",
    "actor": "Actors",
    "reward_worker": "Reward workers",
}

MAX_VALUES = 12
"""Of a label, that are listed."""


def metrics_markdown() -> str:
    """A table for each owner, with every metric of it."""
    return _HEAD + "".join(
        _TABLE.format(title=title) + "".join(_rows(owner)) for owner, title in _TITLES.items()
    )


def _rows(owner: Owner) -> list[str]:
    return [_row(name, metric) for name, metric in METRICS.items() if metric.of == owner]


def _row(name: str, metric: Metric) -> str:
    source = f"`{metric.source}`" if metric.source else ""
    cells = (f"`{name}`", metric.kind, _labels(metric), metric.help, source)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |\n"


def _labels(metric: Metric) -> str:
    return "; ".join(
        _label(label, sorted({child[place] for child in metric.children}))
        for place, label in enumerate(metric.labels)
    )


def _label(label: str, values: list[str]) -> str:
    if not values or len(values) > MAX_VALUES:
        return f"`{label}`"
    return f"`{label}`: {', '.join(values)}"


if __name__ == "__main__":
    sys.stdout.write(metrics_markdown())
