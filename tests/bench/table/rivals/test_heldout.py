"""When a curve of accuracy crosses a threshold, and what counts as a right answer."""

import pytest

from bench.table.rivals.heldout import HeldOut, crossing
from bench.table.rivals.workload import TINY


def test_a_crossing_lies_straight_between_two_points():
    # from 0.6 at 10 s to 0.8 at 20 s: 0.75 is three quarters of the way
    assert crossing([(0.0, 0.4), (10.0, 0.6), (20.0, 0.8)], 0.75) == pytest.approx(17.5)


def test_the_first_crossing_counts():
    assert crossing([(0.0, 0.4), (1.0, 0.8), (2.0, 0.5), (3.0, 0.8)], 0.8) == pytest.approx(1.0)


def test_a_threshold_that_is_not_reached_is_said():
    with pytest.raises(ValueError, match=r"0\.9 is not crossed"):
        crossing([(0.0, 0.4), (1.0, 0.8)], 0.9)


@pytest.mark.slow
def test_the_built_in_policy_begins_where_the_quickstart_does():
    # the quickstart's own evaluation of version 0, greedy on the same prompts
    found = HeldOut(TINY).accuracy(TINY / "model.safetensors")
    assert found == pytest.approx(0.41, abs=0.02)
