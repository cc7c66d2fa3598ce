"""`mlx-train --plan`: what a run will take, told before it starts."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from learner.plan.colocated import other_way
from learner.plan.comparison import Cost, comparison
from learner.plan.fit import memory_here, misfit
from learner.plan.kv_caches import max_rows
from learner.plan.machine import Machine, this_machine
from learner.plan.report import Plan, show
from learner.plan.seconds import Parts, predict_seconds, rows_per_actor
from learner.plan.shape import ModelShape, read_shape
from learner.plan.trained import compute_dtype_bytes
from learner.plan.work import Needs, Work
from protocol.config import RunConfig
from protocol.errors import ConfigError, TrainerError
from protocol.process import ERROR_PREFIX, EXIT_BAD_INPUT, EXIT_DONE
from protocol.supervise import SUPERVISED, describe_exit


@dataclass(frozen=True)
class Findings:
    """What a probe said."""

    work: Work
    mean_prompt_tokens: float
    parts: Parts
    working_set_bytes: int


def plan_and_show(config: RunConfig, config_file: Path, completion_tokens: int | None) -> int:
    """Predict memory and seconds of a run, print them, and return the exit code.

    Args:
        config: the run's.
        config_file: the same, for the probe.
        completion_tokens: expected mean; None assumes half of the bound.

    Raises:
        ConfigError: the model's shape or the machine's memory cannot be read.
    """
    plan = make_plan(config, config_file, completion_tokens)
    show(plan, Console())
    return EXIT_BAD_INPUT if plan.refusal else EXIT_DONE


def make_plan(config: RunConfig, config_file: Path, completion_tokens: int | None) -> Plan:
    """As `plan_and_show`, without the printing: memory first, and seconds only if it fits."""
    machine, shape = this_machine(), read_shape(config.model.path)
    if machine is None:
        raise ConfigError("this machine's memory cannot be read, so nothing can be planned")
    if shape is None:
        raise ConfigError(
            f"the shape of {config.model.path} cannot be read from its config.json and the headers "
            "of its safetensors files, so nothing can be planned"
        )
    longest = config.generation.max_completion_tokens
    expected = min(completion_tokens or max(1, longest // 2), longest)
    found = _probe(config, config_file, expected, "--needs-only")
    work = found.work
    memory = memory_here(shape, config, work, machine)
    refusal, seconds, other = "", None, ""
    if memory.total_bytes > machine.memory_bytes:
        refusal = misfit(shape, config, work, machine, memory)
    else:
        rows = rows_per_actor(config, _max_rows(shape, config, work, machine))
        parts = _probe(config, config_file, expected, "--rows", str(rows)).parts
        seconds = predict_seconds(config, parts, expected, machine)
        if way := other_way(config):
            there = memory_here(shape, way.config, work, machine).total_bytes
            cost = Cost(there, predict_seconds(way.config, parts, expected, machine).total)
            now = Cost(memory.total_bytes, seconds.total)
            other = comparison(way, cost, now, machine.memory_bytes)
    return Plan(
        memory=memory,
        machine=machine,
        work=work,
        assumptions=_assumptions(config, found, expected, given=completion_tokens is not None),
        seconds=seconds,
        refusal=refusal,
        working_set_bytes=found.working_set_bytes,
        other_way=other,
    )


def _max_rows(shape: ModelShape, config: RunConfig, work: Work, machine: Machine) -> int:
    compute_bytes = compute_dtype_bytes(config, has_metal=machine.has_metal)
    return max_rows(shape, config, work, compute_bytes, config.generation.group_size)


def _assumptions(
    config: RunConfig, found: Findings, expected: int, *, given: bool
) -> tuple[str, ...]:
    longest = config.generation.max_completion_tokens
    why = "as told" if given else "half of the bound; --plan-completion-tokens says better"
    return (
        f"for memory, prompts of {found.work.prompt_tokens} tokens (the longest of the data) and "
        f"completions of {longest} (generation.max_completion_tokens)",
        f"for seconds, prompts of {found.mean_prompt_tokens:.0f} tokens and completions of "
        f"{expected} ({why}); every group has something to teach, and rewards take no time",
        "code that rewards run in the sandbox takes nothing",
    )


def _probe(config: RunConfig, config_file: Path, expected: int, *options: str) -> Findings:
    command = [sys.executable, "-m", "learner.plan.probe", "--config", str(config_file)]
    command += ["--completion-tokens", str(expected)]
    done = subprocess.run(  # noqa: S603 - our own module
        [*command, *options],
        env={**os.environ, SUPERVISED: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == EXIT_DONE:
        return _findings(config, json.loads(done.stdout.splitlines()[-1]))
    last = (done.stderr.strip().splitlines() or [""])[-1]
    reason = last.removeprefix(ERROR_PREFIX)
    if done.returncode == EXIT_BAD_INPUT and last.startswith(ERROR_PREFIX):
        raise ConfigError(reason)
    raise TrainerError(f"the plan's probe {describe_exit(done.returncode)}: {reason}")


def _findings(config: RunConfig, said: dict[str, Any]) -> Findings:
    prompts = said["prompts"]
    longest = config.generation.max_completion_tokens
    return Findings(
        work=Work(prompts["longest"], longest, Needs(**said["needs"]), prompts["num_heldout"]),
        mean_prompt_tokens=prompts["mean"],
        parts=Parts(
            learner=said["learner_seconds"],
            prefill=said["prefill_seconds"],
            decode=said["decode_seconds"],
            decode_rows=said["decode_rows"],
        ),
        working_set_bytes=said["working_set_bytes"],
    )
