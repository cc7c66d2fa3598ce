"""Peak memory of every role on this machine.

Predicted is the peak of a process's resident set, which is what metrics.jsonl reports as
`memory/<role>/peak_bytes`: interpreter and libraries, arrays, and the freed buffers that mlx's CPU
backend keeps. On Metal mlx keeps as many freed buffers as there is room for and gives them back
when it is short; there the prediction is libraries and arrays (mlx's own peak).
"""

from dataclasses import dataclass

from learner.plan.activations import pass_bytes
from learner.plan.kv_caches import largest_batch
from learner.plan.shape import ModelShape
from learner.plan.trained import DTYPE_BYTES, Trained, compute_dtype_bytes, trained_part
from learner.plan.work import Work, largest_microbatch
from protocol.config import RunConfig

MIB = 1 << 20
LEARNER_BASE = 100 * MIB
"""Interpreter and libraries, measured; so are those below."""
ACTOR_BASE = 98 * MIB
REWARD_WORKER_BASE = 60 * MIB
REWARD_CHILD = 50 * MIB
LAUNCHER_BASE = 42 * MIB
LAUNCHER_CHILD = 30 * MIB
FREED_BUFFERS = 32 * MIB
"""mlx's limit on the CPU; of small arrays fewer are freed at a time."""
FRAGMENTS = 10 * MIB
TOKENIZER_FACTOR = 12
"""A tokenizer in memory for each byte of its tokenizer.json."""
LOADING = 64 * MIB
"""Of the file's arrays, that stand beside what they are cast to."""
COPIED_LAYERS = 1.5
"""Caches that stand beside the batch's while completions join it, measured."""
COPIED_SHARE = 1.0
"""The same in a model of few layers."""
DECODE_LOGITS = 4
"""fp32 copies of a decode step's logits."""


@dataclass(frozen=True)
class RoleMemory:
    """One role's processes on this machine."""

    role: str
    count: int
    peak_bytes: int
    """Of each."""
    parts: dict[str, int]
    """The largest things that the peak is made of, in bytes, each by name."""

    @property
    def total_bytes(self) -> int:
        """Of all of them."""
        return self.count * self.peak_bytes


@dataclass(frozen=True)
class Memory:
    """All roles together."""

    roles: tuple[RoleMemory, ...]
    version_bytes: int

    @property
    def total_bytes(self) -> int:
        """Of all local processes, each at its peak."""
        return sum(role.total_bytes for role in self.roles)

    def of(self, role: str) -> RoleMemory:
        """One role's."""
        return next(found for found in self.roles if found.role == role)


def predict_memory(
    shape: ModelShape, config: RunConfig, work: Work, *, has_metal: bool, num_cores: int
) -> Memory:
    """Memory of all roles that mlx-train would start here."""
    trained = trained_part(shape, config, has_metal=has_metal)
    actors, workers = config.roles.actor, config.roles.reward_worker
    children = config.reward_worker.processes or min(2, num_cores)
    tokenizer = TOKENIZER_FACTOR * shape.tokenizer_bytes
    learner = learner_parts(shape, config, work, trained)
    learner |= _libraries(learner, LEARNER_BASE + tokenizer, has_metal=has_metal)
    actor = actor_parts(shape, config, work, trained, has_metal=has_metal)
    actor |= _libraries(actor, ACTOR_BASE + tokenizer, has_metal=has_metal)
    worker = {"libraries": REWARD_WORKER_BASE, f"{children} children": children * REWARD_CHILD}
    launcher = {"libraries": LAUNCHER_BASE + (1 + actors + workers) * LAUNCHER_CHILD}
    counted = (
        ("learner", 1, learner),
        ("actor", actors, actor),
        ("reward_worker", workers, worker),
        ("mlx-train", 1, launcher),
    )
    roles = tuple(
        RoleMemory(role, count, sum(parts.values()), parts) for role, count, parts in counted
    )
    return Memory(roles, trained.version_bytes)


def _libraries(arrays: dict[str, int], base: int, *, has_metal: bool) -> dict[str, int]:
    if has_metal:
        return {"libraries": base}
    freed = min(FREED_BUFFERS, sum(arrays.values()) // 2)
    return {"libraries": base + FRAGMENTS, "freed buffers": freed}


def learner_parts(
    shape: ModelShape, config: RunConfig, work: Work, trained: Trained
) -> dict[str, int]:
    """What the learner's arrays are at their peak: in the gradient pass or in the optimizer's step.

    A colocated actor decodes with the learner's own weights, in turn with both: its completions'
    caches stay meanwhile, and no version is fetched.
    An optimizer step makes new masters and moments beside the old ones, which stay until the step
    is known to be finite; so further steps on the same batch hold those before the first as well.
    """
    several = work.needs.optimizer_steps > 1
    before = 3 * trained.masters if several else 0
    layout = largest_microbatch(config, work)
    activations = pass_bytes(shape, layout, config.learner, trained.compute_bytes)
    earlier = 0 if layout.is_only else trained.masters  # gradients of microbatches before
    in_turn = {
        "gradient pass": before + earlier + max(activations, trained.masters),
        "optimizer step": before + optimizer_bytes(config, trained, several=several),
    }
    held = {"model": trained.model, "masters and moments": 3 * trained.masters}
    if work.needs.reference and config.learner.tuning == "full":
        held["reference"] = trained.model
    held["published versions"] = (config.learner.publish.retained + 1) * trained.version_bytes
    if config.learner.colocated_actor:
        held["KV cache"], in_turn["decoding"] = decoding_bytes(
            shape, config, work, trained.compute_bytes
        )
    largest = max(in_turn, key=lambda name: in_turn[name])
    return {**held, largest: in_turn[largest]}


def optimizer_bytes(config: RunConfig, trained: Trained, *, several: bool) -> int:
    """Gradients, clipped ones, new masters and moments; then the masters' rounding.

    Temporary arrays are as large as the largest tensors. After a batch's first step mlx writes new
    moments over old ones, which nothing else holds any more.
    """
    masters = trained.masters
    new = masters if several else 3 * masters
    temporary = 3 * 4 * trained.largest
    rounding = trained.count * DTYPE_BYTES[config.policy.weight_dtype] + trained.weights
    return masters + new + max(masters + temporary, rounding)


def actor_parts(
    shape: ModelShape, config: RunConfig, work: Work, trained: Trained, *, has_metal: bool
) -> dict[str, int]:
    """What an actor's arrays are at their peak: loading, decoding, or taking a new version."""
    cache, beside = decoding_bytes(
        shape, config, work, compute_dtype_bytes(config, has_metal=has_metal)
    )
    decode = cache + beside + trained.version_bytes
    switch = 2 * trained.version_bytes + trained.weights
    load = min(sum(tensor.num_bytes for tensor in shape.tensors), LOADING)
    largest = max(decode, switch, load)
    name = {decode: "KV cache and logits", switch: "a new version"}.get(largest, "loading")
    return {"model": trained.model, name: largest}


def decoding_bytes(
    shape: ModelShape, config: RunConfig, work: Work, compute_bytes: int
) -> tuple[int, int]:
    """Keys and values of the largest batch, and what stands beside them at the peak."""
    batch = largest_batch(shape, config, work, compute_bytes)
    logits = DECODE_LOGITS * batch.rows * shape.vocabulary * 4
    copied = int(batch.cache_bytes * min(COPIED_SHARE, COPIED_LAYERS / shape.num_layers))
    return batch.cache_bytes, max(logits, copied)
