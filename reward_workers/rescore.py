"""`python -m reward_workers.rescore --config FILE`: completions on stdin, rewards on stdout.

Both are JSON lines, `{id, prompt, completion, completion_tokens, finish_reason, columns}` and
`{id, reward, rewards, status}`. A line is answered once it is scored, by the same children, sandbox
and rules as in a reward worker; the end of stdin is the end.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, BinaryIO, TextIO

from pydantic import BaseModel, ValidationError

from protocol.config import RunConfig
from protocol.config_evaluation import EvaluationSection
from protocol.config_file import load_config
from protocol.errors import DataError, RunStopped
from protocol.fields import FinishReason
from protocol.messages import Score, ScoreTask, ScoreWork
from protocol.process import EXIT_DONE, die_with_parent, run_main
from protocol.telemetry import setup_logging
from reward_workers.backlog import Backlog
from reward_workers.failures import Failures
from reward_workers.scoring import Scoring

_RUN_EPOCH = 0
_ATTEMPT = 1


class Request(BaseModel):
    """One completion to score."""

    id: str | int
    prompt: object
    """As in the data row: a string or chat messages."""
    completion: str
    completion_tokens: int
    finish_reason: FinishReason
    columns: dict[str, object]
    """The data row's other columns."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code.

    Raises:
        ConfigError, SandboxUnavailable: the config's rewards cannot be used here.
        DataError: a line that is no request.
    """
    parser = argparse.ArgumentParser(prog="python -m reward_workers.rescore", description=__doc__)
    parser.add_argument("--config", required=True, help="a YAML file")
    given = parser.parse_args(arguments)
    setup_logging("WARNING")
    die_with_parent()
    config = load_config(given.config)
    # A file of its own, never closed: at exit Python wants the lock of sys.stdin's, which a blocked
    # read holds.
    source = open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: SIM115
    asyncio.run(_until_told(rescore(config, source, sys.stdout)))
    return EXIT_DONE


async def rescore(config: RunConfig, source: BinaryIO, sink: TextIO) -> None:
    """Scores every line of a source; its children and its sandbox are gone afterwards.

    Raises:
        ConfigError, SandboxUnavailable: as Scoring.started.
        DataError: a line that is no request.
    """
    backlog, failures, started = Backlog(), Failures(), asyncio.Event()
    asked: dict[int, str | int] = {}
    answered = asyncio.Event()

    def keep(score: Score) -> None:
        sink.write(json.dumps({"id": asked.pop(score.group_id), **_said(score)}) + "\n")
        sink.flush()
        answered.set()

    alone = config.model_copy(update={"evaluation": EvaluationSection()})  # no evaluator's rewards
    scoring = Scoring(alone, backlog, keep, failures)

    async def feed() -> None:
        await started.wait()
        number = 0
        async for line in _lines(source):
            number += 1
            request = _read(line, number)
            asked[number] = request.id
            backlog.add(ScoreWork(run_epoch=_RUN_EPOCH, tasks=(_task(number, request),)))
            scoring.wake()
        while asked:
            answered.clear()
            await answered.wait()

    await _first_of(scoring.run(_RUN_EPOCH, started.set), feed())


def _read(line: bytes, number: int) -> Request:
    try:
        return Request.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the line"
        raise DataError(f"stdin:{number}: {where}: {first['msg']}") from None


def _task(number: int, request: Request) -> ScoreTask:
    return ScoreTask(
        group_id=number,
        attempt=_ATTEMPT,
        sample=0,
        prompt=json.dumps(request.prompt),
        completion=request.completion,
        completion_tokens=request.completion_tokens,
        finish_reason=request.finish_reason,
        columns=json.dumps(request.columns),
    )


def _said(score: Score) -> dict[str, object]:
    return {
        "reward": score.reward,
        "rewards": {named.name: named.reward for named in score.rewards},
        "status": score.status,
    }


async def _lines(source: BinaryIO) -> AsyncIterator[bytes]:
    """Lines as they come, read at once, so that whoever writes never waits for a score."""
    loop, found = asyncio.get_running_loop(), asyncio.Queue[bytes]()

    def read() -> None:
        with contextlib.suppress(RuntimeError, ValueError):  # the loop, or the source, is closed
            for line in source:
                loop.call_soon_threadsafe(found.put_nowait, line)
            loop.call_soon_threadsafe(found.put_nowait, b"")

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while line := await found.get():
        if line.strip():
            yield line


async def _first_of(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Waits for the first that ends; the others are cancelled, and what failed is raised."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


async def _until_told(work: Coroutine[Any, Any, None]) -> None:
    """SIGTERM ends the work as a Ctrl-C does: in order."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        raise RunStopped("told to end") from None


if __name__ == "__main__":
    run_main(main)
