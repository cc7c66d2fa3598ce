"""A learner under load, for bench/exchange_load.py: the real exchange, and processes of peers.

As a program it is such a learner alone, until its stdin ends:

    .venv/bin/python bench/loaded_learner.py PORT
"""

import contextlib
import cProfile
import json
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from learner.data.prompts import TokenizedPrompt
from learner.data.sources import Row
from learner.data.stream import PromptStream
from learner.exchange.evaluation_book import EvaluationBook
from learner.exchange.exchange import Exchange
from learner.exchange.prompt_book import PromptBook
from learner.exchange.publish import Publisher
from learner.ledger.admission import LedgerLimits
from learner.ledger.ledger import Ledger
from learner.samples import ScoredSample
from protocol.config import RunConfig
from protocol.errors import RunStopped
from protocol.messages import Welcome
from protocol.metrics import Metrics
from protocol.transport import LearnerSockets
from protocol.weights import PackedWeights, digest_of

HOST = "127.0.0.1"
NUM_ACTORS, NUM_WORKERS = 200, 50
GROUP_SIZE, GROUPS_PER_STEP = 8, 32
PROMPT_TOKENS = 64
NUM_PROMPTS = 4096
CONFIG = RunConfig.model_validate(
    {
        "model": {"path": "builtin:tiny"},
        "data": {"train": ["arithmetic:add2?count=8"]},
        "rewards": [{"name": "exact_match"}],
        "generation": {"group_size": GROUP_SIZE},
        "learner": {"groups_per_step": GROUPS_PER_STEP, "max_off_policy_steps": 8},
        # peers that pause while others are measured must not be taken for dead
        "network": {"http_port": 0, "heartbeat_seconds": 10.0},
    }
)


class MeteredClock:
    """The exchange's clock; notes now and then what the exchange thread has computed so far.

    Args:
        profiler: switched on in that thread, if there is one.
    """

    def __init__(self, profiler: cProfile.Profile | None) -> None:
        self._profiler = profiler
        self._noted_at = 0.0
        self.cpu_seconds = 0.0

    def __call__(self) -> float:
        """Monotonic seconds."""
        now = time.monotonic()
        if now - self._noted_at > 0.2 and threading.current_thread().name == "exchange":
            self._noted_at, self.cpu_seconds = now, time.thread_time()
            if self._profiler is not None:
                self._profiler.enable()
                self._profiler = None
        return now


class Learner:
    """An exchange, and a thread that takes its batches as training would.

    Args:
        port: its control port.
        profiler: of the exchange thread.
    """

    def __init__(self, port: int, profiler: cProfile.Profile | None) -> None:
        logging.getLogger("learner").setLevel(logging.ERROR)  # that peers leave is no news here
        self.clock = MeteredClock(profiler)
        limits = LedgerLimits(
            groups_per_step=GROUPS_PER_STEP,
            group_size=GROUP_SIZE,
            max_off_policy_steps=CONFIG.learner.max_off_policy_steps,
            prompts_low_water=9 * GROUPS_PER_STEP,
        )
        ids = tuple(i % 17 for i in range(PROMPT_TOKENS))
        rows = [Row(f"p:{i}", "x" * PROMPT_TOKENS, {"answer": "1"}) for i in range(NUM_PROMPTS)]
        prompts = [TokenizedPrompt(row, ids) for row in rows]
        self.exchange = Exchange(
            transport=LearnerSockets(HOST, port),
            ledger=Ledger(limits, 1, 0),
            prompts=PromptBook(prompts, EvaluationBook(), PromptStream(NUM_PROMPTS, 0), 0),
            publisher=Publisher(1, "full", "base", 2),
            config=CONFIG,
            welcome=Welcome(
                run_id="load", run_epoch=1, policy_version=0, config="{}", host="h", run_dir="/x"
            ),
            vocabulary=17,
            metrics=Metrics(),
            clock=self.clock,
        )
        self.faults: list[str] = []
        self._version = 0
        self._trained = bytearray(2**22)
        """How often each group was, by id."""
        self._taker = threading.Thread(target=self._take_batches, daemon=True)
        self.exchange.start()
        self._publish(trained=False)
        self._taker.start()

    def _publish(self, *, trained: bool) -> None:
        data = memoryview(b"weights")
        if trained:
            self.exchange.trained()
            self._version += 1
        self.exchange.publish(self._version, PackedWeights((), data, digest_of(data)))

    def _take_batches(self) -> None:
        with contextlib.suppress(RunStopped):
            while True:
                self._check(self.exchange.next_batch().samples)
                self._publish(trained=True)

    def _check(self, samples: tuple[ScoredSample, ...]) -> None:
        found = [(s.rollout.group_id, s.rollout.sample) for s in samples]
        groups = {group for group, _ in found}
        if len(groups) != GROUPS_PER_STEP or len(set(found)) != GROUP_SIZE * GROUPS_PER_STEP:
            self.faults.append("a batch that is not whole")
        for group in groups:
            self._trained[group] += 1

    def verdict(self) -> str:
        """Whether every group was trained exactly once, in words."""
        counts = self.exchange.counts()
        num_trained, num_twice = sum(map(bool, self._trained)), sum(n > 1 for n in self._trained)
        lost = {k: n for k, n in counts.items() if k.startswith(("dropped", "discarded")) and n}
        in_hand = num_trained - counts["trained"]
        fine = 0 <= in_hand <= GROUPS_PER_STEP and not (num_twice or lost or self.faults)
        return (
            f"{counts['trained']} groups trained, {num_trained} of them different, "
            f"{num_twice} twice, lost {lost or 'none'}, {counts['duplicates']} duplicate rollouts: "
            f"{'every group exactly once' if fine else f'NOT exactly once {self.faults}'}"
        )


class Crowd:
    """The processes of simulated peers.

    Args:
        port: the learner's.
    """

    def __init__(self, port: int) -> None:
        half = NUM_ACTORS // 2
        shares = [("actor", 0, half), ("actor", half, half), ("reward_worker", 0, NUM_WORKERS)]
        self._processes = [
            subprocess.Popen(
                [
                    *(sys.executable, Path(__file__).with_name("simulated_peers.py"), role),
                    *(f"--learner=tcp://{HOST}:{port}", f"--first={first}", f"--number={number}"),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for role, first, number in shares
        ]

    def tell(self, line: str) -> None:
        """Send a line to every process."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(line + "\n")
            process.stdin.flush()

    def rate(self, rollouts_a_second: float) -> None:
        """Steer all actors together; 0 is as fast as possible."""
        self.tell(f"rate {rollouts_a_second / 2}")

    def end(self) -> list[dict[str, Any]]:
        """What each process saw."""
        self.tell("end")
        return [json.loads(process.communicate(timeout=30)[0]) for process in self._processes]


class Elsewhere:
    """A second learner in a process of its own, with a crowd of its own.

    Args:
        port: its control port.
    """

    def __init__(self, port: int) -> None:
        command = [sys.executable, __file__, str(port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
        self.crowd = Crowd(port)

    def end(self) -> None:
        """End both."""
        self.crowd.end()
        self._process.communicate(timeout=30)


if __name__ == "__main__":
    served = Learner(int(sys.argv[1]), None)
    sys.stdin.read()
    served.exchange.close("the load is over")
