"""What mlx-eval prints: a table for a person, or one JSON object for a program."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from learner.evaluate.compare import Comparison

Figures = Mapping[str, Mapping[str, float | None]]
"""By evaluator, then by figure; null where it is not finite."""

NOT_SHOWN = ("step", "policy_version", "time", "evaluator")
LOW, HIGH = "_low", "_high"


def print_tables(models: Mapping[str, Figures], comparisons: Mapping[str, Comparison]) -> None:
    """Print every model's figures with their 95 % intervals, and the comparisons.

    Args:
        models: figures by model.
        comparisons: by evaluator; empty where there is one model.
    """
    console = Console(width=None if Console().is_terminal else 120)
    table = Table(title="evaluation (95 % intervals)", title_justify="left")
    for title in ("evaluator", "figure", *models):
        table.add_column(title, overflow="fold")
    for evaluator, figure in _keys(list(models.values())):
        cells = [_cell(of_model.get(evaluator, {}), figure) for of_model in models.values()]
        table.add_row(evaluator, figure, *cells)
    console.print(table)
    for evaluator, found in comparisons.items():
        console.print(sentence(evaluator, found), highlight=False)


def sentence(evaluator: str, found: Comparison) -> str:
    """A comparison in words."""
    left_out = f" ({found.num_left_out} in one only)" if found.num_left_out else ""
    return (
        f"{evaluator}: mean reward {found.first:.4f} -> {found.second:.4f} on {found.num_prompts} "
        f"shared prompts{left_out}: {found.better} better, {found.worse} worse, "
        f"paired p = {found.p_value:.3g}"
    )


def as_json(models: Mapping[str, Figures], comparisons: Mapping[str, Comparison]) -> dict[str, Any]:
    """The same for a program."""
    return {
        "models": {name: {e: dict(f) for e, f in found.items()} for name, found in models.items()},
        "comparisons": {name: asdict(found) for name, found in comparisons.items()},
    }


def _keys(models: Sequence[Figures]) -> list[tuple[str, str]]:
    """Evaluator and figure of every row; an interval stands in its figure's cell."""
    seen = dict.fromkeys(
        (evaluator, figure)
        for found in models
        for evaluator, figures in found.items()
        for figure in figures
        if figure not in NOT_SHOWN and not figure.endswith((LOW, HIGH))
    )
    return list(seen)


def _cell(figures: Mapping[str, float | None], figure: str) -> str:
    value, low, high = (figures.get(figure + end) for end in ("", LOW, HIGH))
    if value is None or not math.isfinite(value):
        return "-"
    shown = f"{value:.4g}"
    return shown if low is None or high is None else f"{shown} ({low:.3g} to {high:.3g})"
