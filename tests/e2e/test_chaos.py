"""Random faults under a fixed seed: the short form of bench/chaos.py."""

import re
import sys

import pytest

from learner.audit import audit

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

EVENTS, SEED = 8, 1


def test_whoever_is_killed_or_stopped_every_prompt_is_trained_or_dropped_once(
    start, port, tmp_path
):
    options = {"events": EVENTS, "seed": SEED, "port": port, "run-dir": tmp_path / "run"}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    run = start(sys.executable, "bench/chaos.py", *words)
    run.succeeds(150)

    assert f"{EVENTS} events, seed {SEED}" in run.stdout
    happened = {what: int(n) for n, what in re.findall(r"^ *(\d+)  (.*)$", run.stdout, re.M)}
    assert sum(n for what, n in happened.items() if what.startswith(("kill", "stop"))) == EVENTS
    assert sum(n for what, n in happened.items() if what.startswith("kill learner")) == 2
    assert sum(n for what, n in happened.items() if what.startswith("stop")) == 3

    found = audit(run.run_dir)
    assert found.num_violations == 0, found.violations
    figures = found.figures
    assert figures["groups trained"] + figures["groups dropped otherwise"] == EVENTS * 4 * 8
    assert figures["evaluations"] > 1
