"""Many programs through one pool."""

import asyncio
from collections.abc import Mapping
from typing import Any, Literal

from hostile.judging import judge
from hostile.program import SMALL, Hostile

from reward_workers.sandbox.jobs import Result
from reward_workers.sandbox.pool import SandboxPool

Strategy = Literal["auto", "fork", "fresh"]


async def run_all(
    programs: Mapping[str, Hostile],
    facts: Mapping[str, Any],
    strategy: Strategy = "auto",
    slots: int = 4,
) -> dict[str, Result]:
    """The result of every program; all of them wait for one of a few slots."""
    async with SandboxPool(slots=slots, warm=slots, limits=SMALL, start=strategy) as pool:
        jobs = [judge(pool, program, facts) for program in programs.values()]
        return dict(zip(programs, await asyncio.gather(*jobs), strict=True))
