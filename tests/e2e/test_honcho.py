"""`honcho start` from the checkout, as a user types it."""

import sys
from pathlib import Path

import pytest
import yaml

from learner.audit import audit

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
HONCHO = Path(sys.executable).with_name("honcho")


def test_honcho_start_runs_everything_and_ends_well(start, tmp_path: Path, port: int):
    tree = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text())
    tree["run"]["max_steps"] = 8
    tree["data"]["heldout"] = []
    tree["network"] = {"port": port, "http_port": port + 4}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(tree))
    environment = tmp_path / "environment"
    environment.write_text(
        f"CONFIG={config}\nLEARNER=tcp://127.0.0.1:{port}\nRUN_DIR={tmp_path / 'run'}\n"
        f"PYTHON={sys.executable}\nPYTHONUNBUFFERED=1\n"
    )
    run = start(HONCHO, "-e", environment, "start", "-c", "actor=2")
    run.succeeds()
    assert [row["step"] for row in run.rows()] == list(range(1, 9))
    assert len({row["actor"] for row in run.rollouts()}) == 2
    found = audit(run.run_dir)
    assert found.num_violations == 0, found.violations
