"""A peer's own /metrics, by option: the figures that its heartbeats bring to the learner anyway.

For whoever has a Prometheus beside the peer; the learner's port needs no such thing.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from protocol.errors import ConfigError
from protocol.http_server import HttpServer
from protocol.messages import Heartbeat, Role
from protocol.metrics import exposition, peer_metrics

OPTION = "--metrics-address"
HELP = "serve this process's own /metrics there, as [HOST:]PORT (host: 127.0.0.1); off without it"


@contextlib.contextmanager
def own_metrics(
    address: str | None, role: Role, heartbeat: Callable[[], Heartbeat]
) -> Generator[HttpServer | None]:
    """Serve /metrics and /healthz inside the `with`; nothing where no address is given.

    Raises:
        ConfigError: the address is none, or cannot be bound.
    """
    if not address:
        yield None
        return

    def answer(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            said = heartbeat()
            metrics = peer_metrics(
                role,
                policy_version=said.policy_version,
                capacity=said.capacity,
                figures=said.metrics,
            )
            return exposition(metrics)(environ, start)
        found = path == "/healthz"
        start("200 OK" if found else "404 Not Found", [("Content-Type", "text/plain")])
        return [b"ok\n" if found else b"try /metrics or /healthz\n"]

    server = HttpServer(*_parse(address), answer, port_setting=OPTION)
    try:
        yield server
    finally:
        server.close()


def _parse(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{OPTION} {address!r}: wanted [HOST:]PORT, such as 19571")
    return host.strip("[]") or "127.0.0.1", int(port)
