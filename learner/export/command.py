"""`mlx-export RUN`: a checkpoint as a folder for mlx-lm: generate, server, fuse, chat.

A run that tuned the whole model becomes a model folder; one that tuned LoRA adapters becomes an
adapter folder, or with --fuse a model. The folder's README.md says how it was trained and how to
use it. Exit code 2: bad input; nothing is left behind then.
"""

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from learner.export.card import CURVE, card, commands
from learner.export.curve import curve_svg
from learner.export.folder import (
    CARD,
    copy_tokenizer,
    make_folder,
    write_arrays,
    write_json,
    write_model,
)
from learner.export.form import Form, refuse_contradiction
from learner.export.public import public_text
from learner.export.records import REWARD, read_records
from learner.export.source import Source, find_source
from learner.export.weights import (
    ADAPTER_CONFIG,
    ADAPTERS,
    is_quantised,
    load_exported,
    load_exported_adapters,
)
from protocol.model_folder import model_folder
from protocol.policy import DTYPES
from protocol.process import EXIT_DONE, run_main
from protocol.telemetry import setup_logging


def main() -> NoReturn:
    """Entry point of `mlx-export`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # nothing half made stays
    run_main(export)


def export(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    Raises:
        ConfigError: no such run or checkpoint, a damaged one, options that do not go together, or
            a folder that cannot be written.
    """
    given = _parser().parse_args(arguments)
    setup_logging("WARNING")
    form = Form(given.fuse, given.dequantize, given.dtype, given.quantize, given.group_size)
    source = find_source(given.run, given.step)
    refuse_contradiction(form, source.tuning, is_quantised=is_quantised(source.checkpoint))
    out = given.out or source.run_dir / "export" / f"step_{source.step:06d}{form.suffix}"
    make_folder(out, lambda folder: _fill(folder, source, form, out.name), force=given.force)
    _say(f"exported step {source.step}{_why(source, given.step)} of {source.run_dir} to {out}")
    base = (
        str(model_folder(source.config.model.path, source.config.model.revision))
        if source.tuning == "lora"
        else ""
    )
    for command in commands(source, form, shlex.quote(str(out)), shlex.quote(base)):
        _say(f"  {command}")
    return EXIT_DONE


def _fill(folder: Path, source: Source, form: Form, name: str) -> None:
    if source.tuning == "lora" and not form.fuse:
        arrays, config = load_exported_adapters(source, form)
        write_arrays(folder / ADAPTERS, arrays)
        model = public_text(source.config.model.path)
        write_json(folder / ADAPTER_CONFIG, {**config, "model": model})
    else:
        copy_tokenizer(source, folder)
        write_model(folder, *load_exported(source, form))
    records = read_records(source.run_dir)
    if records.curve:
        title = f"{source.config.run.name}: {REWARD}"
        (folder / CURVE).write_text(curve_svg(records.curve, title, source.step), encoding="utf-8")
    (folder / CARD).write_text(card(source, form, records, name), encoding="utf-8")


def _why(source: Source, wanted: str | None) -> str:
    """Why this step, where nobody named it."""
    best = source.best
    if best is not None and best.step == source.step and wanted in (None, "best"):
        return f" (the best: {best.evaluator} {best.figure} {best.value:.4g})"
    return " (the newest)" if wanted in (None, "latest") else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("mlx-export", description=__doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a run folder, or a checkpoint in one")
    add(
        "--step",
        metavar="N|best|latest",
        help="default: the best checkpoint where the run kept one, else the newest whole one",
    )
    add("--out", type=Path, metavar="DIR", help="default: RUN/export/step_<N>, and the options")
    add("--fuse", action="store_true", help="LoRA: a whole model instead of adapters")
    add(
        "--dequantize",
        action="store_true",
        help="with --fuse, of a quantised model: the result is not quantised",
    )
    numbers = parser.add_mutually_exclusive_group()
    numbers.add_argument("--dtype", choices=tuple(DTYPES), help="default: policy.weight_dtype")
    numbers.add_argument(
        "--quantize", type=int, choices=(4, 8), metavar="4|8", help="bits a weight"
    )
    add("--group-size", type=int, choices=(32, 64, 128), help="of --quantize (64)")
    add("--force", action="store_true", help="replace an earlier export of that name")
    return parser


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
