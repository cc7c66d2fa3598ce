"""The learner's HTTP port: Prometheus and its service discovery, and the run page."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from learner.exchange.view import PeerView, View
from learner.run_page.app import run_page
from learner.scrape import PATHS, Scrape
from protocol.config import RunConfig
from protocol.http_server import HttpServer
from protocol.metric_labels import STATES
from protocol.metrics import Metrics

LAST_SCRAPE_SECONDS = 3.5
"""Who scrapes is given so long to see the end. Less than the 5 s after which mlx-train would start
actors again that left at the goodbye."""
HURRIED_SECONDS = 0.5
"""The same when told to end, which is to be done within 3 s."""


class Serving:
    """Serves one run until it is closed.

    Args:
        config: the run.
        run_dir: its folder, which the page reads.
        metrics: the learner's.

    Raises:
        ConfigError: the port is taken or the address is not one of this host's.
    """

    def __init__(self, config: RunConfig, run_dir: Path, metrics: Metrics) -> None:
        self._metrics = metrics
        self.view: Callable[[], View] = View
        """How things are; the exchange's, once there is one."""
        self._scrape = Scrape(metrics, lambda: self.view())
        self._page = run_page(run_dir, self._live)
        network = config.network
        self._server = HttpServer(network.bind, network.http_port, self._answer)
        self.port = self._server.port

    def close(self, *, is_over: bool = False, hurry: bool = False) -> None:
        """Stop serving.

        Args:
            is_over: the run has ended as it was meant to: whoever scrapes is to see its end.
            hurry: do not wait for that as long.
        """
        if is_over:
            self._metrics.set("mlxrl_run_active", 0)
            self._scrape.wait_for_scrape(HURRIED_SECONDS if hurry else LAST_SCRAPE_SECONDS)
        self._server.close()

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        app = self._scrape if environ.get("PATH_INFO") in PATHS else self._page
        return app(environ, start)

    def _live(self) -> Mapping[str, Any]:
        view = self.view()
        return {
            "policy_version": self._metrics.value("mlxrl_policy_version"),
            "groups": {state: view.counts.get(state, 0) for state in STATES},
            "peers": [_peer(peer, view) for peer in view.peers.values()],
        }


def _peer(peer: PeerView, view: View) -> dict[str, Any]:
    return {
        "name": peer.name,
        "role": peer.role,
        "host": peer.host,
        "state": peer.state,
        "policy_version": peer.policy_version,
        "heard_seconds_ago": max(view.taken_at - peer.heard_at, 0.0),
        "is_connected": peer.lost_at is None,
        "figures": dict(peer.figures),
    }
