"""Saves and appends on a disk of 8 MiB while another file fills it; prints what happened."""

import sys
from pathlib import Path
from types import SimpleNamespace

import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import mlx.core as mx
import mlx.nn as nn

from learner.checkpoints.position import Position
from learner.checkpoints.writer import CheckpointWriter
from learner.disk import Disk
from learner.ledger.snapshot import Snapshot
from learner.parameters import Parameters
from protocol.config import RunConfig
from protocol.errors import CheckpointError
from protocol.policy import Policy


def trainer(model_folder):
    config = RunConfig.model_validate(
        {
            "model": {"path": "builtin:tiny"},
            "data": {"train": ["arithmetic:add2?count=8"]},
            "rewards": [{"name": "exact_match"}],
        }
    )
    model = nn.Linear(256, 256, bias=False)
    policy = Policy(model, SimpleNamespace(), model_folder, mx.bfloat16, mx.float32)
    return policy, Parameters(policy, None, config), config


def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\n")


def fill(path, leave):
    """Take all space but about so many bytes."""
    path.write_bytes(b"")
    with path.open("ab", buffering=0) as file:
        try:
            while file.write(b"x" * 65536):
                pass
        except OSError:
            file.truncate(max(file.tell() - leave, 0))


def save(writer, step, policy, parameters):
    writer.save(Position(step, step, Snapshot()), policy, parameters)
    try:
        writer.wait()
        say(step, "saved")
    except CheckpointError as error:
        say(step, "No space left on device" if "No space left" in str(error) else error)


def main():
    disk = Path(sys.argv[1])
    (disk / "model").mkdir()
    policy, parameters, config = trainer(disk / "model")
    writer = CheckpointWriter(disk, config, {})
    filler = disk / "filler"
    save(writer, 1, policy, parameters)
    fill(filler, 300_000)
    save(writer, 2, policy, parameters)
    filler.unlink()
    say("names", *sorted(path.name for path in disk.iterdir()))
    save(writer, 3, policy, parameters)
    append_while_full(disk / "metrics.jsonl", filler)


def append_while_full(path, filler):
    """A row that finds no room waits until there is some, and stands there once."""
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds
        assert path.read_text() == "1\n"
        if now[0] >= 10.0:
            filler.unlink()

    disk = Disk(60.0, lambda: now[0], sleep)
    disk.append(path, "1\n")
    fill(filler, 0)
    disk.append(path, "2" * 100_000 + "\n")
    say("rows", *(line[0] for line in path.read_text().splitlines()))
    say(f"waited {now[0]:.0f} s")


if __name__ == "__main__":
    main()
