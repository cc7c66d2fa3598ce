"""Memory of one forward and backward pass, in bytes above what is held before it.

Numbers that a layer keeps for the gradient, for N tokens in all, D hidden, Q = heads x head size,
K = kv heads x head size, F the MLP's size, A = heads x (query, key) pairs:

    full tuning:  N (6 D + 2 Q + 2 K + 5 F) + A
    LoRA:         N (4 D + 2 Q + 2 K + 5 F) + A
    shared prompts: and 2 K for each key that a completion attends to

6 D are the two residual streams, and of both norms what they scale and what they give; LoRA does
not train the norms. 5 F are gate, its sigmoid, their product, up, and the product of both; A are
the softmax's probabilities, which no attention kernel avoids while a gradient is wanted.

The rest was measured on mlx 0.32's CPU backend, on llamas of 2 to 30 layers (bench/plan_error.py
compares it with runs): one layer's gradients, the copies of a chunk of logits, and how much of
several layers stands at once under gradient checkpointing.
"""

from learner.plan.shape import ModelShape
from learner.plan.work import Layout
from protocol.config_learner import LearnerSection

_LOGITS_BYTES = 4
"""fp32."""
LOGITS_COPIES = (4.0, 8.0, 9.5, 11.0)
"""Of a chunk of logits, where there are so many chunks, or more: mlx makes room for what comes next
before the last has gone."""
CHECKPOINT_INPUTS = 3.0
"""Hidden states that each recomputed layer keeps."""
CHECKPOINT_LAYERS = 2.25
"""Layers that stand recomputed at once, in a model that has that many."""


def pass_bytes(
    shape: ModelShape, layout: Layout, section: LearnerSection, compute_bytes: int
) -> int:
    """Peak of one microbatch's forward and backward pass, without weights' gradients.

    Args:
        shape: the model's.
        layout: the microbatch's.
        section: the config.
        compute_bytes: of a number in the compute dtype.
    """
    layer = kept_numbers(shape, layout, lora=section.tuning == "lora")
    once = _transient_numbers(shape, layout) * compute_bytes
    head = head_bytes(shape, layout, section)
    if not section.grad_checkpoint:
        return int(shape.num_layers * layer * compute_bytes + max(once, head))
    inputs = CHECKPOINT_INPUTS * shape.num_layers * layout.tokens * shape.hidden_size
    standing = 1 + (CHECKPOINT_LAYERS - 1) * min(1.0, (shape.num_layers - 1) / 5)
    return int(inputs * compute_bytes + max(standing * layer * compute_bytes + once, head))


def kept_numbers(shape: ModelShape, layout: Layout, *, lora: bool) -> int:
    """Numbers that one layer keeps for the gradient."""
    wide = 4 if lora else 6
    each = (
        wide * shape.hidden_size
        + 2 * shape.query_size
        + 2 * shape.kv_size
        + 5 * shape.intermediate_size
    )
    joined = 0
    if layout.prompts:
        joined = layout.rows * (layout.prompt_tokens + layout.row_tokens) * 2 * shape.kv_size
    return layout.tokens * each + shape.num_heads * layout.pairs + joined


def head_bytes(shape: ModelShape, layout: Layout, section: LearnerSection) -> int:
    """Logits of one chunk of tokens, and the gradients of embedding and head where trained."""
    targets = layout.rows * layout.completion_tokens
    chunk = min(section.logits_chunk_tokens, targets)
    chunks = -(-targets // section.logits_chunk_tokens)
    copies = LOGITS_COPIES[min(chunks, len(LOGITS_COPIES)) - 1]
    found = copies * chunk * shape.vocabulary * _LOGITS_BYTES
    if section.tuning == "full":
        outside = sum(t.size for t in shape.tensors if t.layer is None)
        found += min(1.0 + 0.3 * (chunks - 1), 2.8) * outside * _LOGITS_BYTES
    return int(found)


def _transient_numbers(shape: ModelShape, layout: Layout) -> float:
    """One layer's gradients on their way back."""
    each = (
        10.5 * shape.hidden_size
        + 4 * shape.query_size
        + 4 * shape.kv_size
        + 3 * shape.intermediate_size
    )
    return layout.tokens * each + 2.4 * shape.num_heads * layout.pairs
