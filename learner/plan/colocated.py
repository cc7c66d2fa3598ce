"""A run that generates in the learner's process, and one that does so in processes of its own."""

from typing import NamedTuple

from protocol.config import RunConfig

COLOCATED, SEPARATE = "colocated", "separate actors"


class Way(NamedTuple):
    """Where this machine's completions are decoded."""

    name: str
    setting: str
    """As `--set` takes it, twice."""
    config: RunConfig


def colocate(config: RunConfig) -> Way | None:
    """The run with generation in the learner's process; None where it cannot be, or is so."""
    stale, generation = config.learner.max_off_policy_steps, config.generation
    if config.learner.colocated_actor or not config.roles.actor:
        return None
    if stale and not generation.in_flight_weight_updates:
        return None  # protocol/config.py refuses it
    return _way(config, colocated=True, actors=0)


def other_way(config: RunConfig) -> Way | None:
    """How else this machine could generate; None where it does not, or cannot otherwise."""
    if config.learner.colocated_actor:
        return _way(config, colocated=False, actors=max(1, config.roles.actor))
    return colocate(config)


def _way(config: RunConfig, *, colocated: bool, actors: int) -> Way:
    learner = config.learner.model_copy(update={"colocated_actor": colocated})
    roles = config.roles.model_copy(update={"actor": actors})
    return Way(
        COLOCATED if colocated else SEPARATE,
        f"learner.colocated_actor={str(colocated).lower()}, roles.actor={actors}",
        config.model_copy(update={"learner": learner, "roles": roles}),
    )
