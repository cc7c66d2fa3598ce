"""A real Prometheus over a real run: who is scraped, what rules and panels give, how it ends."""

import json
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from learner.data.arithmetic import arithmetic_rows
from protocol.metric_table import METRICS
from protocol.metrics import sources
from tests.e2e.real_prometheus import CONFIG, ROOT, Prometheus, divided, quicker

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

DASHBOARDS = ROOT / "configs" / "grafana" / "dashboards"
SCRAPED_SECONDS = 10.0
"""Within which a new actor is scraped, and one that was killed is seen to be down."""
MAX_STEPS = 24
PREFIX = "import atexit\natexit.register(lambda: print(answer))\nanswer = \\"
"""The tiny policy writes numbers; with this before it, a completion is a program."""
PACED = """
import os, time

def paced(completions, **columns):
    for _ in completions:
        if os.path.exists({flag!r}):
            time.sleep(0.05)
    return [0.0 for _ in completions]
"""
GRAFANA = {
    "$__rate_interval": "8s",  # four scrapes
    "$__interval": "2s",
    "$__range": "1m",
}
"""What Grafana puts in place of its variables."""

RIGHTLY_EMPTY: dict[str, str] = {}
"""Expressions without a finite sample in this run, and why."""

ENDED = "last_over_time({}[5m])"
"""A figure of a learner that has ended."""


def test_every_rule_and_panel_gives_figures_and_the_last_ones_are_the_ledgers(
    train, start, port: int, tmp_path: Path
):
    slow = tmp_path / "slow"
    slow.touch()
    run = train(*overrides(tmp_path, slow))
    run.until_step(2)  # before the first, figures of steps are NaN, and so is a mean with them
    with Prometheus(tmp_path / "prometheus", port + 4) as prometheus:
        watch_an_actor_come_and_go(prometheus, start, run)
        run.until_step(12)
        assert without_samples(prometheus) == set(RIGHTLY_EMPTY)
        slow.unlink()
        run.succeeds()
        assert_the_last_figures_are_the_ledgers(prometheus, run)


def overrides(folder: Path, slow: Path) -> list[str]:
    """A run with evaluations, a reference policy and the sandbox, slow while a file is there."""
    train, heldout = folder / "train.jsonl", folder / "heldout.jsonl"
    write_programs(train, arithmetic_rows("add2", "train", 400))
    write_programs(heldout, arithmetic_rows("add2", "heldout", 8))
    paced = folder / "paced.py"
    paced.write_text(PACED.format(flag=str(slow)))
    code = "{name: code_execution, weight: 0.0, fallback_to_text: true, prefix_column: before}"
    return [
        f"run.max_steps={MAX_STEPS}",
        f'data.train=["{train}"]',
        f'data.heldout=["{heldout}"]',
        f'rewards=[{{name: exact_match}}, {code}, {{name: "{paced}:paced", weight: 0.0}}]',
        "algorithm={name: grpo, kl: {coefficient: 0.001}}",
        "roles.actor=1",
        "generation.group_size=4",
        "learner.groups_per_step=8",
        "learner.publish.share_files=false",
        "evaluation.interval=4",
    ]


def write_programs(path: Path, sums: list[dict[str, Any]]) -> None:
    """Rows whose completion may be judged as an answer, and as a program that prints it."""
    rows = [{**row, "before": PREFIX, "stdin": "", "stdout": row["answer"]} for row in sums]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def watch_an_actor_come_and_go(prometheus: Prometheus, start, run) -> None:
    """Of an actor that joins a run and is killed, Prometheus knows within SCRAPED_SECONDS."""
    command = (sys.executable, "-m", "actors", "--learner", run.address)
    late = start(*command, MLX_RL_SUPERVISED="1")  # nobody starts it again
    joined = rf"actor-\S+-{late.process.pid}-\S+ joined from"
    run.until(lambda: re.search(joined, run.stdout), "the late actor")
    began = time.monotonic()
    up = f'up{{role="actor", instance=~"actor-.*-{late.process.pid}-.*"}}'
    prometheus.until(lambda: prometheus.value(up) == 1, "the late actor is up", 30)
    assert time.monotonic() - began <= SCRAPED_SECONDS
    late.process.kill()
    prometheus.until(lambda: prometheus.value(up) == 0, "the killed actor is down", SCRAPED_SECONDS)
    others = f'up{{role=~"actor|reward_worker", instance!~"actor-.*-{late.process.pid}-.*"}}'
    assert [one.value for one in prometheus.query(others)] == [1, 1]


