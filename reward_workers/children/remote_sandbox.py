"""The sandbox as a reward function has it: every call goes to the worker's one pool."""

import asyncio
from collections.abc import Sequence

from protocol.errors import RewardError
from reward_workers.children.channel import Channel, Said
from reward_workers.children.sandbox_requests import (
    calls_request,
    read_answer,
    stdio_request,
    tests_request,
)
from reward_workers.sandbox.jobs import IO, Case, Equality, Limits, Result

DEFAULT_LIMITS = Limits()
DEFAULT_EQUALITY = Equality()


class RemoteSandbox:
    """`Sandbox` of jobs.py over a child's channel; for the child's main thread.

    Any number of calls may be in flight, each for a result of its own.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked = 0
        self._waiting: dict[int, asyncio.Future[Said]] = {}

    async def run_calls(
        self,
        code: str,
        *,
        entry: str,
        cases: Sequence[Case],
        limits: Limits = DEFAULT_LIMITS,
        equality: Equality = DEFAULT_EQUALITY,
    ) -> Result:
        """See jobs.Sandbox.run_calls.

        Raises:
            RewardError: the arguments cannot be used.
        """
        return await self._ask(calls_request(code, entry, cases, limits, equality))

    async def run_stdio(
        self, code: str, *, cases: Sequence[IO], limits: Limits = DEFAULT_LIMITS
    ) -> Result:
        """See jobs.Sandbox.run_stdio; raises as run_calls."""
        return await self._ask(stdio_request(code, cases, limits))

    async def run_tests(
        self,
        code: str,
        *,
        tests: str | Sequence[str],
        entry: str,
        support: str = "",
        limits: Limits = DEFAULT_LIMITS,
    ) -> Result:
        """See jobs.Sandbox.run_tests; raises as run_calls."""
        return await self._ask(tests_request(code, tests, entry, support, limits))

    async def _ask(self, request: Said) -> Result:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # a call's loop is closed at its end
            self._loop, self._waiting = loop, {}
        if not self._waiting:
            loop.add_reader(self._channel.socket, self._take)
        self._asked += 1
        number, answered = self._asked, loop.create_future()
        self._waiting[number] = answered
        try:
            self._channel.send({"ask": number, **request})
            return read_answer(await answered)
        finally:
            del self._waiting[number]
            if not self._waiting:
                loop.remove_reader(self._channel.socket)

    def _take(self) -> None:
        try:
            messages = self._channel.arrived()
        except EOFError as error:
            for answered in self._waiting.values():
                if not answered.done():
                    answered.set_exception(RewardError(str(error)))
            return
        for message in messages:
            answered = self._waiting.get(message.get("answer", 0))
            if answered is not None and not answered.done():
                answered.set_result(message)
