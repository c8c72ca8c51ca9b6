"""The public interface as typed code uses it; mypy is strict about it, nobody runs it."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import assert_type

from dtee_async import (
    Batch,
    Captured,
    CommandFailedError,
    CommandTimeoutError,
    Event,
    EventsLost,
    Exit,
    Flow,
    JobResult,
    JobSpec,
    Line,
    Output,
    PipelineResult,
    Result,
    RunningJob,
    RunningPipeline,
    State,
    StdinPipe,
    Stream,
    SupervisedJob,
    Supervisor,
    Write,
    open_job,
    open_pipeline,
    run,
    run_pipeline,
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
    await run("true", stdin="pipe")  # type: ignore[arg-type]
    await run("true", capture="pip")  # type: ignore[arg-type]


async def running() -> None:
    async with open_job("cat", stdin="pipe", limit_bytes=1000, keep="head", linger_s=0.5) as job:
        assert_type(job, RunningJob)
        assert_type(job.pid, int)
        assert_type(job.result, Result | None)
        assert_type(job.stdin, StdinPipe)
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


class Counter:
    """An output."""

    name = "counter"
    wants_stamps = False

    def __init__(self) -> None:
        self.size_bytes = 0

    def open(self, flow: Flow) -> None:
        self.flow = flow

    def write(self, batch: Batch) -> None:
        self.size_bytes += batch.size_bytes
        for write in batch:
            assert_type(write, Write)

    def end(self, exit: Exit) -> None: ...

    def close(self) -> int:
        return 0


async def more() -> None:
    counter: Output = Counter()
    await run("true", outputs=[counter], success_exit_codes=[0, 1])
    result = await run_pipeline("ls", ["wc", "-l"], check=True, working_dir="/")
    assert_type(result, PipelineResult)
    assert_type(result.results[0], Result)
    for number, write in result.writes():
        assert_type((number, write), tuple[int, Write])
    await run_pipeline("ls", out_append="x")  # type: ignore[call-arg]
    async with open_pipeline("ls", "wc", stdin="pipe") as pipeline:
        assert_type(pipeline, RunningPipeline)
        assert_type(pipeline.jobs[0], RunningJob)
        assert_type(pipeline.jobs[0].state, State)
        assert_type(await pipeline.wait(), PipelineResult)
    async with Supervisor(max_parallel=2) as sup:
        job = sup.start("true", name="web", depends_on={"db": "process_healthy"}, outputs=lambda: [Counter()])
        assert_type(job, SupervisedJob)
        assert_type(await job.wait(), JobResult)
        assert_type(await sup.remove("web"), JobResult)
        sup.start("true", after="db")  # type: ignore[call-arg]
        async for event in sup.events():
            assert_type(event, Event | EventsLost)


def script() -> None:
    try:
        assert_type(run_sync("true", check=True, timeout_s=1), Result)
    except (CommandFailedError, CommandTimeoutError) as error:
        assert_type(error.result, Result)


if __name__ == "__main__":
    asyncio.run(results())
    asyncio.run(running())
    asyncio.run(more())
