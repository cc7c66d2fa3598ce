import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from protocol.config import NetworkSection
from tests.configs.reading import CONFIGS, rules

PROMETHEUS = CONFIGS / "prometheus"
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
ALERTS = {
    *("LearnerStalled", "ActorDown", "NoRollouts", "StalenessHigh", "RewardFailures"),
    *("SandboxErrors", "KLExplodes", "NonFiniteLoss", "EntropyCollapse", "QueueSaturated"),
}
SHORTEST_RANGE_SECONDS = 120
"""A fifteenth of it still holds four scrapes."""


def promtool(*arguments: str | Path) -> None:
    program = shutil.which("promtool")
    assert program, (
        "promtool is missing: make test-tools, apt install prometheus or brew install it"
    )
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_config_and_its_rules_are_valid():
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    promtool("check", "rules", *sorted((PROMETHEUS / "rules").glob("*.yml")))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_and_clear_as_their_unit_tests_say(path: Path):
    promtool("test", "rules", path)


def test_the_config_scrapes_where_a_learner_listens_by_default():
    network = NetworkSection()
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    learner, peers = config["scrape_configs"]
    address = f"{network.bind}:{network.http_port}"
    assert learner["static_configs"] == [{"targets": [address]}]
    assert peers["http_sd_configs"][0]["url"] == f"http://{address}/sd"


def test_every_alert_is_there_says_what_to_do_and_where_to_look():
    pages = {f"/d/{uid}" for uid in _uids()}
    found = [rule for rule in rules() if "alert" in rule]
    assert {rule["alert"] for rule in found} == ALERTS
    for rule in found:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "description", "dashboard"}
        assert len(rule["annotations"]["description"]) > 150
        assert rule["annotations"]["dashboard"] in pages


def test_every_alert_has_a_case_that_fires_and_one_that_does_not():
    fires, is_silent = set[str](), set[str]()
    for path in TESTS:
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            for case in test["alert_rule_test"]:
                causes = [
                    alert["exp_labels"].get("cause") or alert["exp_labels"].get("figure") or ""
                    for alert in case.get("exp_alerts", ())
                ]
                fires |= {f"{case['alertname']} {cause}" for cause in causes}
                is_silent |= set() if causes else {case["alertname"]}
    assert is_silent == ALERTS
    labels = [(rule["alert"], rule["labels"]) for rule in rules() if "alert" in rule]
    assert fires == {f"{name} {of.get('cause') or of.get('figure') or ''}" for name, of in labels}


def test_ranges_hold_four_scrapes_even_at_a_fifteenth():
    for rule in rules():
        for number, unit in re.findall(r"\[(\d+)([a-z]+)\]", rule["expr"]):
            assert int(number) * {"s": 1, "m": 60}[unit] >= SHORTEST_RANGE_SECONDS, rule


def _uids() -> list[str]:
    folder = CONFIGS / "grafana" / "dashboards"
    return [f"mlxrl-{path.stem.replace('_', '-')}" for path in folder.glob("*.json")]
