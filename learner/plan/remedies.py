"""Which setting would make a run fit, the cheapest first; or which ones, where none does alone."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from learner.plan.colocated import colocate
from learner.plan.shape import ModelShape
from protocol.config import RunConfig

QUANTISED_SHARE = 4.5 / 16
"""Of bf16's bytes: four bits a weight, and a scale and a bias for every 64."""
ASIDE_TOKENS = 256
"""Below this a microbatch or a chunk of logits is too small to be worth it."""

FOUR_BITS = "model.path to a 4-bit copy of the model (mlx_lm.convert -q)"


class Change(NamedTuple):
    """Another config for the same run."""

    setting: str
    """As `--set` takes it, or in words."""
    config: RunConfig
    shape: ModelShape


def cheapest_change(
    shape: ModelShape, config: RunConfig, total_bytes: Callable[[Change], int], limit: int
) -> Change | None:
    """The first single change under which all roles fit, else the first of several at once."""
    for change in changes(shape, config):
        if total_bytes(change) <= limit:
            return change
    return next((c for c in joint_changes(shape, config) if total_bytes(c) <= limit), None)


def changes(shape: ModelShape, config: RunConfig) -> Iterator[Change]:
    """Single changes, by what they cost: nothing much, time, throughput, what can be learned."""
    learner, generation = config.learner, config.generation
    for tokens in _halves(learner.logits_chunk_tokens, 32):
        yield _set(shape, config, "learner.logits_chunk_tokens", tokens)
    for tokens in _halves(learner.microbatch_tokens, ASIDE_TOKENS):
        yield _set(shape, config, "learner.microbatch_tokens", tokens)
    for rows in _halves(generation.max_sequences, generation.group_size):
        yield _set(shape, config, "generation.max_sequences", rows)
    if not learner.grad_checkpoint:
        yield _set(shape, config, "learner.grad_checkpoint", True)
    for actors in range(config.roles.actor - 1, 0, -1):
        yield _set(shape, config, "roles.actor", actors)
    if way := colocate(config):
        yield Change(way.setting.replace(", ", " and "), way.config, shape)
    if learner.tuning == "full":
        yield _set(shape, config, "learner.tuning", "lora")
    elif not shape.quantised_group:
        yield Change(FOUR_BITS, config, _quantised(shape))
    for tokens in _halves(generation.max_completion_tokens, ASIDE_TOKENS):
        yield _set(shape, config, "generation.max_completion_tokens", tokens)


def joint_changes(shape: ModelShape, config: RunConfig) -> Iterator[Change]:
    """Several settings at once: those that save most, and a single change besides."""
    as_it_is = Change("", config, shape)
    checkpoint = _also(as_it_is, "learner.grad_checkpoint", True)
    lora = _also(as_it_is, "learner.tuning", "lora")
    both = _also(lora, "learner.grad_checkpoint", True)
    small = Change(" and ".join(filter(None, (both.setting, FOUR_BITS))), both.config, shape)
    for first in (checkpoint, lora, both, small._replace(shape=_quantised(shape))):
        for second in changes(first.shape, first.config):
            yield second._replace(setting=" and ".join(filter(None, (first[0], second[0]))))


def _also(change: Change, path: str, value: object) -> Change:
    """A change more, unless the config has that value already."""
    found = _set(change.shape, change.config, path, value)
    if found.config == change.config:
        return change
    return found._replace(setting=" and ".join(filter(None, (change.setting, found.setting))))


def _halves(value: int, lowest: int) -> Iterator[int]:
    while value // 2 >= lowest:
        value //= 2
        yield value


def _set(shape: ModelShape, config: RunConfig, path: str, value: object) -> Change:
    said = str(value).lower() if isinstance(value, bool) else str(value)
    return Change(f"{path}={said}", _changed(config, path, value), shape)


def _changed(config: RunConfig, path: str, value: object) -> RunConfig:
    section, key = path.split(".")
    changed = getattr(config, section).model_copy(update={key: value})
    return config.model_copy(update={section: changed})


def _quantised(shape: ModelShape) -> ModelShape:
    """The shape with its matrices in four bits; they then no longer take the compute dtype."""
    tensors = tuple(
        tensor
        if len(tensor.shape) < 2
        else tensor.__class__(
            tensor.name, "U32", tensor.shape, int(tensor.size * 2 * QUANTISED_SHARE)
        )
        for tensor in shape.tensors
    )
    return ModelShape(**{**vars(shape), "tensors": tensors, "quantised_group": 64})
