"""What the tests here read: dashboards, rules, and the metrics that expressions name."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser as promql
import yaml

CONFIGS = Path(__file__).parent.parent.parent / "configs"
INTERVAL = re.compile(r"\$__(rate_)?interval")
VARIABLE = re.compile(r"\$\w+")


class Named(NamedTuple):
    """A metric that an expression names, with the labels that it asks for by name."""

    name: str
    labels: frozenset[str]


class Expression(NamedTuple):
    """One PromQL expression as Prometheus gets it, and where it stands."""

    where: str
    text: str


def load_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def panels_of(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All but the titles of rows."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def filled(expr: str) -> str:
    """The expression with Grafana's variables replaced by what chooses everything."""
    return VARIABLE.sub(".*", INTERVAL.sub("8s", expr))


def dashboards() -> dict[str, Any]:
    found = sorted((CONFIGS / "grafana" / "dashboards").glob("*.json"))
    return {path.stem: load_json(path) for path in found}


def dashboard_expressions() -> list[Expression]:
    return [
        Expression(f"{name}: {panel['title']}", filled(target["expr"]))
        for name, dashboard in dashboards().items()
        for panel in panels_of(dashboard)
        for target in panel["targets"]
    ]


def rules() -> list[dict[str, Any]]:
    return [
        rule
        for path in sorted((CONFIGS / "prometheus" / "rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


def rule_expressions() -> list[Expression]:
    return [Expression(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()]


def nodes(expression: object) -> Iterator[object]:
    """The parsed expression and everything inside it."""
    yield expression
    for attribute in ("lhs", "rhs", "expr", "vector_selector"):
        below = getattr(expression, attribute, None)
        if below is not None:
            yield from nodes(below)
    for argument in getattr(expression, "args", None) or ():
        yield from nodes(argument)


def metrics_in(text: str) -> list[Named]:
    """The metrics of an expression, each with the labels of its matchers."""
    return [
        Named(node.name or "", frozenset(matcher.name for matcher in node.matchers.matchers))
        for node in nodes(promql.parse(text))
        if isinstance(node, promql.VectorSelector)
    ]
