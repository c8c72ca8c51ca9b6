"""Owns a job of a supervisor as its application has it: what it says through all its attempts, what is asked of it, how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from errno import EIO
from typing import TYPE_CHECKING

from ..core.exit import Exit
from ..core.graph import never
from ..core.lifecycle import State
from ..core.policy import Condition
from ..core.spec import JobSpec
from ..core.textlines import LINE_BYTES
from ..errors import ConfigError, DteeError, OutputError
from ..output.consumers import Border, Consumers
from ..output.guarded import GuardedOutput
from ..supervisor.events import (
    CaptureFailed,
    Event,
    JobExited,
    JobFailedToStart,
    JobGivenUp,
    JobSkipped,
    JobStarted,
    JobUnhealthy,
    OutputFailed,
)
from ..supervisor.files import close_all, open_in_host
from .iterators import Lines, Writes
from .specs import condition_of

if TYPE_CHECKING:
    from ..core.batch import Batch
    from ..core.contracts import Flow, Loop, Output
    from ..core.outputs import OutputFile
    from ..supervisor.service import Service
    from ..supervisor.supervisor import Supervisor as Run


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a supervised job ended for good. Times are in seconds and count all its attempts, memory is the largest, in bytes.

    ``attempts``: how often it was started; 0: never. ``exit``: how its last attempt ended, and ``status`` the
    same as a shell shows it; None where there was none. ``reason``: why it was skipped, given up or found unhealthy.
    ``error``: why it could not be started, or what became of its output. ``lossless``: nothing speaks for lost output.
    """

    name: str
    state: State
    attempts: int
    exit: Exit | None
    status: int | None
    reason: str
    error: OSError | None
    lossless: bool
    duration_s: float
    cpu_s: float
    max_rss_bytes: int

    @property
    def succeeded(self) -> bool:
        """Whether it has completed, and well."""
        return self.state is State.COMPLETED


class _NoFlow:
    """Of a job between two attempts."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def report(self, error: OSError) -> None: ...
    def when_writable(self, fd: int, callback: object) -> None: ...


class _Attempt:
    """One attempt, as an output: who iterates goes on after it."""

    name = "consumers"
    wants_stamps = True

    def __init__(self, consumers: Consumers) -> None:
        self._consumers = consumers

    def open(self, flow: Flow) -> None:
        self._flow = flow
        self._consumers.open(flow)

    def write(self, batch: Batch) -> None:
        self._consumers.write(batch)

    def end(self, exit: Exit) -> None:
        self._consumers.write(Border())
        self._consumers.open(_NoFlow())
        self._flow.resume()

    def close(self) -> int:
        return 0


class JobRecord:
    """What is kept of a job: its outlets (see supervisor.service), and what was told of it."""

    def __init__(self, loop: Loop, files: Sequence[OutputFile], make_outputs: Callable[[], Iterable[Output]]) -> None:
        self.consumers: Consumers = Consumers()
        self.consumers.begin()
        self.pid: int | None = None
        self.exit: Exit | None = None
        self.error: OSError | None = None
        self.reason: str = ""
        self.lossless: bool = True
        self._loop = loop
        self._files = files
        self._make_outputs = make_outputs

    def open(self) -> list[Output]:
        self.exit, self.error, self.reason = None, None, ""
        files = open_in_host(self._files, self._loop)
        theirs: list[Output] = []
        try:
            theirs.extend(map(GuardedOutput, self._make_outputs()))
        except Exception as error:
            close_all([*files, *theirs])
            raise OutputError(EIO, f"{type(error).__name__}: {error}", "outputs") from error
        self._files = [file._replace(append=True) for file in self._files]
        return [_Attempt(self.consumers), *files, *theirs]

    def close(self) -> None:
        self.consumers.end(Exit(0))

    def note(self, event: Event) -> None:
        match event:
            case JobStarted(pid=pid):
                self.pid = pid
            case JobExited(exit=exit, lossless=lossless):
                self.pid, self.exit = None, exit
                self.lossless = self.lossless and lossless
            case JobFailedToStart(error=error) | CaptureFailed(error=error) | OutputFailed(error=error):
                self.error = error
            case JobSkipped(reason=reason) | JobGivenUp(reason=reason) | JobUnhealthy(reason=reason):
                self.reason = reason
            case _:
                pass


class SupervisedJob:
    """A job of a Supervisor, through all its attempts; ``start()`` and ``load()`` make it."""

    def __init__(self, run: Run, service: Service, records: Mapping[str, JobRecord]) -> None:
        self._run = run
        self._service = service
        self._records = records
        self._record = records[service.spec.name]

    def __repr__(self) -> str:
        return f"<SupervisedJob {self.name}: {self.state}>"

    @property
    def spec(self) -> JobSpec:
        """What it is."""
        return self._service.spec

    @property
    def name(self) -> str:
        """Its name, which no other job of the supervisor has."""
        return self.spec.name

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._service.state

    @property
    def attempts(self) -> int:
        """How often it was started."""
        return self._service.attempt

    @property
    def pid(self) -> int | None:
        """The command's, while it runs."""
        return self._record.pid

    def writes(self) -> Writes:
        """Iterate over its writes from now on, those of later attempts too. Nobody need: what nobody takes is thrown away.

        The slowest iterator sets the pace of the job.
        """
        return Writes(self._record.consumers)

    def lines(self, limit_bytes: int = LINE_BYTES) -> Lines:
        """Iterate over its lines from now on, each with its stream; a line above the limit comes in parts. Raises ConfigError."""
        return Lines(self._record.consumers, limit_bytes)

    async def reaches(self, condition: Condition | str) -> None:
        """Wait until it has reached that: ``process_started``, ``process_healthy``, ``process_log_ready``, ``process_completed``, ...

        Raises ConfigError for what it can never reach, as it is specified, and DteeError when it has ended without.
        """
        condition = condition_of(condition)
        if problem := never(self.spec, condition):
            raise ConfigError(f"jobs.{self.name}: {problem}")
        if not await self._service.reaches(condition):
            raise DteeError(f"{self.name} is {self.state}, and has not reached {condition}{self._why()}")

    def _why(self) -> str:
        why = self._record.error or self._record.reason
        return f": {why}" if why else ""

    async def wait(self) -> JobResult:
        """Wait until it has ended for good. A job that is started again whenever it ends has to be stopped by somebody.

        An iterator of the task that waits here holds nobody back; it misses what is beyond 8 MiB.
        """
        with self._record.consumers.awaited_by(asyncio.current_task()):
            await self._service.ended()
        record, tally = self._record, self._service.tally
        return JobResult(
            self.name,
            self.state,
            self.attempts,
            record.exit,
            tally.status,
            record.reason,
            record.error,
            record.lossless,
            tally.duration_s,
            tally.cpu_s,
            tally.max_rss_bytes,
        )

    def send_signal(self, number: int) -> None:
        """Send a signal to its process group, if it runs: HUP, for example, to have it read its configuration again."""
        self._service.send_signal(number)

    async def stop(self) -> JobResult:
        """End it as its ``shutdown`` says, after all that depend on it; the other jobs go on. A job that has ended stays as it is."""
        for service in self._run.stop_job(self._service):
            if not service.state.final:
                self._records[service.spec.name].consumers.let_go()
        return await self.wait()
