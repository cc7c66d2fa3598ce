import sys

import pytest

from protocol.errors import SandboxUnavailable
from reward_workers.sandbox.layers import Layer
from reward_workers.sandbox.linux import layers
from reward_workers.sandbox.select import choose_backend

if sys.platform != "linux":
    pytest.skip("Linux only", allow_module_level=True)

MISSING = Layer("namespaces", False, "refused", "allow them")


@pytest.mark.parametrize(
    ("start", "name"), [("auto", "linux-fork"), ("fork", "linux-fork"), ("fresh", "linux-fresh")]
)
def test_a_whole_machine_gets_a_whole_sandbox_even_if_less_is_allowed(start, name):
    for allowed in ((), ("namespaces",)):
        backend = choose_backend(start=start, allow_degraded=allowed, packages=None)
        assert (backend.name, backend.degraded) == (name, ())


def test_a_machine_without_namespaces_degrades_only_where_it_may(monkeypatch):
    monkeypatch.setattr(layers, "namespaces", lambda: MISSING)
    refused = choose_backend(start="auto", allow_degraded=(), packages=None)
    assert refused.degraded == ()  # its start says what is missing
    degraded = choose_backend(start="auto", allow_degraded=["namespaces"], packages=None)
    assert (degraded.name, degraded.degraded) == ("linux-direct", ("namespaces",))
    with pytest.raises(SandboxUnavailable, match="'namespaces' is missing"):
        choose_backend(start="fork", allow_degraded=["namespaces"], packages=None)


async def test_without_namespaces_the_start_is_refused(monkeypatch):
    monkeypatch.setattr(layers, "namespaces", lambda: MISSING)
    backend = choose_backend(start="auto", allow_degraded=(), packages=None)
    with pytest.raises(SandboxUnavailable, match="'namespaces' is missing: refused; allow them"):
        await backend.start()


def test_a_degradation_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"\['seccomp'\], known are \['namespaces'\]"):
        choose_backend(start="auto", allow_degraded=["seccomp"], packages=None)


def test_an_unknown_system_has_no_sandbox(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SandboxUnavailable, match="not win32"):
        choose_backend(start="auto", allow_degraded=(), packages=None)
