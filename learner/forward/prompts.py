"""One forward pass over a prompt for all of its completions.

The prompts go through the model first, without their last token, and each layer's keys and values
are recorded. The completions then go through it, with the prompt's last token in front, and attend
to the recorded ones of their own prompt. Both passes are one graph, so gradients reach the prompt's
keys and values as if every completion had computed them itself.

Both classes stand in for mlx-lm's KV caches, whose calling convention all its models follow.
"""

from dataclasses import dataclass

import mlx.core as mx
from mlx_lm.models.base import create_causal_mask


@dataclass(frozen=True)
class SharedPrompts:
    """The distinct prompts of a microbatch, without their last tokens."""

    tokens_NP: mx.array
    """[N, P] padded on the right."""
    lengths_N: tuple[int, ...]
    prompt_of_B: tuple[int, ...]
    """Row of `tokens_NP` that each completion belongs to."""

    @property
    def of_one_length(self) -> bool:
        """Whether no prompt is padded."""
        return set(self.lengths_N) == {self.tokens_NP.shape[1]}

    @property
    def repeats(self) -> int:
        """Completions of each prompt if all have as many, in the prompts' order; else 0."""
        each = len(self.prompt_of_B) // len(self.lengths_N)
        regular = tuple(n for n in range(len(self.lengths_N)) for _ in range(each))
        return each if regular == self.prompt_of_B else 0


class PromptRecorder:
    """Records one layer's keys and values over the prompts."""

    def __init__(self) -> None:
        self.offset = 0
        self.keys_NHPK: mx.array | None = None
        self.values_NHPK: mx.array | None = None

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Keep them, and attend to them alone."""
        self.keys_NHPK, self.values_NHPK = keys, values
        return keys, values

    def make_mask(
        self, num_tokens: int, return_array: bool = False, window_size: int | None = None
    ) -> mx.array | str | None:
        """Causal; padding on the right is seen by padding alone."""
        if return_array or (window_size and num_tokens > window_size):
            return create_causal_mask(num_tokens, window_size=window_size)
        return "causal" if num_tokens > 1 else None


class PromptReader:
    """Lets one layer's completions attend to their prompts.

    Args:
        keys_NHPK: of the prompts.
        values_NHPK: of the prompts.
        prompts: which prompt each completion has.
    """

    def __init__(self, keys_NHPK: mx.array, values_NHPK: mx.array, prompts: SharedPrompts) -> None:
        self.keys_NHPK = keys_NHPK
        self.values_NHPK = values_NHPK
        self.prompts = prompts
        self.offset: int | mx.array = prompts.lengths_N[0]
        if not prompts.of_one_length:
            self.offset = mx.array([prompts.lengths_N[n] for n in prompts.prompt_of_B])

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """The prompt's in front of the completion's."""
        return (
            mx.concatenate([_each_row(self.keys_NHPK, self.prompts), keys], axis=2),
            mx.concatenate([_each_row(self.values_NHPK, self.prompts), values], axis=2),
        )

    def make_mask(
        self, num_tokens: int, return_array: bool = False, window_size: int | None = None
    ) -> mx.array | str:
        """Causal over the tokens' true positions; the padding of shorter prompts is left out."""
        width = self.prompts.tokens_NP.shape[1]
        if isinstance(self.offset, int):
            if return_array or (window_size and width + num_tokens > window_size):
                return create_causal_mask(num_tokens, offset=width, window_size=window_size)
            return "causal"
        lengths_B1 = self.offset[:, None]
        columns_P, own_T = mx.arange(width)[None], mx.arange(num_tokens)[None]
        is_prompt_BP = columns_P < lengths_B1
        seen_BTP = mx.broadcast_to(is_prompt_BP[:, None], (lengths_B1.shape[0], num_tokens, width))
        seen_TT = own_T <= own_T.T
        if window_size:
            rows_BT1 = (lengths_B1 + own_T)[..., None]
            seen_BTP = seen_BTP & (rows_BT1 - columns_P[:, None] < window_size)
            seen_TT = seen_TT & (own_T.T - own_T < window_size)
        seen_BTT = mx.broadcast_to(seen_TT[None], (lengths_B1.shape[0], *seen_TT.shape))
        return mx.concatenate([seen_BTP, seen_BTT], axis=2)[:, None]


def _each_row(prompt_NHPK: mx.array, prompts: SharedPrompts) -> mx.array:
    """[N, ...] -> [B, ...]; the gradient of a repetition is a sum, cheaper than a scatter."""
    if prompts.repeats:
        return mx.repeat(prompt_NHPK, prompts.repeats, axis=0)
    return prompt_NHPK[mx.array(prompts.prompt_of_B)]
