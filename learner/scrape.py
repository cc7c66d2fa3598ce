"""What Prometheus asks the learner for: its own metrics, each peer's, and who the peers are.

A peer's metrics came with its heartbeats, so that Prometheus has to reach one machine only. A peer
that was lost is listed for a while and answered for with 503, so that it is seen to be down.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs
from wsgiref.types import StartResponse, WSGIEnvironment

from learner.exchange.view import PeerView, View
from protocol.metrics import Metrics, exposition, peer_metrics

PATHS = ("/metrics", "/sd", "/healthz")
RECENT_SECONDS = 60.0
"""Who scraped within so long before the end is waited for."""


class Scrape:
    """A WSGI application for PATHS.

    Args:
        metrics: the learner's.
        view: how things are.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        metrics: Metrics,
        view: Callable[[], View],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics = exposition(metrics)
        self._view = view
        self._clock = clock
        self._scrape = threading.Condition()
        self._scrape_began_at = float("-inf")  # of the last one that has ended

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        path = environ.get("PATH_INFO")
        if path == "/sd":
            return _say(start, "200 OK", json.dumps(self._targets(environ)), "application/json")
        if path == "/healthz":
            return _say(start, "200 OK", "ok\n")
        peer = parse_qs(environ.get("QUERY_STRING", "")).get("peer")
        if peer is not None:
            return self._peer(peer[0], environ, start)
        began_at = self._clock()
        answer = self._metrics(environ, start)
        with self._scrape:
            self._scrape_began_at = max(began_at, self._scrape_began_at)
            self._scrape.notify_all()
        return answer

    def wait_for_scrape(self, seconds: float) -> bool:
        """Wait until somebody who scrapes has seen the metrics as they are now.

        Args:
            seconds: at most so long, and not at all if nobody scraped lately.

        Returns:
            Whether they were scraped.
        """
        asked_at = self._clock()
        with self._scrape:
            if asked_at - self._scrape_began_at > RECENT_SECONDS:
                return False
            return self._scrape.wait_for(lambda: self._scrape_began_at >= asked_at, seconds)

    def _peer(self, name: str, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        view = self._view()
        peer = view.peers.get(name)
        if peer is None or peer.lost_at is not None:
            known = "it was lost" if peer else "no such peer is registered"
            return _say(start, "503 Service Unavailable", f"{known}\n")
        metrics = peer_metrics(
            peer.role,
            policy_version=peer.policy_version,
            capacity=peer.capacity,
            figures=peer.figures,
            heartbeat_age_seconds=max(view.taken_at - peer.heard_at, 0.0),
        )
        return exposition(metrics)(environ, start)

    def _targets(self, environ: WSGIEnvironment) -> list[dict[str, Any]]:
        """One target a peer, at the address by which this learner was asked."""
        host = environ.get("HTTP_HOST") or "{SERVER_NAME}:{SERVER_PORT}".format(**environ)
        return [_target(host, peer) for peer in self._view().peers.values()]


def _target(host: str, peer: PeerView) -> dict[str, Any]:
    labels = {
        "__param_peer": peer.name,
        "instance": peer.name,
        "role": peer.role,
        "host": peer.host,
    }
    return {"targets": [host], "labels": labels}


def _say(
    start: StartResponse, status: str, text: str, kind: str = "text/plain; charset=utf-8"
) -> Iterable[bytes]:
    start(status, [("Content-Type", kind), ("Cache-Control", "no-store")])
    return [text.encode()]
