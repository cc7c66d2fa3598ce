"""The reward curve as a small SVG file, readable on light and dark pages."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

Points = Sequence[tuple[int, float]]

WIDTH, HEIGHT = 720, 280
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 28, 40
MAX_POINTS = 400
"""Of the line; of a longer curve, so many means of neighbours are drawn."""

_LINE = "#3b82c4"
_INK = "#808890"


def curve_svg(points: Points, title: str, exported: int) -> str:
    """Draw a curve over steps.

    Args:
        points: (step, value), steps rising; at least one.
        title: drawn above it.
        exported: the step that is marked.

    Returns:
        The file's text.
    """
    drawn = thinned(points, MAX_POINTS)
    steps, values = [step for step, _ in points], [value for _, value in drawn]
    x_range = _widened(min(*steps, exported), max(*steps, exported))
    y_range = _widened(min(values), max(values))

    def place(step: float, value: float) -> tuple[float, float]:
        x = LEFT + (step - x_range[0]) / (x_range[1] - x_range[0]) * (WIDTH - LEFT - RIGHT)
        y = (
            HEIGHT
            - BOTTOM
            - (value - y_range[0]) / (y_range[1] - y_range[0]) * (HEIGHT - TOP - BOTTOM)
        )
        return round(x, 1), round(y, 1)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12" fill="{_INK}">',
        f"<title>{_escaped(title)}</title>",
        f'<text x="{LEFT}" y="16">{_escaped(title)}</text>',
        *_axes(x_range, y_range),
        *_mark(place(exported, y_range[0]), exported),
        _line([place(step, value) for step, value in drawn]),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def thinned(points: Points, most: int) -> list[tuple[float, float]]:
    """Means of neighbours, so many at most."""
    edges = [round(index * len(points) / most) for index in range(most + 1)]
    if len(points) <= most:
        return list(points)
    parts = [points[start:end] for start, end in pairwise(edges)]
    return [
        (sum(step for step, _ in part) / len(part), sum(value for _, value in part) / len(part))
        for part in parts
    ]


def _widened(low: float, high: float) -> tuple[float, float]:
    """A range that is no single point."""
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _axes(x_range: tuple[float, float], y_range: tuple[float, float]) -> Iterator[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    path = f"M{LEFT} {TOP}V{bottom}H{right}"
    yield f'<path d="{path}" fill="none" stroke="{_INK}"/>'
    yield f'<text x="{LEFT - 6}" y="{TOP + 8}" text-anchor="end">{y_range[1]:.3g}</text>'
    yield f'<text x="{LEFT - 6}" y="{bottom}" text-anchor="end">{y_range[0]:.3g}</text>'
    yield f'<text x="{LEFT}" y="{bottom + 16}">{x_range[0]:g}</text>'
    yield f'<text x="{right}" y="{bottom + 16}" text-anchor="end">step {x_range[1]:g}</text>'


def _mark(foot: tuple[float, float], exported: int) -> Iterator[str]:
    x, bottom = foot
    yield f'<path d="M{x} {TOP}V{bottom}" stroke="{_INK}" stroke-dasharray="3 3"/>'
    label = max(LEFT + 44, min(x, WIDTH - RIGHT - 44))
    text = f"exported: {exported}"
    yield f'<text x="{label}" y="{HEIGHT - 8}" text-anchor="middle">{text}</text>'


def _line(places: Sequence[tuple[float, float]]) -> str:
    if len(places) == 1:
        [(x, y)] = places
        return f'<circle cx="{x}" cy="{y}" r="3" fill="{_LINE}"/>'
    text = " ".join(f"{x},{y}" for x, y in places)
    return f'<polyline points="{text}" fill="none" stroke="{_LINE}" stroke-width="1.5"/>'


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
