"""Owns a command that an async application runs: its start, what is asked of it while it runs, its end and its result."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Unpack

import anyio

from ..core.lifecycle import State
from ..core.result import Captured, Result
from ..core.textlines import LINE_BYTES
from ..errors import CommandFailedError, CommandTimeoutError, OutputError
from ..output.consumers import Consumers
from ..output.guarded import GuardedOutput
from ..output.memory import BoundedMemory, MemoryOutput
from ..supervisor.files import close_all, open_in_host
from ..supervisor.job import NOTHING, Job, Surroundings
from .iterators import Lines, Writes
from .loops import HostLoop, captures_of_loop, running_loop
from .specs import Command, Keep, Options, RunOptions, make_spec
from .stdin import Stdin, StdinPipe, one_chunk

if TYPE_CHECKING:
    from ..core.contracts import Loop, Output
    from ..core.spec import JobSpec
    from ..engine.command import Outcome

_NOTHING = Captured(b"", (), b"", (), (), b"")


class RunningJob:
    """A command that was started; open_job() makes it.

    ``async for write in job`` and ``job.lines()`` iterate over what it writes from then on; several may do
    so at once, and the slowest sets the pace. Nothing is read before somebody iterates or waits:
    a command that has much to say waits for that.
    """

    def __init__(
        self,
        spec: JobSpec,
        stdin: Stdin,
        outputs: Sequence[Output],
        memory: MemoryOutput | BoundedMemory | None,
        stdout_fd: int | None = None,
    ) -> None:
        """Start it. Raises as run()."""
        self.spec = spec
        self.stdin: StdinPipe | None = None
        """Where to write its input to, with ``stdin="pipe"``."""
        self._memory = memory
        self._consumers = next((output for output in outputs if isinstance(output, Consumers)), None)
        self._errors: list[OSError] = []
        self._result: Result | None = None
        self._feeding: asyncio.Task[None] | None = None
        self._is_ending = False
        loop = running_loop()
        pipe = StdinPipe() if isinstance(stdin, bytes | AsyncIterable) or stdin == "pipe" else None
        try:
            surroundings = replace(NOTHING, stdin=stdin is not None and _stdin_fd(stdin, pipe), stdout=stdout_fd)
            self._job = self._make_job(HostLoop(loop), outputs, surroundings)
            self._started = datetime.now(UTC)
            self._job.start()
        except BaseException:
            if pipe is not None:
                pipe.close_child_fd()
                pipe.close()
            raise
        if pipe is not None:
            pipe.close_child_fd()
            if stdin == "pipe":
                self.stdin = pipe
            else:
                chunks = one_chunk(stdin) if isinstance(stdin, bytes) else stdin
                assert isinstance(chunks, AsyncIterable)
                self._feeding = loop.create_task(pipe.send_all(chunks))

    def _make_job(self, loop: Loop, outputs: Sequence[Output], surroundings: Surroundings) -> Job:
        everything = [*outputs, *([self._memory] if self._memory is not None else ()), *open_in_host(self.spec.outputs, loop)]
        try:
            return Job(loop, captures_of_loop(), self.spec, everything, partial(_report, self._errors), surroundings=surroundings)
        except BaseException:
            close_all(everything)
            raise

    # What it says

    def __aiter__(self) -> Writes:
        return self.writes()

    def writes(self) -> Writes:
        """Iterate over its writes: ``async for write in job``."""
        return Writes(self._iterable)

    def lines(self, limit_bytes: int = LINE_BYTES) -> Lines:
        """Iterate over its lines, both streams, each line with its stream. A line above the limit comes in parts."""
        return Lines(self._iterable, limit_bytes)

    @property
    def _iterable(self) -> Consumers:
        if self._consumers is None:
            raise TypeError("this job keeps everything for its result; iterate over one of open_job()")
        return self._consumers

    def pause(self) -> None:
        """Read no more: the command waits in its next write, when the kernel's queue is full. wait() waits for resume() then."""
        self._iterable.hold_back(held=True)

    def resume(self) -> None:
        """Read on."""
        self._iterable.hold_back(held=False)

    # What is done to it

    @property
    def pid(self) -> int:
        """The command's; it leads a process group of that number."""
        return self._job.pid

    @property
    def state(self) -> State:
        """Running; Terminating, when it is being ended; Completed or Failed, when it has ended and its outputs have everything."""
        outcome = self._job.outcome
        if outcome is None:
            return State.TERMINATING if self._is_ending else State.RUNNING
        return State.COMPLETED if self.spec.succeeded(outcome.exit) else State.FAILED

    @property
    def result(self) -> Result | None:
        """How it ended; None before somebody has waited for that."""
        return self._result

    def send_signal(self, number: int) -> None:
        """Send a signal to the command and all of its process group, if it has not ended."""
        has_ended = self._result is not None or (self._consumers is not None and self._consumers.ended)
        if not has_ended:
            self._job.send_signal(number)

    async def terminate(self, grace_s: float | None = None) -> Result:
        """End the whole process group: TERM, ``grace_s`` seconds, KILL; the result. A command that has ended stays as it is.

        None: as the spec's ``shutdown`` says, 10 s. From now on no iterator holds the job back; one that takes
        nothing meanwhile misses what is beyond 8 MiB.
        """
        if self._result is None:
            with anyio.CancelScope(shield=True):
                await self._stop(grace_s)
                await self.wait()
        return await self.wait()  # it is there: nothing is waited for

    async def _stop(self, grace_s: float | None) -> None:
        self._end_now()
        try:
            await self._job.stop(grace_s)
        except BaseException:  # cancelled once more, which no shield stops: there is no patience left
            self._job.kill()
            await self._job.stop(0)
            await self._end_feeding()
            raise

    async def kill(self) -> Result:
        """KILL the whole process group at once; what it wrote before is delivered."""
        self._end_now()
        self.send_signal(signal.SIGKILL)
        return await self.wait()

    async def wait(self) -> Result:
        """Wait until it has ended, and all outputs have what it wrote. What nobody iterates over is read and counted.

        Raises OutputError, CaptureError, UnknownExitStatusError; what the iterator of its input raised.
        """
        if self._result is None:
            self._begin()
            outcome = await self._job.wait()
            await self._end_feeding()
            if self._result is None:
                self._result = self._make_result(outcome)
                for error in (outcome.error, *self._errors, self._feeding_error()):
                    if error is not None:
                        raise error
        return self._result

    def _begin(self) -> None:
        if self._consumers is not None:
            self._consumers.begin()

    def _end_now(self) -> None:
        self._is_ending = True
        if self._consumers is not None:
            self._consumers.let_go()

    async def _end_feeding(self) -> None:
        if self.stdin is not None:
            self.stdin.close()
        if self._feeding is not None:
            self._feeding.cancel()
            await asyncio.wait([self._feeding])

    def _feeding_error(self) -> BaseException | None:
        return None if self._feeding is None or self._feeding.cancelled() else self._feeding.exception()

    def _make_result(self, outcome: Outcome) -> Result:
        job, memory = self._job, self._memory
        writes = memory.captured() if memory is not None else _NOTHING
        dropped_bytes = memory.dropped_bytes if memory is not None else 0
        if memory is None and self._consumers is not None:
            dropped_bytes = self._consumers.discarded_bytes
        return Result(
            self.spec.title,
            outcome.exit,
            writes,
            mode=job.capturing.transport.mode,
            exact=job.capturing.transport.exact,
            lossless=job.lossless and outcome.error is None,
            reason=job.loss or job.capturing.reason,
            writers_left=outcome.writers_left,
            started=self._started,
            duration_s=outcome.duration_s,
            dropped_bytes=dropped_bytes,
        )


