"""Whether a run fits this machine: shape arithmetic alone, in well under a second."""

import logging

from learner.plan.machine import Machine, this_machine
from learner.plan.memory import Memory, predict_memory
from learner.plan.remedies import Change, cheapest_change
from learner.plan.shape import UNREADABLE, ModelShape, read_shape
from learner.plan.work import Work, shortest_work
from protocol.config import RunConfig
from protocol.errors import ConfigError

log = logging.getLogger("learner.plan")

WARN_SHARE = 0.8
"""Of the machine's memory; the system and other programs want some too."""
GIB = 1 << 30


def refuse_misfit(config: RunConfig, *, ignore: bool = False) -> None:
    """Refuse a run whose roles, at their peaks, need more than this machine's memory.

    Prompts count as one token each, since their lengths are not known without the tokenizer: what
    is refused would not fit with any prompts. A model or a machine that cannot be read is let by.

    Args:
        config: the run's.
        ignore: say it as a warning and go on.

    Raises:
        ConfigError: with the cheapest setting that would help.
    """
    machine, shape = this_machine(), read_shape(config.model.path)
    if machine is None or shape is None:
        return
    work = shortest_work(config)
    try:
        memory = memory_here(shape, config, work, machine)
    except UNREADABLE as error:
        log.debug("the shape of %s makes no sense: %r", config.model.path, error)
        return
    if memory.total_bytes > machine.memory_bytes:
        reason = misfit(shape, config, work, machine, memory)
        if not ignore:
            raise ConfigError(f"{reason} (--ignore-plan starts it all the same)")
        log.warning("%s", reason)
    elif memory.total_bytes > WARN_SHARE * machine.memory_bytes:
        log.warning(
            "this run will take about %s of this machine's %s; mlx-train --plan says more",
            gib(memory.total_bytes),
            gib(machine.memory_bytes),
        )


def memory_here(shape: ModelShape, config: RunConfig, work: Work, machine: Machine) -> Memory:
    """Memory of all roles on a machine."""
    return predict_memory(
        shape, config, work, has_metal=machine.has_metal, num_cores=machine.num_cores
    )


def misfit(
    shape: ModelShape, config: RunConfig, work: Work, machine: Machine, memory: Memory
) -> str:
    """Who needs how much, and what to change."""
    roles = ", ".join(
        f"{role.role} {gib(role.peak_bytes)}" + (f" x {role.count}" if role.count > 1 else "")
        for role in memory.roles
        if role.peak_bytes >= 0.05 * memory.total_bytes and role.count
    )
    return (
        f"this run needs about {gib(memory.total_bytes)} ({roles}) and this machine has "
        f"{gib(machine.memory_bytes)}: {_remedy(shape, config, work, machine)}"
    )


def _remedy(shape: ModelShape, config: RunConfig, work: Work, machine: Machine) -> str:
    def total(change: Change) -> int:
        return memory_here(change.shape, change.config, work, machine).total_bytes

    found = cheapest_change(shape, config, total, machine.memory_bytes)
    if found is not None:
        return f"set {found.setting}, and it takes about {gib(total(found))}"
    return (
        "no setting makes it fit; take a smaller model, or a machine with more memory, or "
        "let actors run elsewhere (roles.actor=0)"
    )


def gib(num_bytes: int) -> str:
    """Such as 1.5 GB, in units of 2^30 bytes as operating systems show memory."""
    return f"{num_bytes / GIB:.3g} GB" if num_bytes < 1000 * GIB else f"{num_bytes / GIB:.0f} GB"
