"""What of a model is trained, and what a published version weighs."""

from dataclasses import dataclass

from learner.plan.shape import ModelShape
from protocol.config import RunConfig

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Trained:
    """Sizes of a model under some tuning; counts are of numbers."""

    compute_bytes: int
    """Of a number in the compute dtype."""
    frozen_bytes: int
    """All that is not trained, as it stands in memory."""
    count: int
    largest: int
    """Of the largest trained tensor."""
    version_bytes: int
    """One published version."""

    @property
    def weights(self) -> int:
        """Bytes of what is trained, in the compute dtype."""
        return self.count * self.compute_bytes

    @property
    def masters(self) -> int:
        """Bytes of what is trained in fp32; each of the two moments has as many."""
        return self.count * 4

    @property
    def model(self) -> int:
        """Bytes of the whole model in the compute dtype."""
        return self.frozen_bytes + self.weights


def trained_part(shape: ModelShape, config: RunConfig, *, has_metal: bool) -> Trained:
    """What the config's tuning trains of a model.

    Full tuning trains every tensor; LoRA two matrices of (inputs + outputs) rank numbers for each
    linear map in the last `learner.lora.layers` layers.
    """
    compute_bytes = compute_dtype_bytes(config, has_metal=has_metal)
    every = shape.held_bytes(compute_bytes)
    if config.learner.tuning == "full":
        sizes, frozen = [tensor.size for tensor in shape.tensors], 0
    else:
        lora = config.learner.lora
        first = 0 if lora.layers == -1 else shape.num_layers - lora.layers
        maps = [m for m in shape.matrices() if m[0] >= first]
        sizes, frozen = [lora.rank * (inputs + outputs) for _, inputs, outputs in maps], every
    return Trained(
        compute_bytes=compute_bytes,
        frozen_bytes=frozen,
        count=sum(sizes),
        largest=max(sizes, default=0),
        version_bytes=sum(sizes) * DTYPE_BYTES[config.policy.weight_dtype],
    )


def compute_dtype_bytes(config: RunConfig, *, has_metal: bool) -> int:
    """Bytes of a number in the compute dtype; `auto` as protocol/policy.py resolves it."""
    dtype = config.policy.compute_dtype
    if dtype == "auto":
        dtype = "bfloat16" if has_metal else "float32"
    return DTYPE_BYTES[dtype]
