"""Seconds of a training step, from how long its parts take alone and who computes beside whom."""

from dataclasses import dataclass

from learner.plan.machine import Machine
from protocol.config import RunConfig

HANDOVER_SECONDS = 0.03
"""Between generating, scoring, training and publishing, where these wait for each other."""

_IN_TURN = "learner and actors in turn"


@dataclass(frozen=True)
class Parts:
    """How long the parts of a step take on an otherwise idle machine."""

    learner: float
    """Seconds of a training step, publication included."""
    prefill: float
    """Seconds of one prompt."""
    decode: float
    """Seconds of one decode step of `decode_rows` completions."""
    decode_rows: int


@dataclass(frozen=True)
class StepSeconds:
    """A predicted step."""

    learner: float
    actor: float
    """Each actor's work for one step."""
    total: float
    bound_by: str
    """What a step waits for."""
    actor_tokens_per_second: float
    """Each actor's, at a full batch."""


def predict_seconds(
    config: RunConfig, parts: Parts, completion_tokens: float, machine: Machine
) -> StepSeconds:
    """Seconds of a step once the run is under way.

        asynchronous:  max(learner, actor, (learner + actors x actor) / capacity)
        synchronous:   learner + max(actor, actors x actor / capacity)
        colocated:     as these, but the learner and one of the actors take turns: learner + actor

    Capacity is how many roles compute at once without slowing each other: one GPU, or the cores,
    since each role computes in one thread. Without local actors only the learner's work is counted.

    Args:
        config: the run.
        parts: what a probe measured.
        completion_tokens: expected mean.
        machine: this one.
    """
    colocated = config.learner.colocated_actor
    actors = _num_actors(config)
    capacity = 1 if machine.has_metal else machine.num_cores
    actor = _actor_seconds(config, parts, completion_tokens) if actors else 0.0
    speed = parts.decode_rows / parts.decode if actors and parts.decode else 0.0
    process = parts.learner + (actor if colocated else 0.0)
    together = (parts.learner + actors * actor) / capacity
    if config.learner.max_off_policy_steps == 0:
        shared = max(actor, actors * actor / capacity)
        total, bound = parts.learner + shared, _IN_TURN
    else:
        total = max(process, actor, together)
        learner = _IN_TURN if colocated else "the learner"
        bound = {actor: "the actors", process: learner}.get(total, "all roles together")
    return StepSeconds(parts.learner, actor, total + HANDOVER_SECONDS, bound, speed)


def rows_per_actor(config: RunConfig, max_rows: int) -> int:
    """Completions that each actor decodes at once for one step's groups; whole groups.

    Args:
        config: the run.
        max_rows: that an actor lets in.
    """
    group, actors = config.generation.group_size, max(1, _num_actors(config))
    groups = -(-config.learner.groups_per_step // actors)
    return min(groups, max(1, max_rows // group)) * group


def _num_actors(config: RunConfig) -> int:
    """On this machine, one in the learner's process included."""
    return config.roles.actor + config.learner.colocated_actor


def _actor_seconds(config: RunConfig, parts: Parts, completion_tokens: float) -> float:
    """One actor's share of a step's groups, in as many batches as it takes."""
    groups = config.learner.groups_per_step / _num_actors(config)
    rows = groups * config.generation.group_size
    batches = max(1.0, rows / parts.decode_rows)
    return groups * parts.prefill + batches * completion_tokens * parts.decode
