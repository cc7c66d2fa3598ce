"""What training did to the held-out prompts: a table of a run, and of its control.

    python bench/held_out.py RUN_DIR [RUN_DIR...] [--reward NAME]

A row an evaluation: minutes since the run began, the share of right completions, the step's share
of groups with more than one reward, and a paired p-value against the first folder's evaluation
before training, prompt by prompt (learner/confidence.py). All of it is read from the run folders.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from learner.evaluate.compare import compare

Shares = Mapping[str, float]


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dirs", type=Path, nargs="+", metavar="RUN_DIR")
    parser.add_argument("--reward", help="which decides; default: the first of a completion's")
    parser.add_argument("--threshold", type=float, default=1.0, help="the reward of a right one")
    given = parser.parse_args()
    print("| run | step | minutes | evaluator | right | prompts | better, worse | p |")
    print("|---|---|---|---|---|---|---|---|")
    before: dict[str, Shares] = {}
    for run_dir in given.run_dirs:
        for row, right in evaluations(run_dir, given.reward, given.threshold):
            base = before.setdefault(row["evaluator"], right)
            print(line(run_dir, row, base, right))
    for run_dir in given.run_dirs:
        print(f"\n{run_dir.name}: {mixed_groups(run_dir)}")


def evaluations(
    run_dir: Path, reward: str | None, threshold: float
) -> Iterator[tuple[dict[str, Any], Shares]]:
    """Each row of eval.jsonl, with every prompt's share of right completions."""
    for row in read(run_dir / "eval.jsonl"):
        folder = run_dir / "evaluations" / f"step_{row['step']:06d}"
        found: dict[str, list[bool]] = {}
        for sample in read(folder / f"{row['evaluator']}.jsonl"):
            value = sample["rewards"][reward or next(iter(sample["rewards"]))]
            if value is not None:
                found.setdefault(sample["prompt_id"], []).append(value >= threshold)
        yield row, {prompt: sum(values) / len(values) for prompt, values in found.items()}


def line(run_dir: Path, row: Mapping[str, Any], base: Shares, right: Shares) -> str:
    """One line of the table."""
    minutes = (row["time"] - began(run_dir)) / 60
    cells: list[object] = [run_dir.name, row["step"], f"{minutes:.0f}", row["evaluator"]]
    cells += [f"{sum(right.values()) / len(right):.3f}", len(right)]
    if base is right:
        cells += ["", ""]
    else:
        found = compare(base, right)
        cells += [f"{found.better}, {found.worse}", f"{found.p_value:.2g}"]
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def mixed_groups(run_dir: Path) -> str:
    """How many groups had something to learn from, and how long steps took."""
    rows = read(run_dir / "metrics.jsonl")
    mixed = [1.0 - row["groups/zero_advantage_fraction"] for row in rows]
    seconds = sorted(row["seconds/step"] for row in rows)
    return (
        f"{len(rows)} steps, median {seconds[len(seconds) // 2]:.0f} s; mixed groups "
        f"{sum(mixed) / len(mixed):.0%} (first five steps {sum(mixed[:5]) / len(mixed[:5]):.0%})"
    )


def began(run_dir: Path) -> float:
    """Unix seconds: when the run folder was made."""
    return (run_dir / "config.yaml").stat().st_mtime


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file."""
    return [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
