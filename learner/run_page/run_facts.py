"""What a run is and how far it is: /api/run."""

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from learner.run_folder import SUMMARY
from learner.run_page.json_values import as_whole
from learner.run_page.run_warnings import RunWarnings
from learner.run_page.series import Series

Live = Callable[[], Mapping[str, Any]]
"""What only a learner knows: `groups`, `peers`, and newer `step` and `policy_version`, as
/api/run says them; any of them may be left out."""

LIVE_KEYS = ("step", "policy_version", "groups", "peers")
_ETA_ROWS = 20


class RunFacts:
    """Facts of one run. Thread-safe.

    Args:
        run_dir: the run folder.
        series: its numbers.
        live: of the learner that serves the page; None where none does.
    """

    def __init__(self, run_dir: Path, series: Series, live: Live | None) -> None:
        self._run_dir = run_dir
        self._series = series
        self._live = live
        self._warnings = RunWarnings(run_dir / "logs")
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._config: dict[str, Any] = {}

    def answer(self) -> dict[str, Any]:
        """What /api/run says."""
        config = self.config()
        live = {} if self._live is None else dict(self._live())
        progress = {"step": self._last("step") or 0, "policy_version": self._last("policy_version")}
        facts = {
            **_names(config, self._run_dir),
            "run_dir": str(self._run_dir),
            "is_live": self._live is not None,
            **progress,
            "groups": None,
            "peers": [],
            **{key: live[key] for key in LIVE_KEYS if key in live},
            "warnings": self._warnings.newest(),
            "config": config,
        }
        return {**facts, **self._timing(facts)}

    def config(self) -> dict[str, Any]:
        """config.yaml as a tree; empty where it cannot be read."""
        path = self._run_dir / "config.yaml"
        with self._lock:
            try:
                found = os.stat(path)
                stamp = (found.st_mtime_ns, found.st_size)
                if stamp != self._stamp:
                    tree: object = yaml.safe_load(path.read_text(encoding="utf-8"))
                    self._config = tree if isinstance(tree, dict) else {}
                    self._stamp = stamp
            except (OSError, ValueError, yaml.YAMLError, RecursionError):
                self._config, self._stamp = {}, None
            return self._config

    def model_path(self) -> str:
        """The config's model.path; empty where it has none."""
        path = _get(self.config(), "model", "path")
        return path if isinstance(path, str) else ""

    def _last(self, key: str) -> int | None:
        found = self._series.last(key)
        return int(found[0]) if found else None

    def _timing(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        step, max_steps = facts["step"], facts["max_steps"]
        is_done = max_steps is not None and step is not None and step >= max_steps
        is_over = self._live is None and (self._run_dir / SUMMARY).is_file()
        lengths = self._series.last("seconds/step", _ETA_ROWS)
        seconds = sum(lengths) / len(lengths) if lengths else None
        eta = None
        if seconds is not None and max_steps is not None and not (is_done or is_over):
            eta = seconds * (max_steps - (step or 0))
        return {
            "is_finished": is_done or is_over,
            "seconds_per_step": seconds,
            "eta_seconds": eta,
        }


def _names(config: Mapping[str, Any], run_dir: Path) -> dict[str, Any]:
    rewards = config.get("rewards")
    names = [_get(reward, "name") for reward in rewards] if isinstance(rewards, list) else []
    return {
        "name": _get(config, "run", "name") or run_dir.name,
        "model": _get(config, "model", "path"),
        "algorithm": _get(config, "algorithm", "name"),
        "rewards": [name for name in names if isinstance(name, str)],
        "max_steps": as_whole(_get(config, "run", "max_steps")),
        "max_off_policy_steps": as_whole(_get(config, "learner", "max_off_policy_steps")),
    }


def _get(tree: object, *keys: str) -> Any:  # noqa: ANN401 - any YAML value
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
