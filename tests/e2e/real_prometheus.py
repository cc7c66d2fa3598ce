"""A real Prometheus with this checkout's own configuration, for tests that ask it what it saw.

It runs configs/prometheus/prometheus.yml and the rules beside it. In the copy only ports differ,
and durations where a test has no minutes to wait.
"""

import json
import math
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "prometheus" / "prometheus.yml"
START_SECONDS = 30.0
UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
"""Milliseconds."""
DURATION = r"(?:[0-9]+(?:ms|[smhd]))+"
WAITS = ("for", "keep_firing_for", "interval")
"""Keys of rules and groups that hold a duration."""

T = TypeVar("T")
Tree = dict[str, Any]


class Sample(NamedTuple):
    """One series of an answer, and its newest value."""

    labels: Mapping[str, str]
    value: float


class Alert(NamedTuple):
    """One alert as Prometheus has it."""

    name: str
    state: str
    labels: Mapping[str, str]


class Prometheus:
    """Prometheus over the learners at some HTTP ports; a context manager, which kills it.

    Args:
        folder: for its data, its configuration and its log; must not exist.
        learners: HTTP ports.
        factor: every duration of the rules is divided by it.
        interval: between scrapes, of rules and of discovery; None leaves prometheus.yml's.
    """

    def __init__(
        self,
        folder: Path,
        *learners: int,
        factor: float = 1.0,
        interval: str | None = None,
    ) -> None:
        program = shutil.which("prometheus")
        if program is None:
            pytest.fail("no prometheus in PATH: sudo apt install prometheus, or brew install it")
        folder.mkdir()
        self._log = folder / "prometheus.log"
        config = write_config(folder, learners, factor, interval)
        command = [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._url = self.until(self._listens, "Prometheus's address", START_SECONDS)
            self.until(self._is_ready, "a Prometheus that is ready", START_SECONDS)
        except BaseException:
            self._kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _listens(self) -> str:
        found = re.search(r'msg="Listening on" address=(\S+)', self.log)
        return f"http://{found[1]}" if found else ""

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def query(self, expression: str) -> list[Sample]:
        """What an expression gives now."""
        found = self._get("query", query=expression)
        if found["resultType"] == "scalar":
            return [Sample({}, float(found["result"][1]))]
        return [Sample(one["metric"], float(one["value"][1])) for one in found["result"]]

    def query_range(self, expression: str, seconds: float, step: str) -> list[list[float]]:
        """What it gave over the last seconds, by series."""
        now = time.time()
        found = self._get("query_range", query=expression, start=now - seconds, end=now, step=step)
        return [[float(value) for _, value in one["values"]] for one in found["result"]]

    def value(self, expression: str) -> float:
        """The one value of an expression; NaN where it gives none or several."""
        found = self.query(expression)
        return found[0].value if len(found) == 1 else math.nan

    def alerts(self) -> list[Alert]:
        """Those that are pending or firing now."""
        return [
            Alert(one["labels"]["alertname"], one["state"], one["labels"])
            for one in self._get("alerts")["alerts"]
        ]

    def rules(self) -> list[Tree]:
        """Every rule that it has loaded."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def fires(self, name: str, **labels: str) -> bool:
        """Whether an alert of this name, and with these labels, is firing."""
        return any(
            alert.name == name
            and alert.state == "firing"
            and labels.items() <= alert.labels.items()
            for alert in self.alerts()
        )

    def until(self, condition: Callable[[], T], what: str, seconds: float = 60.0) -> T:
        """Wait until a condition gives something true, and return that."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline or self._process.poll() is not None:
                pytest.fail(f"{what}: not within {seconds:g} s\n{self.log[-3000:]}")
            time.sleep(0.1)
        return found

    def _get(self, path: str, **parameters: object) -> Any:
        text = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/{path}?{text}", timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode()
            pytest.fail(f"{path}, {parameters}: {said}")


def write_config(
    folder: Path, learners: Sequence[int], factor: float, interval: str | None
) -> Path:
    """Copy configuration and rules, with other ports and durations; returns the first's path."""
    tree: Tree = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    addresses = [f"127.0.0.1:{port}" for port in learners]
    if interval is not None:
        tree["global"] = dict.fromkeys(tree["global"], interval)
    for job in tree["scrape_configs"]:
        for place in job.get("static_configs", []):
            place["targets"] = addresses
        if "http_sd_configs" in job:
            (one,) = job["http_sd_configs"]
            one["refresh_interval"] = interval or one["refresh_interval"]
            job["http_sd_configs"] = [{**one, "url": f"http://{at}/sd"} for at in addresses]
    for pattern in tree["rule_files"]:
        for path in CONFIG.parent.glob(pattern):
            _copy_rules(path, folder / path.relative_to(CONFIG.parent), factor)
    copy = folder / CONFIG.name
    copy.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return copy


def _copy_rules(source: Path, target: Path, factor: float) -> None:
    tree: Tree = yaml.safe_load(source.read_text(encoding="utf-8"))
    for holder in (*tree["groups"], *_rules(tree)):
        for key in WAITS:
            if key in holder:
                holder[key] = divided(holder[key], factor)
    for rule in _rules(tree):
        rule["expr"] = quicker(rule["expr"], factor)
    target.parent.mkdir(exist_ok=True)
    target.write_text(yaml.safe_dump(tree), encoding="utf-8")


def _rules(tree: Tree) -> Iterator[Tree]:
    for group in tree["groups"]:
        yield from group["rules"]


def quicker(expression: str, factor: float) -> str:
    """An expression whose ranges, steps of subqueries and offsets are divided by a factor."""

    def divide(found: re.Match[str]) -> str:
        return re.sub(DURATION, lambda one: divided(one[0], factor), found[0])

    places = rf"\[\s*{DURATION}\s*(?::\s*(?:{DURATION})?\s*)?\]|\boffset\s+-?{DURATION}"
    return re.sub(places, divide, expression)


def divided(duration: str, factor: float) -> str:
    """`1m30s` by 15 -> `6000ms`."""
    parts = re.findall(r"([0-9]+)(ms|[smhd])", duration)
    return f"{sum(int(number) * UNITS[unit] for number, unit in parts) / factor:.0f}ms"
