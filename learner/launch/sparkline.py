"""A curve as one line of text."""

from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.-=+*%#"


def sparkline(values: Sequence[float | None], *, is_unicode: bool = True) -> str:
    """One character for each value, from the lowest to the highest; a blank where there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    ramp = _BLOCKS if is_unicode else _ASCII
    lowest, span = min(known), max(known) - min(known)
    return "".join(" " if v is None else _step(v - lowest, span, ramp) for v in values)


def _step(above: float, span: float, ramp: str) -> str:
    if not 0.0 < span < float("inf"):  # a flat line, or one whose span overflows
        return ramp[len(ramp) // 2]
    return ramp[min(int(above / span * len(ramp)), len(ramp) - 1)]
