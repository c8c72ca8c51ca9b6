"""Owns the supervisor of an async application: jobs that are started while it runs, and the end of them all."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import TYPE_CHECKING, Unpack

from ..config.jobsfile import load
from ..core.spec import JobSpec
from ..errors import ConfigError
from ..supervisor.events import Event, Stopping
from ..supervisor.supervisor import Supervisor as Run
from .events import EventQueue, Events
from .loops import HostLoop, captures_of_loop, running_loop, until_done
from .specs import Command, JobOptions, condition_of, make_spec
from .supervised import JobRecord, JobResult, SupervisedJob

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ..core.contracts import Output


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
        self._records: dict[str, JobRecord] = {}
        self._queues: list[EventQueue] = []
        self._run: Run | None = None
        self._task: asyncio.Task[int] | None = None

    async def __aenter__(self) -> Self:
        """Raises LoopError."""
        if self._run is not None:
            raise RuntimeError("a Supervisor can be entered once: make another")
        loop = running_loop()
        self._loop = HostLoop(loop)
        self._run = Run(self._loop, captures_of_loop(), (), self._tell, max_parallel=self._max_parallel)
        self._task = loop.create_task(self._run.run(stay_open=True), name="dtee_async supervisor")
        self._task.add_done_callback(self._over)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        run, task = self._entered()
        if all(service.state.final for service in run.services):
            run.close()
        else:
            self._begin_stop(run)
        await until_done([task])
        if error is None:
            task.result()

    @property
    def jobs(self) -> Mapping[str, SupervisedJob]:
        """All jobs by their names, those too that have ended."""
        return MappingProxyType(self._jobs)

    def start(self, command: Command, *, outputs: Callable[[], Iterable[Output]] = tuple, **options: Unpack[JobOptions]) -> SupervisedJob:
        """Start a command as a job, or have it wait for what it depends on; see JobOptions for all that can be said.

        Without a name it has a number: ``job-1``. ``outputs`` makes objects of yours that get every batch of writes, anew for
        each attempt; see Output. What prevents its start is in its result, as it may be started
        again. Raises ConfigError, also for a name that another job has; RuntimeError when the jobs are being stopped.
        """
        if not isinstance(command, JobSpec) and "name" not in options:
            options["name"] = self._free_name()
        spec = make_spec(command, options, JobOptions.__optional_keys__)
        for condition in spec.depends_on.values():
            condition_of(condition)
        return self._add([spec], outputs)[0]

    def load(self, path: str | os.PathLike[str]) -> list[SupervisedJob]:
        """Start all jobs of a jobs file; those that are disabled there stay so, and its ``max_parallel`` does not count.

        Raises ConfigError, and then none is started; RuntimeError when the jobs are being stopped.
        """
        return self._add(load([os.fspath(path)], os.environ).jobs)

    async def remove(self, name: str) -> JobResult:
        """End a job as SupervisedJob.stop() does, and forget it: its name is free, and its memory. Raises KeyError without such a job.

        What depends on it is ended before it, and stays.
        """
        run, _ = self._entered()
        job = self._jobs[name]
        result = await job.stop()
        if self._jobs.get(name) is job:  # another may have removed it meanwhile
            run.remove(name)
            del self._jobs[name], self._records[name]
        return result

    def events(self) -> Events:
        """Iterate over what happens from now on, until all is over: ``async for event in sup.events()``."""
        _, task = self._entered()
        return Events(self._queues, EventQueue(ended=task.done()))

    async def wait(self) -> int:
        """Wait until all jobs have ended, those too that are started meanwhile. 0 if all succeeded, else the first failure's status."""
        run, task = self._entered()
        with ExitStack() as stack:
            for record in self._records.values():
                stack.enter_context(record.consumers.awaited_by(asyncio.current_task()))
            while waited_for := [service for service in run.services if not service.state.final]:
                for service in waited_for:
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

    def _add(self, specs: Sequence[JobSpec], make_outputs: Callable[[], Iterable[Output]] = tuple) -> list[SupervisedJob]:
        run, _ = self._entered()
        for spec in specs:
            if spec.name in self._jobs:
                raise ConfigError(f"jobs.{spec.name}: there is a job of this name already: give each a name of its own")
        records = {spec.name: JobRecord(self._loop, spec.outputs, make_outputs) for spec in specs}
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
