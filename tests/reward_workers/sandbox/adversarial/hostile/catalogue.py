"""All programs by their full names, such as "loops/busy", and a few of every family."""

from importlib import import_module

from hostile.program import Hostile

FAMILIES = (
    "loops",
    "memory",
    "disk",
    "floods",
    "processes",
    "executions",
    "signals",
    "files",
    "writes",
    "network",
    "kernel",
    "introspection",
    "crashes",
    "exits",
    "equality",
    "operators",
    "patching",
    "shadowing",
    "raising",
    "forging",
    "sandbox_error",
    "exhaustion",
    "pickles",
    "honest",
    "honest_programs",
)
PER_FAMILY = 3


def _programs() -> dict[str, Hostile]:
    """Every program of every family.

    Raises:
        ValueError: two have one name.
    """
    found: dict[str, Hostile] = {}
    for family in FAMILIES:
        for program in import_module(f"hostile.{family}").PROGRAMS:
            name = f"{family}/{program.name}"
            if name in found:
                raise ValueError(f"two programs have the name {name}")
            found[name] = program
    return found


def _representatives(programs: dict[str, Hostile]) -> dict[str, Hostile]:
    """Of each family a few, spread over it, so that every mode is among them."""
    chosen: dict[str, Hostile] = {}
    for family in FAMILIES:
        names = [name for name in programs if name.startswith(f"{family}/")]
        for i in range(PER_FAMILY):
            name = names[i * len(names) // PER_FAMILY]
            chosen[name] = programs[name]
    return chosen


PROGRAMS = _programs()
REPRESENTATIVES = _representatives(PROGRAMS)
