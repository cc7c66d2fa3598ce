"""Where on this machine a run's learner is reached."""

from protocol.config import NetworkSection
from protocol.process import this_host

WILDCARDS = ("", "*", "0.0.0.0", "::")  # noqa: S104 - recognised, not bound


def learner_address(network: NetworkSection) -> str:
    """What peers on this machine dial."""
    host = "127.0.0.1" if network.bind in WILDCARDS else network.bind
    return f"tcp://{_bracketed(host)}:{network.port}"


def run_page_address(network: NetworkSection) -> str:
    """What a browser opens, also on another machine where that can reach it; empty for none."""
    if not network.http_port:
        return ""
    host = this_host() if network.bind in WILDCARDS else network.bind
    return f"http://{_bracketed(host)}:{network.http_port}/"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
