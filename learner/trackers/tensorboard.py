"""Event files for TensorBoard."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from learner.tracker import TrackedRun, tracker
from protocol.errors import ConfigError
from protocol.process import this_host

if TYPE_CHECKING:
    from tensorboard.summary.writer.record_writer import RecordWriter

FOLDER = "tensorboard"


@tracker("tensorboard")
def tensorboard(*, folder: str | None = None) -> "TensorBoardFile":
    """Write event files; `tensorboard --logdir runs` shows them.

    Args:
        folder: where to; the run folder's `tensorboard` by default.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        import tensorboard.summary.writer.record_writer  # noqa: F401 - only whoever asks has it
    except ImportError as error:
        raise ConfigError(
            f"report_to: tensorboard needs a package that is not installed ({error}): "
            "pip install -e '.[tensorboard]'"
        ) from None
    return TensorBoardFile(folder)


class TensorBoardFile:
    """One event file for each start of the learner. Figures are float32 there.

    A file opens with the step that the run goes on from: TensorBoard forgets what earlier files of
    the folder say of later steps, and shows what is trained now.
    """

    def __init__(self, folder: str | None) -> None:
        self._folder = folder
        self._writer: RecordWriter | None = None

    def start(self, run: TrackedRun) -> None:
        """Open the file; it holds the config as a text."""
        from tensorboard.compat.proto.event_pb2 import (
            Event,  # pyright: ignore[reportAttributeAccessIssue]
            SessionLog,  # pyright: ignore[reportAttributeAccessIssue]
        )
        from tensorboard.plugins.text.summary_v2 import text_pb
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder = Path(self._folder) if self._folder else run.folder / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        name = f"events.out.tfevents.{int(now):010d}.{this_host()}.{os.getpid()}.0"
        self._writer = RecordWriter((folder / name).open("xb"))
        self._write(Event(wall_time=now, file_version="brain.Event:2"))
        goes_on = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=now, step=run.step + 1, session_log=goes_on))
        config = text_pb("config", _as_markdown(run.config))
        self._write(Event(wall_time=now, step=run.step, summary=config))

    def log(self, step: int, figures: Mapping[str, float], time: float) -> None:
        """Write all figures as one event."""
        from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

        values = [Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]
        self._write(Event(wall_time=time, step=step, summary=Summary(value=values)))

    def close(self, seconds: float) -> None:
        """Close the file; everything is in it."""
        if self._writer is not None:
            self._writer.close()

    def _write(self, event: Any) -> None:  # noqa: ANN401 - its classes are made at run time
        assert self._writer is not None
        self._writer.write(event.SerializeToString())
        self._writer.flush()  # somebody may be looking


def _as_markdown(config: Mapping[str, Any]) -> str:
    lines = yaml.safe_dump(dict(config), sort_keys=False).splitlines()
    return "\n".join(f"    {line}" for line in lines)
