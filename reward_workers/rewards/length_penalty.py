"""A soft punishment of completions that come near the length limit."""

from typing import Annotated

from pydantic import Field

from protocol.errors import ConfigError
from reward_workers.registry import checked_by, reward


def _check(max_tokens: int, buffer: int) -> None:
    if buffer > max_tokens:
        raise ConfigError(f"buffer {buffer} is above max_tokens {max_tokens}")


@reward("length_penalty")
@checked_by(_check)
def length_penalty(
    completion_tokens: list[int],
    *,
    max_tokens: Annotated[int, Field(gt=0)],
    buffer: Annotated[int, Field(gt=0)],
) -> list[float]:
    """DAPO's soft overlong punishment, from 0 down to -1.

        tokens <= max_tokens - buffer:   0
        tokens <= max_tokens:            (max_tokens - buffer - tokens) / buffer
        beyond:                          -1

    Args:
        completion_tokens: length of each completion in tokens, the end token included.
        max_tokens: length from which the punishment is full.
        buffer: tokens below max_tokens over which it grows; at most max_tokens.

    Source:
        DAPO, arXiv 2503.14476, equation 13 (max_tokens = L_max, buffer = L_cache).
    """
    return [_penalty(tokens, max_tokens, buffer) for tokens in completion_tokens]


def _penalty(tokens: int, max_tokens: int, buffer: int) -> float:
    if tokens <= max_tokens - buffer:
        return 0.0
    return max((max_tokens - buffer - tokens) / buffer, -1.0)
