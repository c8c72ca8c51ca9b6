"""Owns the cost of a run: how many times per second /bin/true runs, captured, one after the other and 8 at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from statistics import median

import uvloop

import dtee_async

from .common import Bench, alternate
from .report import Report

TITLE = "runs of /bin/true per second"

ROUNDS = 3
AT_ONCE = (1, 8)


async def _plain() -> None:
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()


async def _piped() -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec("true", stdout=pipe, stderr=pipe)
    await process.communicate()


async def _ours() -> None:
    await dtee_async.run(["true"])


Loop = type[asyncio.AbstractEventLoop]
WAYS: dict[str, tuple[Callable[[], Awaitable[None]], Loop]] = {
    "dtee_async.run on asyncio": (_ours, asyncio.SelectorEventLoop),
    "dtee_async.run on uvloop": (_ours, uvloop.Loop),
    "create_subprocess_exec, not captured": (_plain, asyncio.SelectorEventLoop),
    "create_subprocess_exec, two pipes": (_piped, asyncio.SelectorEventLoop),
}


def measure(bench: Bench, report: Report) -> None:
    """Seconds per run, in turn, in this process."""
    count = bench.scaled(240)
    for at_once in AT_ONCE:
        seconds = alternate({name: partial(_time, *way, count, at_once) for name, way in WAYS.items()}, ROUNDS)
        for name, each in seconds.items():
            report.row(way=name, at_once=at_once, per_s=1 / median(each), per_s_best=1 / min(each))
        for other in ("create_subprocess_exec, not captured", "create_subprocess_exec, two pipes"):
            report.ratio(f"dtee_async.run / {other}, {at_once} at once, time", seconds["dtee_async.run on asyncio"], seconds[other])


def _time(run: Callable[[], Awaitable[None]], loop: Loop, count: int, at_once: int) -> float:
    """Seconds per run."""

    async def worker() -> None:
        for _ in range(count // at_once):
            await run()

    async def workers() -> float:
        await run()  # what is made once per loop
        begin = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(at_once)))
        return time.perf_counter() - begin

    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(workers()) / (count // at_once * at_once)
