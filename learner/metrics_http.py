"""HTTP for Prometheus: /metrics and /healthz, in a thread of its own."""

import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from protocol.errors import ConfigError

StartResponse = Callable[..., Any]


class _Handler(WSGIRequestHandler):
    timeout = 10.0  # seconds that a connection may say nothing

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Log no line for each scrape."""


class _Server(ThreadingWSGIServer):
    request_queue_size = 128
    """Connections waiting to be accepted; at the default of 5 a burst costs a second each."""


class MetricsServer:
    """Serves a registry until it is closed.

    Args:
        bind: address.
        port: port; 0 takes a free one, see `port`.
        registry: what /metrics shows.

    Raises:
        ConfigError: the port is taken or the address is not one of this host's.
    """

    def __init__(self, bind: str, port: int, registry: CollectorRegistry) -> None:
        self._metrics = make_wsgi_app(registry)
        try:
            self._server = make_server(bind, port, self._answer, _Server, handler_class=_Handler)
        except OSError as error:
            raise ConfigError(
                f"cannot serve HTTP on {bind} port {port}: {error.strerror}; set network.http_port"
            ) from None
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)
        self._thread.start()

    def _answer(self, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            return self._metrics(environ, start)
        found = path == "/healthz"
        start("200 OK" if found else "404 Not Found", [("Content-Type", "text/plain")])
        return [b"ok\n" if found else b"try /metrics or /healthz\n"]

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
