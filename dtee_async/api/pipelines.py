"""Owns commands that are joined by pipes, as ``a | b | c``: the stdout of each is the stdin of the next, and all else is captured."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Unpack

import anyio

from ..core.result import PipelineResult, Result
from ..errors import CommandFailedError, CommandTimeoutError, ConfigError
from ..output.consumers import Consumers
from ..output.memory import BoundedMemory, MemoryOutput
from .jobs import RunningJob
from .loops import running_loop
from .specs import Command, CommonOptions, Keep, make_spec
from .stdin import Stdin

if TYPE_CHECKING:
    from ..core.spec import JobSpec


class RunningPipeline:
    """Commands that run, joined by pipes; open_pipeline() makes it. ``jobs`` are RunningJobs, to be asked and iterated over one by one."""

    def __init__(self, jobs: Sequence[RunningJob]) -> None:
        self.jobs = jobs

    async def wait(self) -> PipelineResult:
        """Wait until all have ended. What nobody iterates over is read and counted. Raises what the first RunningJob.wait() does."""
        return await _all(job.wait() for job in self.jobs)

    async def terminate(self, grace_s: float | None = None) -> PipelineResult:
        """End the process groups of all, at once: TERM, ``grace_s`` seconds, KILL; those that have ended stay as they are."""
        with anyio.CancelScope(shield=True):
            await _all(job.terminate(grace_s) for job in self.jobs)
        return await self.wait()  # it is there: nothing is waited for


async def _all(ends: Iterable[Coroutine[Any, Any, Result]]) -> PipelineResult:
    """Wait for each; then raise what the first one raised."""
    results = await asyncio.gather(*ends, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return PipelineResult(tuple(result for result in results if isinstance(result, Result)))


@asynccontextmanager
async def open_pipeline(
    *commands: Command,
    stdin: Stdin = None,
    limit_bytes: int = 0,
    keep: Keep = "tail",
    grace_s: float | None = None,
    **options: Unpack[CommonOptions],
) -> AsyncIterator[RunningPipeline]:
    """Start commands that are joined by pipes, and have them as long as the block runs; leaving it ends those that have not ended.

    ``stdin`` is that of the first. The parameters are those of open_job(), for each command; what is to be
    different for one, and its output files, is in a JobSpec. Raises as open_job(); ConfigError without a command.
    """
    specs = [make_spec(command, options, CommonOptions.__optional_keys__) for command in commands]
    memories = [BoundedMemory(limit_bytes, keep) if limit_bytes else None for _ in specs]
    async with _running(specs, stdin, [[Consumers()] for _ in specs], memories, grace_s) as pipeline:
        yield pipeline


async def run_pipeline(
    *commands: Command,
    stdin: Stdin = None,
    check: bool = False,
    timeout_s: float | None = None,
    limit_bytes: int | None = None,
    keep: Keep = "head",
    grace_s: float | None = None,
    **options: Unpack[CommonOptions],
) -> PipelineResult:
    """Run commands that are joined by pipes, and keep what each writes to stderr, and the last one to stdout, too.

    The parameters are those of run(), for each command; ``limit_bytes`` is for each by itself. ``check``: CommandFailedError for the
    last command that failed, as pipefail has it: also by the signal PIPE, of one whose reader had enough. Such an error, and
    CommandTimeoutError, has the whole PipelineResult in ``pipeline``. Raises as run(); ConfigError without a command.
    """
    specs = [make_spec(command, options, CommonOptions.__optional_keys__) for command in commands]
    memories = [MemoryOutput() if limit_bytes is None else BoundedMemory(limit_bytes, keep) for _ in specs]
    async with _running(specs, stdin, [[] for _ in specs], memories, grace_s) as pipeline:
        result: PipelineResult | None = None
        with anyio.move_on_after(timeout_s):
            result = await pipeline.wait()
        if result is None:
            assert timeout_s is not None
            late = next((number for number, job in enumerate(pipeline.jobs) if not job.state.final), -1)
            result = await pipeline.terminate(grace_s)
            raise CommandTimeoutError(result.results[late], timeout_s, result)
    if check:
        for spec, each in zip(reversed(specs), reversed(result.results), strict=True):
            if not spec.succeeded(each.exit):
                raise CommandFailedError(each, result)
    return result


@asynccontextmanager
async def _running(
    specs: Sequence[JobSpec],
    stdin: Stdin,
    outputs: Sequence[list[Consumers]],
    memories: Sequence[MemoryOutput | BoundedMemory | None],
    grace_s: float | None,
) -> AsyncIterator[RunningPipeline]:
    running_loop()
    if not specs:
        raise ConfigError("a pipeline needs a command")
    for spec in specs[1:]:
        if spec.capture.interactive:
            raise ConfigError("capture: only the first command of a pipeline can have a terminal as its stdin")
    jobs: list[RunningJob] = []
    pipeline = RunningPipeline(jobs)
    try:
        with ExitStack() as pipes:
            source: Stdin = stdin
            for number, spec in enumerate(specs):
                reader, sink_fd = _pipe(pipes) if number < len(specs) - 1 else (None, None)
                jobs.append(RunningJob(spec, source, outputs[number], memories[number], sink_fd))
                source = reader
        yield pipeline
    except BaseException:
        with contextlib.suppress(Exception):
            await pipeline.terminate(grace_s)
        raise
    else:
        await pipeline.terminate(grace_s)


def _pipe(stack: ExitStack) -> tuple[BinaryIO, int]:
    """Its ends, which the stack closes. Raises OSError."""
    read_fd, write_fd = os.pipe()
    reader: BinaryIO = stack.enter_context(os.fdopen(read_fd, "rb", 0))
    stack.callback(os.close, write_fd)
    return reader, write_fd
