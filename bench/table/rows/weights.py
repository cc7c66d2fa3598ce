"""Moving weights: as fast as the wire, and less of them."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from bench.table.row import Better, Row, WorstOf

if TYPE_CHECKING:
    from bench.table.delta_steps import DeltaSteps
    from bench.table.weights_wire import WeightsWire

RECEIVERS = (1, 4, 8)


class Receivers(Row):
    """Seconds until the last of some receivers has a whole version."""

    unit = "seconds"
    better: Better = "lower"

    def __init__(self, receivers: int) -> None:
        self.name = f"{receivers} receivers"
        self._receivers = receivers
        self._wire: WeightsWire | None = None

    def prepare(self) -> None:
        """Start everybody, move the bytes once each way."""
        from bench.table.weights_wire import SMOLLM2_BYTES, WeightsWire

        self._wire = WeightsWire(self._receivers, SMOLLM2_BYTES)
        self.ours()
        self.rival()

    def ours(self) -> float:
        """By the learner's exchange and the actor's fetch."""
        assert self._wire is not None
        return self._wire.chunks_seconds()

    def rival(self) -> float:
        """By TCP alone."""
        assert self._wire is not None
        return self._wire.tcp_seconds()

    def close(self) -> None:
        """End the receivers."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None


class ChunksAgainstTcp(WorstOf):
    """What chunks, credit and digests cost."""

    name = "weights/chunks_vs_tcp"
    unit = "seconds"
    better: Better = "lower"
    rival_name = "raw TCP"
    reach = 0.8
    blas_threads = 1
    note = (
        "269 MB over loopback to each receiver, a process; ours: exchange thread, chunks of 4 MiB, "
        "credit 4, with the xxh3-128 digest; TCP: a sendall thread and recv_into for each, without "
        "a digest; both into fresh memory"
    )

    def cases(self) -> list[tuple[str, Row]]:
        """Few and many receivers."""
        return [(f"{receivers} receivers", Receivers(receivers)) for receivers in RECEIVERS]

    def profile(self) -> str:
        """The parts of the way to one receiver."""
        from bench.table.wire_profile import profile

        return profile()


class DeltaBytes(Row):
    """Bytes of a version as a delta and whole, for training steps in a row."""

    unit = "bytes"
    better: Better = "lower"
    rival_name = "full weights, bfloat16"

    def __init__(self, learning_rate: float, reach: float) -> None:
        exponent = f"{learning_rate:.0e}".replace("e-0", "e-")
        self.name, self.reach = f"weights/delta_lr{exponent}", reach
        self._learning_rate = learning_rate
        self._steps: DeltaSteps | None = None

    def prepare(self) -> None:
        """Load SmolLM2; the first step is not counted: in it Adam moves every weight fully."""
        from bench.table.delta_steps import DeltaSteps

        self._steps = DeltaSteps(self._learning_rate)
        self._steps.take()

    def ours(self) -> float:
        """Train a step, encode, and see that the receiver gets the same bits."""
        assert self._steps is not None
        self._steps.take()
        taken = self._steps.taken[1:]
        mean = statistics.mean(step.full_bytes / step.delta_bytes for step in taken)
        self.note = (
            f"SmolLM2-135M, full tuning, GRPO on 8 sampled completions of 48 tokens, AdamW at a "
            f"constant learning rate of {self._learning_rate:g}, steps 2 to {len(taken) + 1} in a "
            f"row; mean ratio {mean:.1f}, weights changed in a step "
            f"{min(s.changed for s in taken):.2%} to {max(s.changed for s in taken):.2%}, gradient "
            f"norms {min(s.grad_norm for s in taken):.2g} to "
            f"{max(s.grad_norm for s in taken):.2g}, encoded in "
            f"{statistics.median(s.encode_seconds for s in taken):.2f} s and applied in "
            f"{statistics.median(s.apply_seconds for s in taken):.2f} s, bit-equal each time"
        )
        return taken[-1].delta_bytes

    def rival(self) -> float:
        """The same version, whole."""
        assert self._steps is not None
        return self._steps.taken[-1].full_bytes


ROWS = [ChunksAgainstTcp(), DeltaBytes(1e-6, 50.0), DeltaBytes(1e-5, 20.0)]
