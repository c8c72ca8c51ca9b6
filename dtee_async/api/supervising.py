"""Owns the supervisor of an async application: jobs that are started while it runs, what is asked of each, and the end of them all."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Unpack

import anyio

from ..config.jobsfile import load
from ..core.batch import Batch
from ..core.exit import Exit
from ..core.graph import check_dependencies
from ..core.lifecycle import State
from ..core.policy import Condition
from ..core.spec import JobSpec
from ..core.textlines import LINE_BYTES, Line, LineSplitter
from ..errors import ConfigError, DteeError
from ..output.consumers import Consumers
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
    Stopping,
)
from ..supervisor.files import open_in_host
from ..supervisor.supervisor import Supervisor as Run
from .iterators import Lines, Writes, _Iterator, _Source
from .loops import captures_of_loop, running_loop
from .specs import Command, Options, make_spec

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ..core.contracts import Flow, Loop, Output
    from ..core.outputs import OutputFile
    from ..supervisor.service import Service

EVENTS_HELD = 1000
"""So many events wait for an iterator; of more than that the oldest are lost."""


@dataclass(frozen=True, slots=True)
class EventsLost:
    """An iterator did not keep up: ``count`` events that came just before the next one are lost."""

    count: int


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


class _Border(Batch):
    """Stands between the writes of two attempts."""

    def __init__(self) -> None:
        super().__init__([], (), b"")

    def detach(self) -> Batch:
        return self


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
        self._consumers.write(_Border())
        self._consumers.open(_NoFlow())
        self._flow.resume()

    def close(self) -> int:
        return 0


class _AttemptLines(Lines):
    """Lines that end with the attempt that wrote them."""

    def __init__(self, consumers: Consumers, limit_bytes: int) -> None:
        splitter = LineSplitter(limit_bytes)

        def lines(batch: Batch) -> Iterator[Line]:
            if isinstance(batch, _Border):
                return iter(splitter.end())
            return (line for write in batch for line in splitter.feed(write))

        _Iterator.__init__(self, _Source(consumers, lines, splitter.end))


class _Record:
    """What is kept of a job: its outlets (see supervisor.service), and what was told of it."""

    def __init__(self, loop: Loop, files: Sequence[OutputFile]) -> None:
        self.consumers = Consumers()
        self.consumers.begin()
        self.pid: int | None = None
        self.exit: Exit | None = None
        self.error: OSError | None = None
        self.reason = ""
        self.lossless = True
        self._loop = loop
        self._files = files

    def open(self) -> list[Output]:
        files = open_in_host(self._files, self._loop)
        self._files = [file._replace(append=True) for file in self._files]
        return [_Attempt(self.consumers), *files]

    def close(self) -> None:
        self.consumers.end(Exit(0))

    def note(self, event: Event) -> None:
        match event:
            case JobStarted(pid=pid):
                self.pid, self.exit, self.error, self.reason = pid, None, None, ""
            case JobExited(exit=exit, lossless=lossless):
                self.pid, self.exit = None, exit
                self.lossless = self.lossless and lossless
            case JobFailedToStart(error=error):
                self.exit, self.error = None, error
            case CaptureFailed(error=error) | OutputFailed(error=error):
                self.error = error
            case JobSkipped(reason=reason) | JobGivenUp(reason=reason) | JobUnhealthy(reason=reason):
                self.reason = reason
            case _:
                pass


class SupervisedJob:
    """A job of a Supervisor, through all its attempts; ``start()`` and ``load()`` make it."""

    def __init__(self, run: Run, service: Service, records: Mapping[str, _Record]) -> None:
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
        return _AttemptLines(self._record.consumers, limit_bytes)

    async def reaches(self, condition: Condition | str) -> None:
        """Wait until it has reached that: ``process_started``, ``process_healthy``, ``process_log_ready``, ``process_completed``, ...

        Raises ConfigError for what it can never reach, as it is specified, and DteeError when it has ended without.
        """
        condition = _condition(condition)
        asker = JobSpec(f"(who waits for {self.name})", "true", depends_on={self.name: condition})
        check_dependencies([replace(self.spec, depends_on={}, disabled=False), asker])
        if not await self._service.reaches(condition):
            raise DteeError(f"{self.name} is {self.state}, and has not reached {condition}{self._why()}")

    def _why(self) -> str:
        why = self._record.error or self._record.reason
        return f": {why}" if why else ""

    async def wait(self) -> JobResult:
        """Wait until it has ended for good. A job that is started again whenever it ends has to be stopped by somebody."""
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

    async def stop(self) -> JobResult:
        """End it as its ``shutdown`` says, after all that depend on it; the other jobs go on. A job that has ended stays as it is."""
        for service in self._run.stop_job(self._service):
            self._records[service.spec.name].consumers.let_go()
        return await self.wait()


class _Queue:
    """The events that wait for one iterator, which it does not know."""

    def __init__(self, *, ended: bool) -> None:
        self.ended = ended
        self.news = anyio.Event()
        self._events: deque[Event] = deque()
        self._lost = 0

    def put(self, event: Event) -> None:
        if len(self._events) == EVENTS_HELD:
            self._events.popleft()
            self._lost += 1
        self._events.append(event)
        self.news.set()

    def end(self) -> None:
        self.ended = True
        self.news.set()

    def take(self) -> Event | EventsLost | None:
        if self._lost:
            lost, self._lost = self._lost, 0
            return EventsLost(lost)
        return self._events.popleft() if self._events else None


class Events:
    """What happens to the jobs of a supervisor, from now on until all is over; at most 1,000 events wait to be taken."""

    def __init__(self, queues: list[_Queue], queue: _Queue) -> None:
        self._queues = queues
        self._queue = queue
        queues.append(queue)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | EventsLost:
        queue = self._queue
        while (event := queue.take()) is None:
            if queue.ended:
                raise StopAsyncIteration
            if queue.news.is_set():
                queue.news = anyio.Event()
            await queue.news.wait()
        return event

    def close(self) -> None:
        """Iterate no more; also done when the iterator is no longer referred to. May be called twice."""
        self._queue.end()
        if self._queue in self._queues:
            self._queues.remove(self._queue)

    def __del__(self) -> None:
        self.close()


class Supervisor:
    """Runs jobs: ``async with Supervisor() as sup: job = sup.start(...)``. At most ``max_parallel`` at once; 0: no limit.

    Leaving the block ends all jobs that have not ended (as ``shutdown`` says: TERM, 10 s, KILL), those that
    others depend on last; ``await sup.wait()`` in it lets them finish. An error of the block is raised as it is. It
    installs no signal handler, and processes that have left a job's process group are not its concern.
    """

    def __init__(self, max_parallel: int = 0) -> None:
        """Raises ConfigError."""
        if max_parallel < 0:
            raise ConfigError(f"max_parallel: expected 0 (no limit) or more, got {max_parallel}")
        self._max_parallel = max_parallel
        self._jobs: dict[str, SupervisedJob] = {}
        self._records: dict[str, _Record] = {}
        self._queues: list[_Queue] = []
        self._run: Run | None = None
        self._task: asyncio.Task[int] | None = None

    async def __aenter__(self) -> Self:
        """Raises LoopError."""
        if self._run is not None:
            raise RuntimeError("a Supervisor can be entered once: make another")
        self._loop = running_loop()
        self._run = Run(self._loop, captures_of_loop(), (), self._tell, max_parallel=self._max_parallel)
        self._task = self._loop.create_task(self._run.run(stay_open=True), name="dtee_async supervisor")
        self._task.add_done_callback(self._over)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        run, task = self._entered()
        if all(service.state.final for service in run.services):
            run.close()
        else:
            self._begin_stop(run)
        await _until_over(task)
        if error is None:
            task.result()

    @property
    def jobs(self) -> Mapping[str, SupervisedJob]:
        """All jobs by their names, those too that have ended."""
        return MappingProxyType(self._jobs)

    def start(self, command: Command, **options: Unpack[Options]) -> SupervisedJob:
        """Start a command as a job, or have it wait for what it depends on; see Options, and JobSpec for all that can be said.

        Without a name it has a number: ``job-1``. What prevents its start is in its result, as it may be started
        again. Raises ConfigError, also for a name that another job has; RuntimeError when the jobs are being stopped.
        """
        if not isinstance(command, JobSpec) and "name" not in options:
            options["name"] = self._free_name()
        spec = make_spec(command, options)
        for condition in spec.depends_on.values():
            _condition(condition)
        return self._add([spec])[0]

    def load(self, path: str | os.PathLike[str]) -> list[SupervisedJob]:
        """Start all jobs of a jobs file; those that are disabled there stay so, and its ``max_parallel`` does not count.

        Raises ConfigError, and then none is started; RuntimeError when the jobs are being stopped.
        """
        return self._add(load([os.fspath(path)], os.environ).jobs)

    def events(self) -> Events:
        """Iterate over what happens from now on, until all is over: ``async for event in sup.events()``."""
        _, task = self._entered()
        return Events(self._queues, _Queue(ended=task.done()))

    async def wait(self) -> int:
        """Wait until all jobs have ended, those too that are started meanwhile. 0 if all succeeded, else the first failure's status."""
        run, task = self._entered()
        for service in run.services:  # it grows meanwhile
            await service.ended()
        if run.closed:
            await asyncio.wait([task])
        return run.status

    async def stop(self) -> int:
        """End all jobs, those that others depend on last; nothing can be started any more. The status, as of wait()."""
        run, task = self._entered()
        self._begin_stop(run)
        await asyncio.wait([task])
        return run.status

    def _entered(self) -> tuple[Run, asyncio.Task[int]]:
        if self._run is None or self._task is None:
            raise RuntimeError("this Supervisor does not run: async with Supervisor() as sup")
        return self._run, self._task

    def _free_name(self) -> str:
        number = len(self._jobs) + 1
        while f"job-{number}" in self._jobs:
            number += 1
        return f"job-{number}"

    def _add(self, specs: Sequence[JobSpec]) -> list[SupervisedJob]:
        run, _ = self._entered()
        for spec in specs:
            if spec.name in self._jobs:
                raise ConfigError(f"jobs.{spec.name}: there is a job of this name already: give each a name of its own")
        records = {spec.name: _Record(self._loop, spec.outputs) for spec in specs}
        self._records |= records  # before they start, which an eager task does at once
        try:
            services = run.add([(spec, records[spec.name]) for spec in specs])
        except BaseException:
            for name in records:
                del self._records[name]
            raise
        jobs = [SupervisedJob(run, service, self._records) for service in services]
        self._jobs |= {job.name: job for job in jobs}
        return jobs

    def _begin_stop(self, run: Run) -> None:
        if not run.closed:
            run.stop(0)

    def _tell(self, event: Event) -> None:
        if isinstance(event, Stopping):
            for each in self._records.values():
                each.consumers.let_go()
        elif (record := self._records.get(getattr(event, "job", ""))) is not None:
            record.note(event)
        for queue in self._queues:
            queue.put(event)

    def _over(self, task: asyncio.Task[int]) -> None:
        for queue in self._queues:
            queue.end()


async def _until_over(task: asyncio.Task[int]) -> None:
    """Wait for the end of the task; being cancelled meanwhile, by whatever means, does not cut that short."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            with anyio.CancelScope(shield=True):
                await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def _condition(word: str) -> Condition:
    try:
        return Condition(word)
    except ValueError as error:
        raise ConfigError(f"condition: expected one of {', '.join(Condition)}, got {word!r}") from error
