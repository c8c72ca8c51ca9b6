"""Owns a command that an async application runs: its start, what is asked of it while it runs, its end and its result."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from errno import ETIMEDOUT
from functools import partial
from typing import TYPE_CHECKING, Protocol, Unpack

import anyio

from ..core.lifecycle import State
from ..core.result import Captured, Result
from ..core.textlines import LINE_BYTES
from ..errors import CommandFailedError, CommandTimeoutError, DteeError, OutputError
from ..output.consumers import Consumers
from ..output.guarded import GuardedOutput
from ..output.memory import BoundedMemory, MemoryOutput, memory_for
from ..supervisor.files import close_all, open_in_host
from ..supervisor.job import NOTHING, Job, Surroundings
from .iterators import Lines, Writes
from .loops import HostLoop, captures_of_loop, loop_runs, running_loop
from .specs import Command, Keep, Options, RunOptions, check_patience, make_spec
from .stdin import Input, Stdin, StdinPipe, one_chunk, refuse_pipe

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
        self._stdin: StdinPipe | None = None
        self._memory = memory
        self._consumers = next((output for output in outputs if isinstance(output, Consumers)), None)
        self._errors: list[OSError] = []
        self._result: Result | None = None
        self._failure: BaseException | None = None
        self.raised: BaseException | None = None
        """What wait() has raised."""
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
                self._stdin = pipe
            else:
                chunks = one_chunk(stdin) if isinstance(stdin, bytes) else stdin
                assert isinstance(chunks, AsyncIterable)
                self._feeding = loop.create_task(pipe.send_all(chunks))

    def _make_job(self, loop: Loop, outputs: Sequence[Output], surroundings: Surroundings) -> Job:
        everything = [*outputs, *([self._memory] if self._memory is not None else ())]
        try:
            everything += open_in_host(self.spec.outputs, loop)
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
    def stdin(self) -> StdinPipe:
        """Where to write its input to, with ``stdin="pipe"``. Raises RuntimeError without."""
        if self._stdin is None:
            raise RuntimeError('this job has no stdin to write to: open_job(..., stdin="pipe")')
        return self._stdin

    @property
    def pid(self) -> int:
        """The command's; it leads a process group of that number."""
        return self._job.pid

    @property
    def state(self) -> State:
        """Running; Terminating, when it is being ended; Completed or Failed, when it has ended and its outputs have everything.

        Who was told to end, and did by that signal, has completed.
        """
        outcome = self._job.outcome
        if outcome is None:
            return State.TERMINATING if self._is_ending else State.RUNNING
        went_well = outcome.error is None and self.spec.succeeded(outcome.exit, told=self._is_ending)
        return State.COMPLETED if went_well else State.FAILED

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
        nothing meanwhile misses what is beyond 8 MiB. Cancelled, it does not wait any longer, and kills. Raises as wait().
        """
        check_patience(grace_s=grace_s)
        if self._result is None:
            with anyio.CancelScope(shield=True):
                await self._stop(grace_s)
                await self._end()
        return self._checked()

    async def _stop(self, grace_s: float | None) -> None:
        self._end_now()
        try:
            await self._job.stop(grace_s)
        except BaseException:  # cancelled once more, which no shield stops: there is no patience left
            if self._feeding is not None:
                self._feeding.cancel()
            self._job.kill()
            await self._job.stop(0)
            await self._end()
            raise

    async def kill(self) -> Result:
        """KILL the whole process group at once; what it wrote before is delivered."""
        self._end_now()
        self.send_signal(signal.SIGKILL)
        return await self.wait()

    async def wait(self) -> Result:
        """Wait until it has ended, and all outputs have what it wrote. What nobody iterates over is read, counted and thrown away.

        An iterator of the task that waits here holds nobody back, as it cannot be iterated over meanwhile; it misses what is beyond 8 MiB.
        In a task made for the waiting that cannot be known: there is asyncio.timeout(), where asyncio.wait_for() of Python 3.11 makes one.
        Raises, also if called again, OutputError, CaptureError, UnknownExitStatusError; what the iterator of its input raised.
        """
        if self._result is None:
            with self.awaited():
                await self._end()
        return self._checked()

    def awaited(self) -> AbstractContextManager[None]:
        """Around what waits for its end, in this task."""
        return contextlib.nullcontext() if self._consumers is None else self._consumers.awaited_by(asyncio.current_task())

    async def _end(self) -> None:
        """Wait for the end; then there is a result."""
        outcome = await self._job.wait()
        await self._end_feeding()
        if self._result is None:
            self._result = self._make_result(outcome)
            given_up = [
                OutputError(ETIMEDOUT, f"{size_bytes} bytes were not delivered in time, and are lost", output.name)
                for output, size_bytes in outcome.dropped
                if output.name not in [error.filename for error in self._errors]
            ]
            failures = [outcome.error, *self._errors, *given_up, self._feeding_error()]
            self._failure = next((failure for failure in failures if failure is not None), None)

    def _checked(self) -> Result:
        assert self._result is not None
        if self._failure is not None:
            if isinstance(self._failure, DteeError):
                self._failure.result = self._result
            self.raised = self._failure
            raise self._failure
        return self._result

    def _end_now(self) -> None:
        self._is_ending = True
        if self._consumers is not None:
            self._consumers.let_go()

    async def _end_feeding(self) -> None:
        if self._stdin is not None:
            self._stdin.close()
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


class _Running(Protocol):
    """A job, or a pipeline of them. ``raised``: what its wait() has raised."""

    raised: BaseException | None

    async def terminate(self, grace_s: float | None = None) -> object: ...


@asynccontextmanager
async def ended_with_block(running: _Running, grace_s: float | None) -> AsyncIterator[None]:
    """End it however the block is left. Raises the block's error, else what went wrong with it, unless the block was told that already."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):  # the error of the block is the one to know
            await running.terminate(grace_s)
        raise
    told = running.raised
    try:
        await running.terminate(grace_s)
    except Exception as error:
        if error is not told:
            raise


