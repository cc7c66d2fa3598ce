"""Without a sandbox the programs do their harm: else it would prove nothing that they are stopped.

Where a program is judged wrong without a sandbox too, there is nothing to show; `make soak` runs
those as well, by CONTROLS=all.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from hostile.canaries import planted
from hostile.catalogue import PROGRAMS
from hostile.control import harm_unconfined

SHOWN = ("wins", "hangs", "ends") if os.environ.get("CONTROLS") == "all" else ("wins", "hangs")
HARMFUL = {name: program for name, program in PROGRAMS.items() if program.harm in SHOWN}
PARALLEL = {"hangs": 16, "wins": 4, "ends": 4}


@pytest.fixture(scope="module")
def harms(request, selected):
    programs = selected(request, "test_a_program_does_its_harm_where_nothing_stops_it", HARMFUL)
    seen = {}
    with planted() as facts:
        for harm, parallel in PARALLEL.items():
            alike = {name: p for name, p in programs.items() if p.harm == harm}
            with ThreadPoolExecutor(parallel) as threads:
                found = threads.map(lambda p: harm_unconfined(p, facts), alike.values())
                seen.update(zip(alike, found, strict=True))
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("name", HARMFUL)
def test_a_program_does_its_harm_where_nothing_stops_it(name: str, harms):
    assert harms[name] == HARMFUL[name].harm


def test_a_program_without_a_control_says_why():
    for name, program in PROGRAMS.items():
        assert program.harm is not None or program.why, name
