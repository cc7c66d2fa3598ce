"""A receiver of weights, in a process of its own: by our chunks, or by raw TCP.

Started by bench/table/weights_wire.py. A line on stdin is an order, `chunks` or `tcp`; `ready` and
`done` go to stdout. Between orders it is a registered actor that does nothing.
"""

import argparse
import os
import queue
import socket
import sys
import time
from collections.abc import Callable

from actors.fetch import WeightsFetch
from actors.weights_source import WeightsSource
from protocol.messages import Chunk, Hello, Manifest, Welcome
from protocol.peer import PeerLink
from protocol.transport import Channel, PeerSockets
from protocol.wire import Received

JOIN_SECONDS = 30.0


class ChunksReceiver:
    """The actor's link and its state machine of fetching; no file is shared.

    Args:
        address: the learner's.
        peer: this receiver's name.
    """

    def __init__(self, address: str, peer: str) -> None:
        self._peer = peer
        self._arrived: queue.Queue[Received] = queue.Queue()
        hello = Hello(role="actor", peer=peer, host="bench", pid=os.getpid())
        self._link = PeerLink(hello, PeerSockets(address, peer), address)
        self._link.route(Channel.WEIGHTS, self._arrived.put)
        self._link.start()
        received = self._link.receive(JOIN_SECONDS)
        assert received is not None
        assert isinstance(received.message, Welcome)
        self._epoch = received.message.run_epoch

    def receive(self) -> None:
        """Fetch version 0 whole, and verify it."""
        fetch = WeightsFetch(
            self._peer,
            lambda message: self._link.send(Channel.WEIGHTS, message),
            time.monotonic,
            WeightsSource(),
            keep_base=False,
        )
        fetch.reset(self._epoch)
        fetch.want(self._epoch, 0)
        fetch.tick()
        while fetch.take() is None:
            try:
                received = self._arrived.get(timeout=fetch.wait_seconds())
            except queue.Empty:
                pass
            else:
                _hand_over(fetch, received)
            fetch.tick()
        assert fetch.mismatches == 0

    def close(self) -> None:
        """Say goodbye."""
        self._link.close("the bench ends")


def _hand_over(fetch: WeightsFetch, received: Received) -> None:
    match received.message:
        case Chunk():
            fetch.on_chunk(received.message, received.raw)
        case Manifest():
            fetch.on_manifest(received.message)
        case other:
            raise AssertionError(f"a {type(other).__name__} came")


class TcpReceiver:
    """A bare connection.

    Args:
        port: where the sender listens.
        num_bytes: that come each time.
    """

    def __init__(self, port: int, num_bytes: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port))
        self._num_bytes = num_bytes

    def receive(self) -> None:
        """Read all bytes into fresh memory, as every new version needs it."""
        view = memoryview(bytearray(self._num_bytes))
        while view:
            view = view[self._connection.recv_into(view) :]


def main() -> None:
    """Follow the orders."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--learner", required=True)
    parser.add_argument("--tcp-port", type=int, required=True)
    parser.add_argument("--bytes", type=int, required=True)
    options = parser.parse_args()
    tcp = TcpReceiver(options.tcp_port, options.bytes)
    chunks = ChunksReceiver(options.learner, options.name)
    receivers: dict[str, Callable[[], None]] = {"tcp": tcp.receive, "chunks": chunks.receive}
    print("ready", flush=True)
    for line in sys.stdin:
        receivers[line.strip()]()
        print("done", flush=True)
    chunks.close()


if __name__ == "__main__":
    main()
