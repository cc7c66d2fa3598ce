import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from configs.grafana.build import DASHBOARDS, FOLDER, dashboard_json
from configs.grafana.dashboards_as_code.panels import PROMETHEUS
from protocol.config_docs import config_markdown
from tests.configs.reading import CONFIGS, dashboards, load_json, panels_of, rules

MAX_PANELS = 17
GRID_WIDTH = 24
KEYS = re.compile(
    r"\b(?:run|roles|data|generation|policy|learner|reward_worker|sandbox|evaluation|network)"
    r"\.[a-z_]+(?:\.[a-z_]+)*"
)
"""What looks like a key of the config; files of logs/ are cut out first."""


def test_the_files_are_what_the_code_builds():
    assert {path.stem for path in FOLDER.glob("*.json")} == set(DASHBOARDS)
    for name, make in DASHBOARDS.items():
        there = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
        assert there == dashboard_json(make), "run: python -m configs.grafana.build"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_survives_a_round_trip_through_grafanas_types(name: str):
    register_default_plugins()
    dashboard = load_json(FOLDER / f"{name}.json")
    again = json.loads(json.dumps(Dashboard.from_json(dashboard), cls=JSONEncoder))
    assert without_nulls(again) == without_nulls(dashboard)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(below) for key, below in value.items() if below is not None}
    return [without_nulls(below) for below in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_panels_overlap_or_leave_the_grid(name: str):
    taken = dict[tuple[int, int], str]()
    for panel in load_json(FOLDER / f"{name}.json")["panels"]:
        at = {"x": 0, "y": 0} | panel["gridPos"]
        assert at["x"] + at["w"] <= GRID_WIDTH
        columns, lines = range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])
        for cell in itertools.product(columns, lines):
            assert cell not in taken, f"{panel['title']} lies on {taken[cell]}"
            taken[cell] = panel["title"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_panel_has_a_title_a_unit_and_says_what_is_bad(name: str):
    dashboard = load_json(FOLDER / f"{name}.json")
    panels = panels_of(dashboard)
    assert len(panels) <= MAX_PANELS
    for listed in ([p["title"] for p in panels], [p["id"] for p in dashboard["panels"]]):
        assert len(set(listed)) == len(listed)
    for panel in panels:
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["description"].count(". ") >= 1
        assert panel["datasource"] == {"type": "prometheus", "uid": PROMETHEUS.uid}
        assert all(target["expr"] for target in panel["targets"])


@pytest.mark.parametrize("name", DASHBOARDS)
def test_rates_take_grafanas_interval_and_variables_are_there(name: str):
    dashboard = load_json(FOLDER / f"{name}.json")
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    for panel in panels_of(dashboard):
        for target in panel["targets"]:
            for inside in re.findall(r"\[(.*?)\]", target["expr"]):
                assert inside == "$__rate_interval"
            assert set(re.findall(r"\$(?!__)(\w+)", target["expr"])) <= variables


def test_grafana_is_told_of_the_datasource_and_the_scrape_interval():
    provisioning = CONFIGS / "grafana" / "provisioning"
    (source,) = _yaml(provisioning / "datasources" / "prometheus.yml")["datasources"]
    assert (source["type"], source["uid"]) == (PROMETHEUS.type_val, PROMETHEUS.uid)
    scraped = _yaml(CONFIGS / "prometheus" / "prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped
    (provider,) = _yaml(provisioning / "dashboards" / "mlxrl.yml")["providers"]
    start = (CONFIGS / "grafana" / "start.sh").read_text(encoding="utf-8")
    for variable in (provider["options"]["path"], source["url"]):
        assert f"export {variable.removeprefix('$')}=" in start


def test_advice_names_keys_that_the_config_has():
    rows = config_markdown()
    texts = [panel["description"] for d in dashboards().values() for panel in panels_of(d)]
    texts += [rule["annotations"]["description"] for rule in rules() if "alert" in rule]
    named = {key for text in texts for key in KEYS.findall(re.sub(r"logs/\S+", "", text))}
    assert len(named) > 15
    assert [key for key in sorted(named) if f"| `{key}` |" not in rows] == []


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))
