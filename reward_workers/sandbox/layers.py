"""Layers of confinement: what was found of each, and what to do where it is missing."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from protocol.errors import SandboxUnavailable


@dataclass(frozen=True)
class Layer:
    """One thing that confinement rests on."""

    name: str
    ok: bool
    detail: str
    """What was found."""
    remedy: str
    """What to do if it is missing."""

    def sentence(self) -> str:
        """What is missing, and the remedy."""
        return f"sandbox layer {self.name!r} is missing: {self.detail}; {self.remedy}"


def check_layers() -> list[Layer]:
    """Every layer of this system, in the order in which a worker needs them; blocks for some 50 ms.

    The last one, a worker that tests itself, is not among them: it is the backend's.
    """
    if sys.platform == "darwin":
        from reward_workers.sandbox.macos.layers import check_all
    else:
        from reward_workers.sandbox.linux.layers import check_all
    return check_all()


def require(found: Iterable[Layer]) -> None:
    """Refuse the first layer that is missing.

    Raises:
        SandboxUnavailable: it names the layer and the remedy.
    """
    for layer in found:
        if not layer.ok:
            raise SandboxUnavailable(layer.sentence())


def self_test(fault: str) -> Layer:
    """The layer that a worker did not pass."""
    remedy = "compare the layers that mlx-doctor lists, and report this"
    return Layer("self-test", False, fault, remedy)
