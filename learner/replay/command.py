"""`mlx-replay RUN`: compute steps of a run again, and say whether they come out the same.

Exit code 0: all agree. 1: something differs; the lines say which rollout, which key, what was found
in the folder and what was wanted. 2: bad input. Relative paths of the config's data and rewards are
those of the current directory, as for mlx-train; nothing is written into the run folder.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import mlx.core as mx

from learner.data.prompts import read_prompts, tokenize_prompts
from learner.data.stream import prompt_stream
from learner.replay.configured import Configured
from learner.replay.rebuild import Rebuilder
from learner.replay.recorded import Recorded, read_recorded
from learner.replay.replayer import Replayer
from learner.replay.verdict import LEGEND, Verdict
from protocol.config import RunConfig
from protocol.errors import ConfigError
from protocol.policy import Policy, limit_memory, load_policy, logits
from protocol.process import EXIT_DONE, EXIT_FAILED, private_tmpdir, run_main
from protocol.telemetry import setup_logging

_COMPUTED = {"advantages", "logprobs", "figures", "weights", "masters"}


def main() -> NoReturn:
    """Entry point of `mlx-replay`."""
    run_main(replay)


def replay(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    Raises:
        ConfigError, DataError: the run, its data, or a step that cannot be had.
    """
    given = _parser().parse_args(arguments)
    setup_logging(given.log_level)
    recorded = read_recorded(given.run.absolute())
    if given.step is not None:
        recorded.refuse_missing(given.step)
    with private_tmpdir(), load_configured(recorded, rewards=not given.no_rewards) as configured:
        replayer = load_replayer(recorded, configured)
        start = replayer.begin_before(recorded.first if given.step is None else given.step)
        last = recorded.last if given.step is None else given.step
        return _report(recorded, list(_replay(replayer, start, last)))


def _replay(replayer: Replayer, start: int, last: int) -> Iterator[Verdict]:
    """Verdicts of the steps after `start`, each said at once."""
    source = f"the checkpoint of step {start}" if start else "the model itself"
    _say(f"replaying steps {start + 1} to {last}, beginning with {source}")
    step, has_legend = start + 1, False
    while step <= last:
        verdict = replayer.replay(step)
        if verdict is not None:
            if not (verdict.agrees or has_legend):
                _say(LEGEND)
                has_legend = True
            for line in verdict.lines():
                _say(line)
            yield verdict
            step += 1
            continue
        found = replayer.skip_to(step)
        upto = last if found is None else min(found, last)
        _say(f"steps {step} to {upto} cannot be computed: there is no whole checkpoint between")
        step = upto + 1


def _report(recorded: Recorded, verdicts: Sequence[Verdict]) -> int:
    """Say the summary; returns the exit code."""
    differ = [verdict for verdict in verdicts if not verdict.agrees]
    if not differ:
        _say(f"all {len(verdicts)} steps agree: {recorded.path}")
        return EXIT_DONE
    steps = ", ".join(str(verdict.step) for verdict in differ)
    _say(f"{len(differ)} of {len(verdicts)} steps differ: {steps}: {recorded.path}")
    if all(found.part in _COMPUTED for verdict in differ for found in verdict.differences):
        causes = "on another chip, or with another mlx or BLAS"
        if any(recorded.run_epoch_of(verdict.step) is None for verdict in differ):
            causes += ", or where the run was resumed with other settings and kept no configs/"
        _say(f"only what was computed differs: so it does {causes}")
    return EXIT_FAILED


def load_configured(recorded: Recorded, *, rewards: bool) -> Configured:
    """Load a run's model.

    Raises:
        ConfigError: what would keep the run itself from starting.
    """
    config = recorded.config_of(recorded.first)
    return Configured(config, _load(config), rewards=rewards)


def load_replayer(recorded: Recorded, configured: Configured) -> Replayer:
    """Load a run's data.

    Raises:
        ConfigError, DataError: what would keep the run itself from starting.
    """
    config = recorded.config
    prompts = asyncio.run(read_prompts(config.data, config.run.seed))
    if not prompts.train:
        raise ConfigError("data.train holds no prompts")
    policy = configured.trainer.policy
    tokenized = tokenize_prompts(prompts.train, policy.tokenizer, config.data.max_prompt_tokens)
    rebuilder = Rebuilder(
        prompts=tokenized,
        stream=prompt_stream(config.data, (prompt.row for prompt in tokenized), config.run.seed),
        decoder=policy.tokenizer,
        vocabulary=logits(policy.model, mx.array([[0]])).shape[-1],
        group_size=config.generation.group_size,
    )
    return Replayer(recorded, configured, rebuilder)


def _load(config: RunConfig) -> Policy:
    limit_memory(
        wired_bytes=config.metal.wired_limit_bytes,
        cache_bytes=config.metal.learner_cache_bytes,
        memory_bytes=config.metal.learner_memory_bytes,
    )
    return load_policy(config)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("mlx-replay", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder, such as runs/mine")
    parser.add_argument(
        "--step",
        type=int,
        metavar="K",
        help="only this step, and those since the checkpoint before it (default: every step)",
    )
    parser.add_argument(
        "--no-rewards",
        action="store_true",
        help="do not score again (where the sandbox is missing)",
    )
    parser.add_argument("--log-level", default="WARNING", metavar="WARNING")
    return parser


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
