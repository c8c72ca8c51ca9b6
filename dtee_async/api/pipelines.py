"""Owns commands that are joined by pipes, as ``a | b | c``: the stdout of each is the stdin of the next, and all else is captured."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import BinaryIO, Unpack

import anyio

from ..core.result import PipelineResult, Result
from ..core.spec import JobSpec
from ..core.write import Stream
from ..errors import CommandFailedError, CommandTimeoutError, ConfigError, DteeError
from ..output.consumers import Consumers
from ..output.memory import BoundedMemory, MemoryOutput, memory_for
from .jobs import RunningJob, ended_with_block
from .loops import running_loop, until_done
from .specs import Command, CommonOptions, Keep, check_patience, make_spec
from .stdin import Input, Stdin, make_pipe, refuse_pipe


class RunningPipeline:
    """Commands that run, joined by pipes; open_pipeline() makes it. ``jobs`` are RunningJobs, to be asked and iterated over one by one."""

    def __init__(self, jobs: Sequence[RunningJob]) -> None:
        self.jobs = jobs
        self.raised: BaseException | None = None
        """What wait() has raised."""

    async def wait(self) -> PipelineResult:
        """Wait until all have ended. What nobody iterates over is thrown away and counted. Raises what the first RunningJob.wait() does."""
        with ExitStack() as stack:
            for job in self.jobs:
                stack.enter_context(job.awaited())
            return self._checked(await asyncio.gather(*(job.wait() for job in self.jobs), return_exceptions=True))

    async def terminate(self, grace_s: float | None = None) -> PipelineResult:
        """End the process groups of all, at once: TERM, ``grace_s`` seconds, KILL; those that have ended stay as they are.

        Cancelled meanwhile, it kills. Raises as wait().
        """
        check_patience(grace_s=grace_s)
        ends = [asyncio.ensure_future(job.terminate(grace_s)) for job in self.jobs]
        await until_done(ends, self._kill)
        return self._checked([end.exception() or end.result() for end in ends])

    def _kill(self) -> None:
        for job in self.jobs:
            job.send_signal(signal.SIGKILL)

    def _checked(self, ends: Sequence[Result | BaseException]) -> PipelineResult:
        for end in ends:
            if isinstance(end, BaseException):
                self.raised = end
                raise end
        return PipelineResult(tuple(end for end in ends if isinstance(end, Result)))


@asynccontextmanager
async def open_pipeline(
    *commands: Command,
    stdin: Stdin = None,
    limit_bytes: int | None = 0,
    keep: Keep = "tail",
    grace_s: float | None = None,
    **options: Unpack[CommonOptions],
) -> AsyncIterator[RunningPipeline]:
    """Start commands that are joined by pipes, and have them as long as the block runs; leaving it ends those that have not ended.

    ``stdin`` is that of the first. The parameters are those of open_job(), for each command; what is to be
    different for one, and its output files, is in a JobSpec. Raises as open_job(); ConfigError without a command.
    """
    specs = _specs(commands, options)
    memories = [memory_for(limit_bytes, keep) if limit_bytes != 0 else None for _ in specs]
    async with _running(specs, stdin, [[Consumers()] for _ in specs], memories, grace_s) as pipeline:
        yield pipeline


async def run_pipeline(
    *commands: Command,
    stdin: Input = None,
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
    specs = _specs(commands, options)
    memories = [memory_for(limit_bytes, keep) for _ in specs]
    refuse_pipe(stdin, "open_pipeline")
    check_patience(timeout_s=timeout_s)
    async with _running(specs, stdin, [[] for _ in specs], memories, grace_s) as pipeline:
        result: PipelineResult | None = None
        with anyio.move_on_after(timeout_s):
            result = await pipeline.wait()
        if result is None:
            assert timeout_s is not None
            late = [number for number, job in enumerate(pipeline.jobs) if not job.state.final] or [-1]
            failure: DteeError | None = None
            try:
                await pipeline.terminate(grace_s)
            except DteeError as error:
                failure = error
            result = PipelineResult(tuple(job.result for job in pipeline.jobs if job.result is not None))
            who = " and ".join(result.results[number].command for number in late)
            raise CommandTimeoutError(result.results[late[0]], timeout_s, result, who) from failure
    if check:
        for spec, each in zip(reversed(specs), reversed(result.results), strict=True):
            if not spec.succeeded(each.exit):
                raise CommandFailedError(each, result)
    return result


def _specs(commands: Sequence[Command], options: CommonOptions) -> list[JobSpec]:
    """The options are for all commands but those that are JobSpecs. Raises ConfigError, TypeError."""
    specs = [make_spec(command, {} if isinstance(command, JobSpec) else options, CommonOptions.__optional_keys__) for command in commands]
    if not specs:
        raise ConfigError("a pipeline needs a command")
    for spec in specs[:-1]:
        if spec.capture.mode == "pty":
            raise ConfigError("capture: only the last command of a pipeline can have a terminal: the stdout of all others is a pipe")
        if any(file.stream is Stream.STDOUT for file in spec.outputs):
            raise ConfigError("outputs: the stdout of a command goes to the next one of the pipeline; only the last can have files for it")
    if any(spec.capture.interactive for spec in specs[1:]):
        raise ConfigError("capture: only the first command of a pipeline can have a terminal as its stdin")
    return specs


@asynccontextmanager
async def _running(
    specs: Sequence[JobSpec],
    stdin: Stdin,
    outputs: Sequence[list[Consumers]],
    memories: Sequence[MemoryOutput | BoundedMemory | None],
    grace_s: float | None,
) -> AsyncIterator[RunningPipeline]:
    running_loop()
    check_patience(grace_s=grace_s)
    jobs: list[RunningJob] = []
    pipeline = RunningPipeline(jobs)
    async with ended_with_block(pipeline, grace_s):
        with ExitStack() as pipes:
            source: Stdin = stdin
            for number, spec in enumerate(specs):
                reader, sink_fd = _pipe(pipes) if number < len(specs) - 1 else (None, None)
                jobs.append(RunningJob(spec, source, outputs[number], memories[number], sink_fd))
                source = reader
        yield pipeline


def _pipe(stack: ExitStack) -> tuple[BinaryIO, int]:
    """Its ends, which the stack closes. Raises SpawnError."""
    read_fd, write_fd = make_pipe()
    stack.callback(os.close, write_fd)
    reader: BinaryIO = stack.enter_context(os.fdopen(read_fd, "rb", 0))
    return reader, write_fd
