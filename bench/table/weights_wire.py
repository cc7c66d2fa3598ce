"""One version's bytes to several processes of this machine: by the real exchange, or by raw TCP."""

import logging
import random
import socket
import subprocess
import sys
import threading
import time
from typing import Literal

import numpy as np

from learner.data.prompts import TokenizedPrompt
from learner.data.sources import Row
from learner.data.stream import PromptStream
from learner.exchange.evaluation_book import EvaluationBook
from learner.exchange.exchange import Exchange
from learner.exchange.prompt_book import PromptBook
from learner.exchange.publish import Publisher
from learner.ledger.admission import LedgerLimits
from learner.ledger.ledger import Ledger
from protocol.config import RunConfig
from protocol.messages import TensorSpec, Welcome
from protocol.metrics import Metrics
from protocol.transport import LearnerSockets
from protocol.weights import PackedWeights, digest_of

HOST = "127.0.0.1"
SMOLLM2_BYTES = 269_030_016
"""Of SmolLM2-135M in bfloat16."""


class WeightsWire:
    """A learner's exchange with one version, a TCP sender with the same bytes, their receivers.

    Args:
        receivers: processes; each gets all bytes.
        num_bytes: of the version; their content is random.
    """

    def __init__(self, receivers: int, num_bytes: int) -> None:
        self._data = np.random.default_rng(0).bytes(num_bytes)
        port = random.randrange(20_000, 29_000)
        self._exchange = _exchange(port)
        self._exchange.start()
        self._exchange.publish(0, _packed(self._data))
        with socket.create_server((HOST, 0)) as server:
            tcp_port = server.getsockname()[1]
            self._processes = [
                _start(f"receiver-{index}", port, tcp_port, num_bytes) for index in range(receivers)
            ]
            self._connections = [server.accept()[0] for _ in range(receivers)]
        self._hear("ready")

    def chunks_seconds(self) -> float:
        """Until the last receiver has fetched and verified all bytes."""
        return self._order("chunks")

    def tcp_seconds(self) -> float:
        """Until the last receiver has read all bytes, sent by a thread for each."""
        senders = [
            threading.Thread(target=connection.sendall, args=(self._data,))
            for connection in self._connections
        ]
        seconds = self._order("tcp", senders)
        for sender in senders:
            sender.join()
        return seconds

    def close(self) -> None:
        """End everything."""
        for process in self._processes:
            process.communicate(timeout=30)
        for connection in self._connections:
            connection.close()
        self._exchange.close("the bench ends")

    def _order(
        self, order: Literal["chunks", "tcp"], senders: list[threading.Thread] | None = None
    ) -> float:
        began = time.perf_counter()
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{order}\n")
            process.stdin.flush()
        for sender in senders or []:
            sender.start()
        self._hear("done")
        return time.perf_counter() - began

    def _hear(self, word: str) -> None:
        for process in self._processes:
            assert process.stdout is not None
            said = process.stdout.readline().strip()
            assert said == word, f"a receiver said {said!r}, not {word}"


def _start(name: str, port: int, tcp_port: int, num_bytes: int) -> "subprocess.Popen[str]":
    command = [
        *(sys.executable, "-m", "bench.table.weights_receiver", name),
        *(f"--learner=tcp://{HOST}:{port}", f"--tcp-port={tcp_port}", f"--bytes={num_bytes}"),
    ]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _packed(data: bytes) -> PackedWeights:
    spec = TensorSpec(name="all", dtype="uint8", shape=(len(data),), num_bytes=len(data))
    return PackedWeights((spec,), memoryview(data), digest_of(data))


def _exchange(port: int) -> Exchange:
    """The learner's exchange, with a ledger that nobody asks anything."""
    logging.getLogger("learner").setLevel(logging.ERROR)  # who joins and leaves is no news here
    config = RunConfig.model_validate(
        {
            "model": {"path": "builtin:tiny"},
            "data": {"train": ["unused"]},
            "rewards": [{"name": "exact_match"}],
        }
    )
    limits = LedgerLimits(
        groups_per_step=1, group_size=1, max_off_policy_steps=0, prompts_low_water=1
    )
    prompts = [TokenizedPrompt(Row("p", "p", {}), (1,))]
    return Exchange(
        transport=LearnerSockets(HOST, port),
        ledger=Ledger(limits, 1, 0),
        prompts=PromptBook(prompts, EvaluationBook(), PromptStream(1, 0), 0),
        publisher=Publisher(1, "full", "base", 2),
        config=config,
        welcome=Welcome(
            run_id="bench", run_epoch=1, policy_version=0, config="{}", host="h", run_dir="/x"
        ),
        vocabulary=17,
        metrics=Metrics(),
    )