def _report(errors: list[OSError], output: Output, error: OSError) -> None:
    """No method of the job: what does not know it cannot keep it, and its result, in memory until the next garbage collection."""
    errors.append(error if isinstance(error, OutputError) else OutputError(error.errno, error.strerror, output.name))


def _stdin_fd(stdin: Stdin, pipe: StdinPipe | None) -> bool | int:
    if pipe is not None:
        return pipe.child_fd
    if stdin == "inherit":
        return True
    fileno = getattr(stdin, "fileno", None)
    if fileno is None:
        raise TypeError(f'stdin: expected bytes, a file, an async iterator of bytes, "inherit" or "pipe", got {type(stdin).__name__}')
    return int(fileno())


@asynccontextmanager
async def open_job(
    command: Command,
    *,
    stdin: Stdin = None,
    outputs: Sequence[Output] = (),
    limit_bytes: int = 0,
    keep: Keep = "tail",
    grace_s: float | None = None,
    **options: Unpack[Options],
) -> AsyncIterator[RunningJob]:
    """Start a command, and have it as long as the block runs; what it writes is iterated over. See RunningJob, and Options for the rest.

    Leaving the block ends the whole process group (TERM, ``grace_s`` seconds, KILL) if it has not ended: call
    ``await job.wait()`` in it to let it finish. The result keeps the first or last ``limit_bytes``; by default nothing.
    ``outputs`` as of run().

    Raises as run(); an error of the block is raised as it is.
    """
    memory = BoundedMemory(limit_bytes, keep) if limit_bytes else None
    job = RunningJob(make_spec(command, options), stdin, [Consumers(), *map(GuardedOutput, outputs)], memory)
    try:
        yield job
    except BaseException:
        with contextlib.suppress(Exception):  # the error of the block is the one to know
            await job.terminate(grace_s)
        raise
    else:
        await job.terminate(grace_s)


