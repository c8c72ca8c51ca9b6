"""The public interface as typed code uses it; mypy is strict about it, nobody runs it."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import assert_type

from dtee_async import (
    Captured,
    CommandFailedError,
    CommandTimeoutError,
    JobSpec,
    Line,
    Result,
    RunningJob,
    StdinPipe,
    Stream,
    Write,
    open_job,
    run,
    run_sync,
)


async def numbers() -> AsyncIterator[bytes]:
    for number in range(3):
        yield b"%d\n" % number


async def results() -> None:
    result = await run(["make", Path("all")], check=True, timeout_s=60, limit_bytes=1 << 20, keep="tail", grace_s=1)
    assert_type(result, Result)
    assert_type(result.writes, Captured)
    assert_type(result.stdout, bytes)
    assert_type(result.returncode, int)
    assert_type(result.signal, int | None)
    for write in result.writes:
        assert_type(write, Write)
        assert_type(write.stream, Stream)
    await run("make all", working_dir=Path(), environment={"A": "b"}, combined_append=["a.log", Path("b.log")], capture="pipe")
    await run(JobSpec("make", "make all"), stdin=b"data")
    await run("cat", stdin=sys.stdin)
    await run("cat", stdin="inherit")
    await run("cat", stdin=numbers())
    await run("true", cwd="/")  # type: ignore[call-arg]
    await run("true", stdin="text")  # type: ignore[arg-type]
    await run("true", keep="middle")  # type: ignore[arg-type]


async def running() -> None:
    async with open_job("cat", stdin="pipe", limit_bytes=1000, keep="head", linger_s=0.5) as job:
        assert_type(job, RunningJob)
        assert_type(job.pid, int)
        assert_type(job.result, Result | None)
        assert_type(job.stdin, StdinPipe | None)
        if job.stdin is not None:
            await job.stdin.send(b"data")
            await job.stdin.aclose()
        async for write in job:
            assert_type(write, Write)
        async for line in job.lines(limit_bytes=1000):
            assert_type(line, Line)
            assert_type(line.text, str)
            assert_type(line.complete, bool)
        assert_type(await anext(job.writes()), Write)
        job.pause()
        job.resume()
        job.send_signal(signal.SIGHUP)
        assert_type(await job.terminate(1), Result)
        assert_type(await job.kill(), Result)
        assert_type(await job.wait(), Result)


def script() -> None:
    try:
        assert_type(run_sync("true", check=True, timeout_s=1), Result)
    except (CommandFailedError, CommandTimeoutError) as error:
        assert_type(error.result, Result)


if __name__ == "__main__":
    asyncio.run(results())
    asyncio.run(running())
