"""Rewards computed again, by a reward worker's own code in a process of its own.

The learner imports nothing of reward workers: they speak JSON lines (`reward_workers.rescore`).
"""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from learner.replay.rebuild import Rebuilt
from protocol.config import RunConfig
from protocol.config_file import dump_config
from protocol.errors import ConfigError, TrainerError
from protocol.process import ERROR_PREFIX, EXIT_BAD_INPUT
from protocol.supervise import describe_exit

MODULE = "reward_workers.rescore"
CLOSE_SECONDS = 10.0


class Rescorer:
    """Scores batches, one at a time; ends with its `with`.

    Args:
        config: whose rewards are asked.
    """

    def __init__(self, config: RunConfig) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="rescore-")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - `close` does
        config_file = Path(self._folder.name) / "config.yaml"
        config_file.write_text(dump_config(config), encoding="utf-8")
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", MODULE, "--config", str(config_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
        )

    def __enter__(self) -> "Rescorer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, requests: Sequence[Mapping[str, Any]]) -> None:
        """Begin to score a batch; `answers` must be called before the next one.

        Args:
            requests: prompt, completion, completion_tokens, finish_reason and columns of each.
        """
        assert self._process.stdin is not None
        try:
            for index, request in enumerate(requests):
                self._process.stdin.write(json.dumps({"id": index, **request}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None

    def answers(self, number: int) -> list[dict[str, Any]]:
        """What was said of each sample of the batch, in its order.

        Raises:
            ConfigError: the rewards cannot be used here.
            TrainerError: the process has failed.
        """
        assert self._process.stdout is not None
        by_index: dict[int, dict[str, Any]] = {}
        while len(by_index) < number:
            line = self._process.stdout.readline()
            if not line:
                raise self._failure()
            answer = json.loads(line)
            by_index[answer["id"]] = answer
        return [by_index[index] for index in range(number)]

    def close(self) -> None:
        """End the process, and with it whatever it started."""
        try:
            self._process.terminate()
            self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        finally:
            self._folder.cleanup()
            for stream in (self._process.stdin, self._process.stdout, self._errors):
                assert stream is not None
                with contextlib.suppress(BrokenPipeError):  # what was not read any more
                    stream.close()

    def _failure(self) -> TrainerError:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines() or [""]
        reason = f"{lines[-1].removeprefix(ERROR_PREFIX)} (--no-rewards leaves rewards out)"
        if code == EXIT_BAD_INPUT and lines[-1].startswith(ERROR_PREFIX):
            return ConfigError(reason)
        return TrainerError(f"scoring again {describe_exit(code)}: {reason}")


def requests_of(rebuilt: Rebuilt) -> list[dict[str, Any]]:
    """What is asked of a step's samples."""
    return [
        {
            "prompt": prompt.row.prompt,
            "completion": sample.rollout.completion,
            "completion_tokens": len(sample.rollout.token_ids),
            "finish_reason": sample.rollout.finish_reason,
            "columns": prompt.row.columns,
        }
        for prompt, sample in zip(rebuilt.prompts, rebuilt.samples, strict=True)
    ]