async def run(
    command: Command,
    *,
    stdin: Stdin = None,
    outputs: Sequence[Output] = (),
    check: bool = False,
    timeout_s: float | None = None,
    limit_bytes: int | None = None,
    keep: Keep = "head",
    grace_s: float | None = None,
    **options: Unpack[Options],
) -> Result:
    """Run a command and keep every write it makes, in order; its session is its own. See Options for the rest.

    ``command``: an argument vector, a string for the shell, or a JobSpec. ``stdin``: /dev/null, bytes, a file, an async
    iterator of bytes, or ``"inherit"``. ``outputs``: objects of yours that get every batch of writes, see Output; one that
    raises is left out. ``limit_bytes``: keep no more than that, the first or the last; the result says how much was
    dropped. Cancelling, and ``timeout_s``, end the whole process group (TERM, ``grace_s`` seconds, KILL), and the
    outputs get all that was captured; a CancelledError has it, too: the Result is its attribute ``result``. The result
    says which capture mode it was and what that promises.

    Raises ConfigError, OutputError, CaptureError, SpawnError (CommandNotFoundError, which is a
    FileNotFoundError, when there is no such program), UnknownExitStatusError; with ``check``,
    CommandFailedError, and after ``timeout_s`` CommandTimeoutError, which carry the result; LoopError outside asyncio and uvloop.
    """
    memory = MemoryOutput() if limit_bytes is None else BoundedMemory(limit_bytes, keep)
    job = RunningJob(make_spec(command, options), stdin, [*map(GuardedOutput, outputs)], memory)
    result: Result | None = None
    try:
        with anyio.move_on_after(timeout_s):
            result = await job.wait()
    except BaseException as error:
        with contextlib.suppress(Exception):
            await job.terminate(grace_s)
        if isinstance(error, asyncio.CancelledError):
            vars(error)["result"] = job.result
        raise
    if result is None:
        assert timeout_s is not None
        raise CommandTimeoutError(await job.terminate(grace_s), timeout_s)
    if check and not job.spec.succeeded(result.exit):
        raise CommandFailedError(result)
    return result


def run_sync(command: Command, **options: Unpack[RunOptions]) -> Result:
    """run(), for a script without an event loop. Raises as run(), and RuntimeError where a loop runs already."""
    running = run(command, **options)
    try:
        return asyncio.run(running)
    finally:
        running.close()  # where a loop runs it never began, which is a warning
