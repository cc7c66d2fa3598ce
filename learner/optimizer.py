"""Gradients -> new parameters: schedule, clipping, AdamW, and a state that can be saved.

Trees are MLX's: nested dicts and lists of arrays, as `model.trainable_parameters()` returns them.
"""

import math
from typing import Any

import mlx.core as mx
from mlx.optimizers import Adam, AdamW, Optimizer
from mlx.utils import tree_flatten, tree_map, tree_map_with_path

from protocol.config_learner import OptimizerSection
from protocol.errors import CheckpointError

Tree = Any
"""Nested dicts and lists with mx.array leaves."""


class MatrixDecayAdamW(AdamW):
    """AdamW whose weight decay spares vectors: a norm's scale is not meant to be near 0."""

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: Tree) -> mx.array:
        """Steps one array."""
        if parameter.ndim < 2:
            return Adam.apply_single(self, gradient, parameter, state)
        return super().apply_single(gradient, parameter, state)


def make_optimizer(section: OptimizerSection, parameters: Tree) -> Optimizer:
    """AdamW over fp32 masters, its state set up for `parameters`.

        m = b1 m + (1 - b1) g        v = b2 v + (1 - b2) g^2
        p = p (1 - lr weight_decay) - lr m' / (sqrt(v') + eps)
        m' = m / (1 - b1^t)          v' = v / (1 - b2^t)

    Args:
        section: the config.
        parameters: everything that is trained; moments take each array's dtype.

    Source:
        arXiv 1711.05101, algorithm 2. MLX leaves out the bias correction by default, which makes
        the first steps about three times too long: it is on here. Arrays of one dimension are not
        decayed.
    """
    optimizer = MatrixDecayAdamW(
        learning_rate=section.learning_rate,
        betas=list(section.betas),
        eps=section.eps,
        weight_decay=section.weight_decay,
        bias_correction=True,
    )
    optimizer.init(parameters)
    mx.eval(optimizer.state)
    return optimizer


def learning_rate_at(step: int, section: OptimizerSection, max_steps: int) -> float:
    """Learning rate of a training step.

        warm-up, step < W:  peak (step + 1) / (W + 1)
        then, with x = (step - W) / (max_steps - W):
            constant: peak      linear: peak (1 - x)      cosine: peak (1 + cos(pi x)) / 2

    Args:
        step: from 0, the run's first; a pure function of it, so that a resumed run goes on alike.
        section: the config; W is its warmup_steps.
        max_steps: where linear and cosine reach 0; the last step trained, max_steps - 1, is above.
    """
    warmup = section.warmup_steps
    if step < warmup:
        return section.learning_rate * (step + 1) / (warmup + 1)
    done = min((step - warmup) / max(max_steps - warmup, 1), 1.0)
    if section.schedule == "linear":
        return section.learning_rate * (1.0 - done)
    if section.schedule == "cosine":
        return section.learning_rate * (1.0 + math.cos(math.pi * done)) / 2.0
    return section.learning_rate


def clip_gradients(gradients: Tree, max_grad_norm: float) -> tuple[Tree, mx.array]:
    """Gradients scaled down to a global norm, and their norm before.

        norm = sqrt(sum over all arrays of g^2)        g min(1, max_grad_norm / norm)

    Returns:
        The gradients, bit for bit the same if the norm is within the bound, and the norm: a scalar
        summed in fp32, not finite if any gradient is not.

    Source:
        arXiv 1211.5063, algorithm 1.
    """
    squares = [mx.square(g.astype(mx.float32)).sum() for g in _named_arrays(gradients).values()]
    norm = mx.sqrt(mx.stack(squares).sum())
    scale = mx.minimum(max_grad_norm / norm, 1.0)
    return tree_map(lambda g: (g * scale).astype(g.dtype), gradients), norm


def apply_gradients(
    optimizer: Optimizer,
    parameters: Tree,
    gradients: Tree,
    *,
    learning_rate: float,
    max_grad_norm: float,
) -> tuple[Tree, float]:
    """Takes one optimizer step, unless the gradient is not finite.

    Args:
        optimizer: its state moves on in place.
        parameters: what is trained, such as `model.trainable_parameters()`.
        gradients: of the same structure.
        learning_rate: of this step.
        max_grad_norm: bound on the gradients' global norm.

    Returns:
        New parameters and the norm before clipping, evaluated. If the norm is not finite, nothing
        was done: the parameters are the ones given and the optimizer's state is unchanged; the
        caller skips the step.
    """
    clipped, norm = clip_gradients(gradients, max_grad_norm)
    grad_norm = float(norm)
    if not math.isfinite(grad_norm):
        return parameters, grad_norm
    optimizer.learning_rate = learning_rate
    parameters = optimizer.apply_gradients(clipped, parameters)
    mx.eval(parameters, optimizer.state)
    return parameters, grad_norm


def optimizer_state(optimizer: Optimizer) -> dict[str, mx.array]:
    """Optimizer's whole state by name: step, learning_rate, <parameter>.m, <parameter>.v."""
    return _named_arrays(optimizer.state)


def restore_optimizer(optimizer: Optimizer, state: dict[str, mx.array]) -> None:
    """Puts back what `optimizer_state` returned; further steps are then the same bits.

    Args:
        optimizer: fresh from `make_optimizer`, for the same parameters.
        state: by name.

    Raises:
        CheckpointError: the state is of other parameters; the optimizer is unchanged.
    """
    wanted = {name: (a.shape, a.dtype) for name, a in optimizer_state(optimizer).items()}
    found = {name: (a.shape, a.dtype) for name, a in state.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise CheckpointError(
                f"optimizer state {name!r}: found {_describe(found.get(name))}, wanted "
                f"{_describe(wanted.get(name))}; resume with the model and tuning that saved it"
            )
    # into the tree that is there: names with dots may be paths, or the keys of a flat dict
    optimizer.state = tree_map_with_path(lambda name, _: state[name], optimizer.state)


def _named_arrays(tree: Tree) -> dict[str, mx.array]:
    return dict(tree_flatten(tree))


def _describe(array: tuple[Any, mx.Dtype] | None) -> str:
    return "nothing" if array is None else f"{list(array[0])} {array[1]}"
