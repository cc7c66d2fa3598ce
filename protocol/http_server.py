"""A small HTTP server for WSGI applications that only show things, in threads of its own.

It answers GET and HEAD. A page of another site may have a browser ask it under a name that points
here (DNS rebinding); such a name is not one of ours, and is refused.
"""

import io
import ipaddress
import logging
import re
import socket
import socketserver
import threading
import time
from collections.abc import Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from protocol.errors import ConfigError
from protocol.process import this_host

log = logging.getLogger("protocol.http_server")

MAX_CONNECTIONS = 64
REQUEST_SECONDS = 5.0
"""A connection whose request is not there after so long is closed: a byte now and then is no way to
keep its place."""
READ_SECONDS = 10.0
"""The same for one that does not read its answer."""
_BUSY_SECONDS = 1.0
"""A connection above the limit waits for so long, then it is told to come again."""
_BUSY = b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
_HOST = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:\d*)?")


class HttpServer:
    """Serves an application until it is closed.

    Args:
        bind: an address of this host, or a name of one.
        port: port; 0 takes a free one, see `port`.
        app: called in several threads at once.
        port_setting: what a user changes when the port is taken.

    Raises:
        ConfigError: the port is taken or the address is not one of this host's.
    """

    def __init__(
        self,
        bind: str,
        port: int,
        app: WSGIApplication,
        *,
        port_setting: str = "network.http_port",
    ) -> None:
        self._app = app
        self._names = own_names(bind)
        try:
            self._server = _Server(bind, port)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigError(
                f"cannot serve HTTP on {bind} port {port}: {reason}; set {port_setting}"
            ) from None
        self._server.set_app(self._answer)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if not is_own_host(environ.get("HTTP_HOST", ""), self._names):
            names = ", ".join(sorted(self._names))
            return _refuse(start, "403 Forbidden", f"ask by an IP address or as {names}")
        method = environ.get("REQUEST_METHOD")
        if method == "HEAD":
            return self._head(environ, start)
        if method != "GET":
            return _refuse(start, "405 Method Not Allowed", "only GET and HEAD", Allow="GET, HEAD")
        return self._call(environ, start)

    def _call(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        try:
            return self._app(environ, start)
        except Exception:
            log.exception("GET %s failed", environ.get("PATH_INFO"))
            return _refuse(start, "500 Internal Server Error", "an error; see the log")

    def _head(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Answer as to GET, without the body, and with its length."""
        said: list[tuple[str, list[tuple[str, str]]]] = []

        def keep(status: str, headers: list[tuple[str, str]], _error: Any = None, /) -> Any:  # noqa: ANN401
            said[:] = [(status, headers)]
            return lambda _data: None  # pyright: ignore[reportUnknownLambdaType, reportUnknownVariableType]

        num_bytes = sum(map(len, self._call({**environ, "REQUEST_METHOD": "GET"}, keep)))
        ((status, headers),) = said
        length = ("Content-Length", str(num_bytes))
        start(status, [(k, v) for k, v in headers if k.lower() != "content-length"] + [length])
        return []


def own_names(bind: str) -> frozenset[str]:
    """Names by which this host may be asked, in lower case."""
    whole = this_host().lower().rstrip(".")
    names = {name.removesuffix(".local") for name in (whole, whole.partition(".")[0])}
    return frozenset({"localhost", bind.lower(), *names, *(f"{name}.local" for name in names)})


def is_own_host(host: str, names: frozenset[str]) -> bool:
    """Whether a Host header names this host; none at all is no browser's, and harmless."""
    found = _HOST.fullmatch(host.strip().lower())
    if found is None:
        return False
    name = found[1].removesuffix(".")
    if not host or name in names:
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _refuse(start: StartResponse, status: str, sentence: str, **headers: str) -> list[bytes]:
    body = f"{sentence}\n".encode()
    plain = [("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")]
    start(status, [*plain, ("Content-Length", str(len(body))), *headers.items()])
    return [body]


class _Handler(WSGIRequestHandler):
    def setup(self) -> None:
        """Read the request for a bounded time in all."""
        super().setup()
        self.rfile = io.BufferedReader(_UntilDeadline(self.connection, REQUEST_SECONDS))

    def parse_request(self) -> bool:
        """Take the request; from here on it is the answer that must be read."""
        is_good = super().parse_request()
        self.connection.settimeout(READ_SECONDS)
        return is_good

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Log no line for each scrape."""


class _UntilDeadline(io.RawIOBase):
    """What comes by a socket until a time is over."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        super().__init__()
        self._connection = connection
        self._deadline = time.monotonic() + seconds

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - a buffer of any kind
        """Read some bytes; raises TimeoutError once the time is over."""
        left = self._deadline - time.monotonic()
        if left <= 0.0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128
    """Connections waiting to be accepted; at the default of 5 a burst costs a second each."""

    def __init__(self, bind: str, port: int) -> None:
        found = socket.getaddrinfo(bind, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family = found[0][0]
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__((bind, port), _Handler)

    def server_bind(self) -> None:
        """Bind without asking DNS for this host's full name, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Give the connection a thread, if there is one for it."""
        if not self._slots.acquire(timeout=_BUSY_SECONDS):
            request.settimeout(_BUSY_SECONDS)
            request.send(_BUSY)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Answer, then let another connection in."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Log what a client did wrong, or did not do in time; nobody else is touched by it."""
        log.debug("a connection from %s ended early", client_address, exc_info=True)