@asynccontextmanager
async def open_job(
    command: Command,
    *,
    stdin: Stdin = None,
    outputs: Sequence[Output] = (),
    limit_bytes: int | None = 0,
    keep: Keep = "tail",
    grace_s: float | None = None,
    **options: Unpack[Options],
) -> AsyncIterator[RunningJob]:
    """Start a command, and have it as long as the block runs; what it writes is iterated over. See RunningJob, and Options for the rest.

    Leaving the block ends the whole process group (TERM, ``grace_s`` seconds, KILL) if it has not ended: call
    ``await job.wait()`` in it to let it finish. The result keeps the first or last ``limit_bytes``;
    by default nothing, with None everything.
    ``outputs`` as of run().

    Raises as run(); an error of the block is raised as it is.
    """
    check_patience(grace_s=grace_s)
    memory = memory_for(limit_bytes, keep) if limit_bytes != 0 else None
    job = RunningJob(make_spec(command, options), stdin, [Consumers(), *map(GuardedOutput, outputs)], memory)
    async with ended_with_block(job, grace_s):
        yield job


async def run(
    command: Command,
    *,
    stdin: Input = None,
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
    CommandFailedError, and after ``timeout_s`` CommandTimeoutError; LoopError outside asyncio and uvloop. All errors
    after the start carry the result.
    """
    refuse_pipe(stdin, "open_job")
    check_patience(grace_s=grace_s, timeout_s=timeout_s)
    memory = memory_for(limit_bytes, keep)
    job = RunningJob(make_spec(command, options), stdin, [*map(GuardedOutput, outputs)], memory)
    result: Result | None = None
    try:
        if timeout_s is None:
            result = await job.wait()
        else:
            with anyio.move_on_after(timeout_s):
                result = await job.wait()
    except BaseException as error:
        try:
            await job.terminate(grace_s)
        except asyncio.CancelledError as again:
            vars(again)["result"] = job.result
            raise
        except Exception:  # noqa: BLE001, S110 - the first error is the one to know
            pass
        if isinstance(error, asyncio.CancelledError):
            vars(error)["result"] = job.result
        raise
    if result is None:
        assert timeout_s is not None
        failure: DteeError | None = None
        try:
            await job.terminate(grace_s)
        except DteeError as error:
            failure = error
        assert job.result is not None
        raise CommandTimeoutError(job.result, timeout_s) from failure
    if check and not job.spec.succeeded(result.exit):
        raise CommandFailedError(result)
    return result


def run_sync(command: Command, **options: Unpack[RunOptions]) -> Result:
    """run(), for a script without an event loop. Raises as run(), and RuntimeError where a loop runs already."""
    if loop_runs():
        raise RuntimeError("an event loop runs in this thread, which run_sync() would stop: await dtee_async.run(...)")
    return asyncio.run(run(command, **options))
