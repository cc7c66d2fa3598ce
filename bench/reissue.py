"""How long do a dead actor's groups lie idle? Seconds from its kill -9 to tokens from another.

Three real actors decode groups of long completions. One is killed while it holds some; the others
say with every report, five times a second, which attempts they hold and how many tokens those have.
What counts is the first report in which the next attempt of a group has tokens.

    .venv/bin/python bench/reissue.py [--rounds 5]
"""

import argparse
import json
import os
import platform
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from protocol.messages import Hello
from protocol.peer import PeerLink, PeerStatus
from protocol.process import this_host
from protocol.transport import PeerSockets

ROOT = Path(__file__).resolve().parent.parent
NUM_ACTORS = 3
TARGET_SECONDS = 3.0
LIMIT_SECONDS = 8.0
"""A group that no other actor has by then was finished at the moment of the kill."""
TASK = {
    "run.max_steps": 1_000_000,
    "data.heldout": "[]",
    "generation.group_size": 128,
    "generation.temperature": 10.0,
    "generation.max_completion_tokens": 256,
    "generation.max_sequences": 512,
    "learner.groups_per_step": 2,
    "learner.max_off_policy_steps": 2,
    "learner.optimizer.learning_rate": 0.0,
    "checkpoints.interval": 0,
}
"""Two of an actor's four places are taken, so that there is room for what another leaves behind."""

Lease = tuple[int, int]
"""(group id, attempt)."""


class Watched:
    """An actor in a process of its own, and what it last said of its leases."""

    def __init__(self, address: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--actor", address], cwd=ROOT, stdout=subprocess.PIPE
        )
        self.leases: dict[Lease, int] = {}
        """Tokens so far."""
        self.held_since: dict[Lease, float] = {}
        """Monotonic seconds, which all processes of a machine share."""
        self.working_since: dict[Lease, float] = {}
        """The same, from the first token on."""
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            self.leases = {(group, attempt): tokens for group, attempt, tokens in said["leases"]}
            for lease in self.leases:
                self.held_since.setdefault(lease, said["at"])
            for lease in self.working():
                self.working_since.setdefault(lease, said["at"])

    def working(self) -> set[Lease]:
        """Leases with tokens."""
        return {lease for lease, tokens in self.leases.items() if tokens}


def main() -> int:
    """Kill one actor a round; returns 1 if a group lay idle for longer than the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--port", type=int, default=19550)
    parser.add_argument("--actor", metavar="ADDRESS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.actor:
        return act(options.actor)
    with tempfile.TemporaryDirectory(prefix="reissue-") as folder:
        seconds = measure(Path(folder), options.port, options.rounds)
    if not seconds:
        print("no group was issued again: every one was finished at the moment of the kill")
        return 1
    slowest = max(seconds)
    print(
        f"{len(seconds)} groups of {options.rounds} killed actors: median "
        f"{statistics.median(seconds):.2f} s, slowest {slowest:.2f} s, target {TARGET_SECONDS:g} s"
    )
    return int(slowest >= TARGET_SECONDS)


def measure(folder: Path, port: int, num_rounds: int) -> list[float]:
    """Run a learner, a reward worker and actors; returns seconds by group."""
    values = {**TASK, "network.port": port, "network.http_port": 0}
    sets = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    config = ["--config", "configs/quickstart.yaml", "--run-dir", str(folder / "run")]
    address = f"tcp://127.0.0.1:{port}"
    others = [start("learner", *config, *sets), start("reward_workers", "--learner", address)]
    actors = [Watched(address) for _ in range(NUM_ACTORS)]
    seconds: list[float] = []
    try:
        for number in range(1, num_rounds + 1):
            wait_until(lambda: all(len(actor.working()) > 1 for actor in actors), others[0])
            found = kill(actors.pop(0), actors)
            actors.append(Watched(address))
            print(f"round {number}: tokens after {seconds_list(found, 0.0)}", flush=True)
            seconds += found
    finally:
        end(*others, *(actor.process for actor in actors))
    return seconds


def start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a role that says nothing but warnings."""
    command = [sys.executable, "-m", module, *arguments, "--log-level", "ERROR"]
    return subprocess.Popen(command, cwd=ROOT)


def kill(victim: Watched, others: list[Watched]) -> list[float]:
    """Kill an actor; returns the seconds until others had tokens of each group that it held."""
    held = victim.working()
    killed_at = time.monotonic()
    victim.process.kill()
    victim.process.wait()
    again = {(group, attempt + 1) for group, attempt in held}
    deadline = killed_at + LIMIT_SECONDS
    found: dict[Lease, float] = {}
    held_at: dict[Lease, float] = {}
    while again - found.keys() and time.monotonic() < deadline:
        time.sleep(0.05)
        for actor in others:
            found.update({k: at for k, at in list(actor.working_since.items()) if k in again})
            held_at.update({k: at for k, at in list(actor.held_since.items()) if k in again})
    print(f"    leased again after {seconds_list(held_at.values(), killed_at)}")
    return sorted(at - killed_at for at in found.values())


def seconds_list(moments: Iterable[float], since: float) -> str:
    """Moments as text, in order."""
    return ", ".join(f"{at - since:.2f}" for at in sorted(moments)) + " s"


def end(learner: subprocess.Popen[bytes], *peers: subprocess.Popen[bytes]) -> None:
    """Leave no process behind."""
    for peer in peers:
        peer.terminate()
    learner.kill()
    for process in (learner, *peers):
        process.wait(20)


def wait_until(condition: Callable[[], bool], learner: subprocess.Popen[bytes]) -> None:
    """Wait for something that the learner's end would make impossible."""
    deadline = time.monotonic() + 90.0
    while not condition():
        if learner.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the actors are not at work: is the port free?")
        time.sleep(0.02)


class WatchedLink(PeerLink):
    """A link that also prints what the actor reports."""

    def report(self, status: PeerStatus, *, now: bool = False) -> None:
        """Print the leases as JSON, then report them."""
        leases = [(lease.group_id, lease.attempt, lease.tokens) for lease in status.progress]
        print(json.dumps({"at": time.monotonic(), "leases": leases}), flush=True)
        super().report(status, now=now)


def act(address: str) -> int:
    """Be a real actor with a watched link."""
    from actors.worker import Actor

    peer = f"actor-{os.getpid()}-{secrets.token_hex(2)}"
    hello = Hello(
        role="actor",
        peer=peer,
        host=this_host(),
        pid=os.getpid(),
        run_id="",
        fingerprint={"platform": platform.platform()},
    )
    link = WatchedLink(hello, PeerSockets(address, peer), address)
    link.start()
    try:
        return Actor(peer, link).run()
    finally:
        link.close("the actor ends")


if __name__ == "__main__":
    sys.exit(main())
