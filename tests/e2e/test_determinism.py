"""run.deterministic: whoever works and whatever dies, the weights end as the same bytes."""

import re
import sys

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_the_same_bytes_for_one_actor_and_for_three_of_which_some_die(start, port):
    # Short form of bench/determinism.py, which compares and ends with 1 where they differ.
    options = ("--only", "one,all,other", "--steps", "6", "--port", str(port))
    run = start(sys.executable, "bench/determinism.py", *options)
    run.succeeds(200)
    one, several, other = re.findall(r"trainer ([0-9a-f]{64})", run.stdout)
    assert one == several != other
    assert "killed 2 x actors, 1 x reward_workers, 1 x learner" in run.stdout
    shares = re.findall(r"rollouts by actor (.*);", run.stdout)
    assert len(shares) == 3
    assert "+" not in shares[0]
    assert "+" in shares[1]
