"""`python -m reward_workers.children.inside FD FD`: the child, which runs reward functions.

They run in the main thread, where signals (SIGALRM) arrive, and one call at a time. The worker ends
this process when one of them takes too long; what a call breaks here is gone with it.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from protocol.config import RewardConfig
from protocol.config_section import labels_of
from protocol.errors import ConfigError, SandboxUnavailable, UnknownPluginError
from protocol.messages import ScoreTask
from reward_workers.binding import BoundReward, bind_reward
from reward_workers.calling import call_tasks, describe
from reward_workers.children.channel import Channel, Said
from reward_workers.children.lifeline import end_with
from reward_workers.children.network import deny_network
from reward_workers.thinking import Thinking

REFUSED_CONFIG = "config"
REFUSED_SANDBOX = "sandbox"


def main(arguments: Sequence[str]) -> NoReturn:
    """Bind the rewards that the worker names, then score until it hangs up."""
    connection, lifeline = (int(number) for number in arguments)
    for number in (connection, lifeline):
        os.set_inheritable(number, False)  # else what a reward starts would hold them open
    end_with(lifeline)
    channel = Channel(socket.socket(fileno=connection))
    try:
        if begun := _begin(channel):
            _serve(channel, *begun)
    except EOFError:
        pass
    os._exit(0)  # threads that a reward left behind hold up nothing


def _begin(channel: Channel) -> tuple[list[BoundReward], Thinking] | None:
    start = channel.receive()
    try:
        if not start["network"]:
            _deny_network(start["network_anyway"])
        rewards = _bind(channel, start)
    except SandboxUnavailable as error:
        channel.send({"failed": REFUSED_SANDBOX, "why": str(error)})
        return None
    except (ConfigError, UnknownPluginError) as error:
        channel.send({"failed": REFUSED_CONFIG, "why": str(error)})
        return None
    channel.send({"bound": [[reward.uses_sandbox, reward.needs_network] for reward in rewards]})
    return rewards, Thinking(*start["thinking"])


def _deny_network(anyway: bool) -> None:
    try:
        deny_network()
    except SandboxUnavailable as error:
        if not anyway:
            raise
        print(f"goes on with network: {error}", file=sys.stderr)  # noqa: T201 - the worker logs it


def _bind(channel: Channel, start: Said) -> list[BoundReward]:
    configs = [RewardConfig.model_validate_json(config) for config in start["rewards"]]
    rewards: list[BoundReward] = []
    for index, (config, label) in enumerate(zip(configs, labels_of(configs), strict=True)):
        channel.send({"binding": index})
        try:
            rewards.append(bind_reward(config, label))
        except (ConfigError, UnknownPluginError):
            raise
        except BaseException as error:  # noqa: BLE001 - a file that exits while it is loaded
            raise ConfigError(
                f"reward {config.name!r} cannot be loaded: {describe(error)}"
            ) from None
    return rewards


def _serve(channel: Channel, rewards: Sequence[BoundReward], thinking: Thinking) -> None:
    sandbox: object = None
    if any(reward.uses_sandbox for reward in rewards):
        from reward_workers.children.remote_sandbox import RemoteSandbox  # asked for

        sandbox = RemoteSandbox(channel)
    tasks: list[ScoreTask] = []
    while True:
        message = channel.receive()
        if "call" not in message:
            continue  # the answer to a question that nobody waits for any more
        if message["tasks"] is not None:
            tasks = [ScoreTask.model_construct(**task) for task in message["tasks"]]
        outcomes = call_tasks(rewards[message["reward"]], tasks, time.monotonic, sandbox, thinking)
        signal.setitimer(signal.ITIMER_REAL, 0.0)  # an alarm left behind would hit the next call
        channel.send({"said": message["call"], "outcomes": [list(said) for said in outcomes]})


if __name__ == "__main__":
    main(sys.argv[1:])
