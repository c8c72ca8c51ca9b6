"""Owns a run of many jobs: all start at once, each is watched by a task of its own, and a stop ends every one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import anyio

from ..errors import CaptureError, CommandNotFoundError, SpawnError, UnknownExitStatusError
from ..process.group import members
from .events import (
    CaptureFailed,
    Event,
    JobExited,
    JobFailedToStart,
    JobLeftRunning,
    JobStarted,
    JobUnguarded,
    OutputDropped,
    OutputFailed,
    OutputLost,
    Stopping,
)
from .job import Job

if TYPE_CHECKING:
    from ..core.contracts import Loop, Output
    from ..core.spec import JobSpec
    from ..engine.captures import Captures
    from ..engine.command import Outcome

GRACE_S = 10.0
LAST_WORDS = 0.75
REMEDY = 'capture = "turnstile"'
EX_NOINPUT, EX_UNAVAILABLE, EX_OSERR, EX_IOERR = 66, 69, 71, 74


class Supervisor:
    """Runs jobs, each given with its outputs, which it takes over; tells what happens to ``on_event``."""

    def __init__(
        self,
        loop: Loop,
        captures: Captures,
        jobs: Sequence[tuple[JobSpec, Sequence[Output]]],
        on_event: Callable[[Event], None],
        *,
        grace_s: float = GRACE_S,
    ) -> None:
        self.status = 0
        """0 when all succeeded, else the status of the job that failed first in time."""
        self.stopped_by: int | None = None
        """The signal that stopped the run."""
        self.deadline_s = 0.0
        """Until when our own output may go on after a stop, on the loop's clock: a stuck terminal must not use up the grace period."""
        self._loop = loop
        self._captures = captures
        self._jobs = jobs
        self._tell = on_event
        self._grace_s = grace_s
        self._running: set[Job] = set()
        self._stopping = anyio.Event()
        self._now = anyio.Event()

    async def run(self) -> int:
        """Start all jobs and wait until every one has ended; the exit status of the run."""
        async with anyio.create_task_group() as group:
            for spec, outputs in self._jobs:
                if self._stopping.is_set():
                    close_all(outputs)
                else:
                    group.start_soon(self._run_job, spec, outputs)
        return self.status

    def stop(self, number: int) -> None:
        """End every job: TERM, the grace period, KILL. Called again: KILL at once."""
        now = self._stopping.is_set()
        self.deadline_s = anyio.current_time() + (0 if now else self._grace_s * LAST_WORDS)
        if self.stopped_by is None:
            self.stopped_by = number
        if not self._now.is_set():
            self._tell(Stopping(number, now))
        if now:
            self.kill()
        self._stopping.set()

    async def wait_stopping(self) -> None:
        """Until somebody stops the run."""
        await self._stopping.wait()

    def resize(self, rows: int, columns: int) -> None:
        """Our window has another size: hand that on to the jobs that have a terminal."""
        for job in self._running:
            job.resize(rows, columns)

    def kill(self) -> None:
        """KILL every job's group at once."""
        self._stopping.set()
        self._now.set()
        for job in self._running:
            job.kill()

    async def _run_job(self, spec: JobSpec, outputs: Sequence[Output]) -> None:
        if self._stopping.is_set():
            close_all(outputs)
            return
        job = self._start(spec, outputs)
        if job is None:
            return
        self._running.add(job)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._stop_when_told, job)
                outcome = await job.wait()
                if not self._stopping.is_set():
                    group.cancel_scope.cancel()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await job.stop(self._grace_s)
            raise
        finally:
            self._running.discard(job)
        self._ended(job, outcome)

    def _start(self, spec: JobSpec, outputs: Sequence[Output]) -> Job | None:
        def report(output: Output, error: OSError) -> None:
            self._fail(EX_IOERR)
            self._tell(OutputFailed(spec.name, output.name, error))

        try:
            job = Job(self._loop, self._captures, spec, outputs, report)
        except CaptureError as error:
            close_all(outputs)
            self._failed_to_start(spec, error, EX_UNAVAILABLE)
            return None
        try:
            job.start()
        except SpawnError as error:
            self._failed_to_start(spec, error, EX_NOINPUT if isinstance(error, CommandNotFoundError | PermissionError) else EX_OSERR)
            return None
        except UnknownExitStatusError as error:
            self._failed_to_start(spec, error, EX_OSERR)
            return None
        transport, reason, fell_back = job.capturing
        self._tell(JobStarted(spec.name, job.pid, spec.title, transport.mode, transport.exact, reason, fell_back))
        if job.unguarded is not None:
            self._tell(JobUnguarded(spec.name, job.unguarded))
        return job

    def _failed_to_start(self, spec: JobSpec, error: OSError, status: int) -> None:
        self._fail(status)
        self._tell(JobFailedToStart(spec.name, error, status))

    def _fail(self, status: int) -> None:
        self.status = self.status or status

    async def _stop_when_told(self, job: Job) -> None:
        await self._stopping.wait()
        with anyio.CancelScope(shield=True):
            if self._now.is_set():
                job.kill()
            await job.stop(self._grace_s)

    def _ended(self, job: Job, outcome: Outcome) -> None:
        name = job.spec.name
        if outcome.error is not None:
            self._fail(EX_IOERR)
            self._tell(CaptureFailed(name, outcome.error))
        for output, size_bytes in outcome.dropped:
            self._tell(OutputDropped(name, output.name, size_bytes))
        self._fail(outcome.exit.status)
        lossless = outcome.error is None and job.lossless
        self._tell(JobExited(name, outcome.exit, outcome.duration_s, outcome.writers_left, lossless))
        if job.loss:
            self._tell(OutputLost(name, job.loss, REMEDY))
        if left := members(job.pid):
            self._tell(JobLeftRunning(name, left))


def close_all(outputs: Sequence[Output]) -> None:
    """Close outputs that never got a job."""
    for output in outputs:
        output.close()