def without_samples(prometheus: Prometheus) -> set[str]:
    """The expressions of rules and dashboards that give no finite number."""
    return {each for each in expressions() if not gives_a_number(prometheus, each)}


def gives_a_number(prometheus: Prometheus, expression: str) -> bool:
    now = [sample.value for sample in prometheus.query(expression)]
    lately = prometheus.query_range(expression, 20, "2s")
    return any(map(math.isfinite, now)) and any(math.isfinite(v) for row in lately for v in row)


def expressions() -> Iterator[str]:
    """What rules and panels ask for; of alerts, what they compare."""
    for path in sorted((CONFIG.parent / "rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if "record" in rule:
                    yield rule["record"]
                    yield rule["expr"]
                else:
                    yield from compared(promql_parser.parse(rule["expr"]))
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in panels(json.loads(path.read_text())):
            for target in panel.get("targets", []):
                yield as_grafana_asks(target["expr"])


def compared(expression: Any) -> Iterator[str]:
    """The parts of a condition: an alert that does not fire gives nothing as a whole."""
    if isinstance(expression, promql_parser.ParenExpr):
        yield from compared(expression.expr)
    elif isinstance(expression, promql_parser.BinaryExpr) and str(expression.op) in CONDITIONS:
        yield from compared(expression.lhs)
        yield from compared(expression.rhs)
    elif not isinstance(expression, promql_parser.NumberLiteral):
        yield str(expression)


CONDITIONS = ("and", "or", "unless", "==", "!=", ">", "<", ">=", "<=")


def panels(tree: Any) -> Iterator[dict[str, Any]]:
    """Those of a dashboard, and those within its rows."""
    for panel in tree.get("panels", []):
        yield panel
        yield from panels(panel)


def as_grafana_asks(expression: str) -> str:
    """With all values chosen of each of the dashboard's own variables."""
    for name, value in GRAFANA.items():
        expression = expression.replace(name, value)
    return re.sub(r"\$(\w+|\{[^}]*\})", ".*", expression)


def assert_the_last_figures_are_the_ledgers(prometheus: Prometheus, run) -> None:
    summary = json.loads((run.run_dir / "summary.json").read_text())
    rollouts, last = run.rollouts(), run.rows()[-1]
    wanted: dict[tuple[str, tuple[str, ...]], Any] = {
        ("mlxrl_run_active", ()): 0,
        ("mlxrl_step", ()): MAX_STEPS,
        ("mlxrl_policy_version", ()): last["policy_version"],
        ("mlxrl_samples_trained_total", ()): len(rollouts),
        ("mlxrl_tokens_trained_total", ()): sum(len(row["token_ids"]) for row in rollouts),
        ("mlxrl_reward_mean", ()): last["reward/mean"],
        ("mlxrl_peers_lost_total", ("actor",)): 1,
    }
    for key, count in summary.items():
        wanted |= dict.fromkeys(sources("count", key), count)
    for name, metric in METRICS.items():
        if metric.source.startswith("count ") and metric.kind == "counter":
            for labels in metric.children or (() if metric.labels else ((),)):
                wanted.setdefault((name, labels), 0)  # what did not happen has no key
    found = {key: last_value(prometheus, *key) for key in wanted}
    assert found == wanted
    groups = Counter((row["group"], row["attempt"]) for row in rollouts)
    assert found["mlxrl_groups_trained_total", ()] == len(groups) == MAX_STEPS * 8
    accuracy = 'mlxrl_evaluation{evaluator="accuracy", figure="accuracy"}'
    assert prometheus.value(ENDED.format(accuracy)) == run.evaluations()[-1]["accuracy"]


def last_value(prometheus: Prometheus, name: str, labels: tuple[str, ...]) -> float:
    pairs = zip(METRICS[name].labels, labels, strict=True)
    selector = ", ".join(f'{label}="{value}"' for label, value in pairs)
    return prometheus.value(ENDED.format(f"{name}{{{selector}}}"))


def test_durations_alone_are_divided():
    asked = "sum(rate(m_5m[5m] offset 1m30s)) > 300 and max_over_time(x[1h:2m])"
    assert quicker(asked, 15) == (
        "sum(rate(m_5m[20000ms] offset 6000ms)) > 300 and max_over_time(x[240000ms:8000ms])"
    )
    assert divided("1m30s", 15) == "6000ms"
