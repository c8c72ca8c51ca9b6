"""Owns a run of many jobs: they start when what they depend on is there, each in a task of its own, and a stop ends every one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from ..core.graph import check_dependencies
from .events import Event, Stopping, StraysKilled
from .house import REAL, House, Outlets, Scene
from .job import NOTHING, Surroundings
from .places import Places
from .service import Service
from .stop import end_strays

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from ..core.contracts import Loop
    from ..core.spec import JobSpec
    from ..engine.captures import Captures

LAST_WORDS = 0.75


class Supervisor:
    """Runs jobs, each given with its outlets, which it takes over; tells what happens to ``on_event``."""

    def __init__(
        self,
        loop: Loop,
        captures: Captures,
        jobs: Sequence[tuple[JobSpec, Outlets]],
        on_event: Callable[[Event], None],
        *,
        max_parallel: int = 0,
        surroundings: Surroundings = NOTHING,
        scene: Scene = REAL,
    ) -> None:
        """``max_parallel``: how many jobs run at once; 0: all. Raises ConfigError for dependencies that cannot be."""
        self.status: int = 0
        """0 when all succeeded, else the status of the job that failed first in time, or of that which ended the run."""
        self.stopped_by: int | None = None
        """The signal that stopped the run."""
        self.deadline_s: float = 0.0
        """Until when our own output may go on after a stop, on the loop's clock: a stuck terminal must not use up the grace period."""
        self._loop = loop
        self._tell = on_event
        self._census = surroundings.census
        self._decided = False
        self._stopping = anyio.Event()
        self._closing = anyio.Event()
        self._killing = False
        self._group: TaskGroup | None = None
        places = Places(max_parallel, on_event)
        self._house = House(loop, captures, on_event, self._fail, self._end_run, places, surroundings, scene)
        self._by_name: dict[str, Service] = {}
        self.services: list[Service] = []
        self.add(jobs)

    def add(self, jobs: Sequence[tuple[JobSpec, Outlets]]) -> list[Service]:
        """More jobs, before or while it runs, each with a name of its own; they may depend on all that are there.

        Raises ConfigError for dependencies that cannot be, RuntimeError when it is closed; then none was added, nor its outlets taken over.
        """
        if self.closed:
            raise RuntimeError("the jobs of this run are being stopped, or have ended: nothing more can be started in it")
        self._check([spec for spec, _ in jobs])
        services = [Service(spec, outlets, self._house) for spec, outlets in jobs]
        self.services += services
        self._by_name |= {service.spec.name: service for service in services}
        for service in services:
            self._connect(service)
        if self._group is not None:
            for service in services:
                self._group.start_soon(service.run)
        return services

    def remove(self, name: str) -> None:
        """Forget a job that has ended for good: its name is free. What it has left is left alone from now on."""
        service = self._by_name.pop(name)
        self.services.remove(service)
        for other, _ in service.after:
            other.before.remove(service)

    def _check(self, specs: Sequence[JobSpec]) -> None:
        """What is there was checked when it came, and depends on nobody who is new."""
        known = [replace(service.spec, depends_on={}) for service in self.services] if any(spec.depends_on for spec in specs) else []
        check_dependencies([*known, *specs])

    def _connect(self, service: Service) -> None:
        for name, condition in service.spec.depends_on.items():
            other = self._by_name[name]
            service.after.append((other, condition))
            other.before.append(service)

    async def run(self, *, stay_open: bool = False) -> int:
        """Run all jobs until every one has ended; the exit status of the run. Cancelled, it ends them first.

        ``stay_open``: and until close() or a stop; more may be added until then.
        """
        try:
            async with anyio.create_task_group() as group:
                for service in self.services:
                    group.start_soon(service.run)
                self._group = group
                if stay_open:
                    await self._closing.wait()
        except BaseException:
            self._stopping.set()
            raise
        finally:
            self._closing.set()
            if self._stopping.is_set():
                await self._sweep()
        return self.status

    @property
    def closed(self) -> bool:
        """Whether nothing can be added any more."""
        return self._closing.is_set()

    def close(self) -> None:
        """Nothing more will be added: the run ends with the last job."""
        self._closing.set()

    def stop_job(self, service: Service) -> list[Service]:
        """End this job, and first all that depend on it; those that are ended. The others go on."""
        found = dict.fromkeys([service])
        queue = [service]
        for each in queue:  # it grows meanwhile
            queue += [other for other in each.before if other not in found]
            found |= dict.fromkeys(each.before)
        for each in found:
            each.stop()
        return list(found)

    def stop(self, number: int) -> None:
        """End every job, by this signal of ours; those that others depend on last. Called again: KILL at once."""
        now = self.stopped_by is not None  # when a job has ended the run, the first signal is no second one
        if not now:
            self.stopped_by = number
        if not self._killing:
            self._tell(Stopping(number, now))
        if now:
            self.kill()
        self._stop()
        if now:
            self.deadline_s = self._loop.time()

    def kill(self) -> None:
        """KILL every job's group at once."""
        self._killing = True
        self._stop()
        for service in self.services:
            service.kill()

    async def wait_stopping(self) -> None:
        """Until somebody stops the run."""
        await self._stopping.wait()

    def resize(self, rows: int, columns: int) -> None:
        """Our window has another size: hand that on to the jobs that have a terminal."""
        for service in self.services:
            service.resize(rows, columns)

    def _stop(self) -> None:
        if self._stopping.is_set():
            return
        grace_s = max((service.spec.shutdown.timeout_seconds for service in self.services if service.state.alive), default=0.0)
        self.deadline_s = self._loop.time() + grace_s * LAST_WORDS
        self._stopping.set()
        self._closing.set()
        for service in self.services:
            service.stop()

    def _end_run(self, job: str, status: int) -> None:
        """A job has ended that the run is not to go on without."""
        if self._stopping.is_set():
            return
        self.status, self._decided = status, True
        self._tell(Stopping(0, now=False, job=job))
        self._stop()

    def _fail(self, status: int) -> None:
        if not self._decided:
            self.status = self.status or status

    async def _sweep(self) -> None:
        """What jobs have left goes, too: whoever stops a run wants nothing of it to go on."""
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for service in self.services:
                    group.start_soon(service.sweep)
            if self._census is not None:
                found, left = await end_strays(self._census)
                if found:
                    self._tell(StraysKilled(found, left))
