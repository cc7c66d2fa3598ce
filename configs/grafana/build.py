"""Dashboards as code -> JSON for Grafana: `python -m configs.grafana.build`, from the checkout."""

import json
from collections.abc import Callable
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from configs.grafana.dashboards_as_code import (
    actors,
    learning_health,
    overview,
    rewards,
    weights_and_transport,
)

FOLDER = Path(__file__).parent / "dashboards"
DASHBOARDS: dict[str, Callable[[], Dashboard]] = {
    module.NAME: module.make
    for module in (overview, actors, rewards, weights_and_transport, learning_health)
}
"""By the name of the file."""


def dashboard_json(make: Callable[[], Dashboard]) -> str:
    """The file that Grafana reads."""
    return json.dumps(make(), cls=JSONEncoder, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write every dashboard."""
    FOLDER.mkdir(exist_ok=True)
    for name, make in DASHBOARDS.items():
        (FOLDER / f"{name}.json").write_text(dashboard_json(make), encoding="utf-8")


if __name__ == "__main__":
    main()
