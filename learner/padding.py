"""The lengths that rows are padded to. Loads no mlx: the plan counts with them too."""


def padded(length: int) -> int:
    """The length that a row of this many tokens is padded to: few occur, at most 1/8 is wasted."""
    step = max(8, 1 << max(length.bit_length() - 4, 0))
    return -(-length // step) * step
