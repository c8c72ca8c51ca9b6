"""Owns one job through all its runs: it waits for what it depends on, starts, becomes ready, is started again, and is stopped.

Every change of state is a step in the table of core.lifecycle. A service knows the others only by
what they have reached; all policy is arithmetic in core.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from ..core.lifecycle import State, Step, after
from ..core.policy import Condition, Restart
from ..core.restart import Restarts
from ..errors import CaptureError, OutputError, SpawnError, UnknownExitStatusError
from ..process.group import members
from .events import (
    CaptureFailed,
    Event,
    JobExited,
    JobFailedToStart,
    JobGivenUp,
    JobLeftRunning,
    JobNotEnded,
    JobNotReady,
    JobReady,
    JobRestarting,
    JobSkipped,
    JobStarted,
    JobStatus,
    JobUnguarded,
    JobUnhealthy,
    OutputDropped,
    OutputFailed,
    OutputLost,
    ShutdownFailed,
    StillWaiting,
)
from .files import close_all
from .house import Bell, House, Outlets, Tally

if TYPE_CHECKING:
    from ..core.contracts import Output, Timer
    from ..core.spec import JobSpec
    from ..engine.command import Outcome
    from .health import HealthWatch
    from .job import Job

REMEDY = 'capture = "turnstile"'
EX_NOINPUT, EX_UNAVAILABLE, EX_OSERR, EX_IOERR = 66, 69, 71, 74
STILL_WAITING_S = 2.0
STOPPED = "the run was stopped"


class _Run:
    """One run of the command."""

    def __init__(self, now_s: float) -> None:
        self.listening = anyio.CancelScope()
        """Around the wait for its end; cancelled when it is to end: the service is stopped, or it is not healthy."""
        self.unhealthy = ""
        """Why it is not."""
        self.watching = anyio.CancelScope()
        """Around what asks for its health."""
        self.started_s = now_s


class Service:
    """One job. ``run()`` is its whole life; ``stop()`` and ``kill()`` end it."""

    def __init__(self, spec: JobSpec, outlets: Outlets, house: House) -> None:
        self.spec = spec
        self.state = State.DISABLED if spec.disabled else State.PENDING
        self.attempt: int = 0
        """Which run of the command it is, or was the last; 0 before the first."""
        self.tally: Tally = Tally()
        self.after: list[tuple[Service, Condition]] = []
        """What it waits for."""
        self.before: list[Service] = []
        """Who depends on it: is told of its changes, and is stopped first."""
        self._outlets = outlets
        self._house = house
        self._restarts = Restarts(spec.availability, house.scene.random)
        self._job: Job | None = None
        self._last: Job | None = None
        self.changed: Bell = Bell()
        """Rung when it has reached something, and when something that it depends on has."""
        self._waiting: anyio.CancelScope | None = None
        self._run: _Run | None = None
        self._was_started = False
        self._log_ready = False
        self._stopped = False
        self._killed = False

    # What others ask

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return self._restarts.count

    def has_reached(self, condition: Condition) -> bool | None:
        """Whether it has reached that; None: it still may."""
        match condition:
            case Condition.STARTED:
                reached = self._was_started
            case Condition.HEALTHY:
                reached = self.state is State.READY
            case Condition.LOG_READY:
                reached = self._log_ready
            case Condition.COMPLETED:
                reached = self.state in (State.COMPLETED, State.FAILED)
            case Condition.COMPLETED_SUCCESSFULLY:
                reached = self.state is State.COMPLETED
        return reached or (False if self.state.final else None)

    async def reaches(self, condition: Condition) -> bool:
        """Wait until it has reached that; False: it never will."""
        while (reached := self.has_reached(condition)) is None:
            await self.changed.wait()
        return reached

    async def ended(self) -> None:
        """Wait until nothing more happens to it."""
        while not self.state.final:
            await self.changed.wait()

    def resize(self, rows: int, columns: int) -> None:
        """Our window has another size."""
        if self._job is not None:
            self._job.resize(rows, columns)

    # The end from outside

    def stop(self) -> None:
        """End it, as soon as those that depend on it have ended."""
        if self._stopped:
            return
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()
        if self._run is not None:
            self._run.listening.cancel()

    def send_signal(self, number: int) -> None:
        """To its process group, while it runs."""
        if self._job is not None:
            self._job.send_signal(number)

    def kill(self) -> None:
        """End it at once, whoever depends on it, and what it has left."""
        self.stop()
        self._killed = True
        if self._waiting is not None:
            self._waiting.cancel()
        if self._last is not None:
            self._last.kill()

    async def sweep(self) -> None:
        """End what its last run has left, for the end of a run that was stopped. That was asked before: now it is killed."""
        if self._last is not None:
            self._last.kill()
            await self._end(self._last)

    # Its life

    async def run(self) -> None:
        """Live, until it has ended for good. Cancelled, it ends its command first."""
        try:
            if self.state is not State.DISABLED:
                await self._live()
        finally:
            self._outlets.close()
            if not self.state.final:  # cancelled: others may wait for its end
                self._step(Step.STOP)
            if not self.state.final:
                self._step(Step.FAILED)

    async def _live(self) -> None:
        reason = STOPPED
        with self._interruptible():
            if not self._stopped:
                reason = await self._enter()
        if reason:
            self._skip(reason)
            return
        try:
            if self._stopped:  # just when it was its turn
                self._skip(STOPPED)
                return
            while await self._one_more():
                pass
        finally:
            self._house.places.give_back(self)

    @contextmanager
    def _interruptible(self, *, by_stop: bool = True) -> Iterator[None]:
        """What waits here is left when the service is stopped, or killed."""
        with anyio.CancelScope() as self._waiting:
            if self._killed or (by_stop and self._stopped):
                self._waiting.cancel()
            yield
        self._waiting = None

    async def _enter(self) -> str:
        """Wait until it may start, and is among the jobs that run at once; why that can never be, or nothing."""
        while not (reason := await self._missing()):
            await self._house.places.take(self)
            if all(other.has_reached(condition) for other, condition in self.after):
                break
            self._house.places.give_back(self)  # what it needs has gone while it waited for its turn
        return reason

    async def _missing(self) -> str:
        """Wait for what it depends on; why that can never come, or nothing."""
        while self.after:
            reached = [other.has_reached(condition) for other, condition in self.after]
            for (other, condition), each in zip(self.after, reached, strict=True):
                if each is False:
                    return f"{other.spec.name} is {other.state}, and {condition} is needed of it"
            if all(reached):
                break
            await self.changed.wait()
        return ""

    def _skip(self, reason: str) -> None:
        self._step(Step.STOP if self._stopped else Step.SKIP)
        self._tell(JobSkipped(self.spec.name, reason))
        if self._stopped:
            return
        self._house.fail(EX_UNAVAILABLE)
        if self.spec.availability.exit_on_end:
            self._house.end_run(self.spec.name, EX_UNAVAILABLE)

    def _step(self, step: Step) -> None:
        self.state = after(self.state, step)
        self._notify()

    def _notify(self) -> None:
        for service in (self, *self.before):
            service.changed.ring()

    def _tell(self, event: Event) -> None:
        self._house.tell(event)

    # One run, and what follows it

    async def _one_more(self) -> bool:
        """Run the command; whether it is to be run again."""
        run = self._run = _Run(self._house.loop.time())
        self.attempt += 1
        self._step(Step.LAUNCH)
        self._restarts.started(run.started_s)
        status = await self._attempt(run)
        if self._stopped:
            self._has_stopped(status)
            return False
        following = self._restarts.ended(self._house.loop.time(), succeeded=status == 0)
        if following.delay_s is None:
            if following.given_up:
                self._tell(JobGivenUp(self.spec.name, following.reason, self.attempt))
            self._finish(status)
            return False
        self._step(Step.RETRY)
        self._tell(JobRestarting(self.spec.name, following.delay_s, self.attempt))
        if self._last is not None:  # it must not meet what it has left
            await self._end(self._last)
        if await self._is_stopped_within(following.delay_s):
            self._step(Step.STOP)
            self._has_stopped(status)
            return False
        return True

    async def _is_stopped_within(self, delay_s: float) -> bool:
        with self._interruptible(), anyio.move_on_after(delay_s):
            await anyio.Event().wait()
        return self._stopped

    def _has_stopped(self, status: int) -> None:
        self._step(Step.FAILED if status else Step.COMPLETED)
        self._house.fail(status)

    def _finish(self, status: int) -> None:
        """It has ended for good, by itself."""
        availability = self.spec.availability
        if self._last is not None and (left := members(self._last.pid)):
            self._tell(JobLeftRunning(self.spec.name, left, self.attempt))
        self._step(Step.FAILED if status else Step.COMPLETED)
        self._house.fail(status)
        if availability.exit_on_end or (status and availability.restart is Restart.EXIT_ON_FAILURE):
            self._house.end_run(self.spec.name, status)

    async def _attempt(self, run: _Run) -> int:
        """Run the command once; its exit status, as far as it is a failure."""
        self._last = None
        health: HealthWatch | None = None
        outputs: Sequence[Output] = ()
        try:
            health = self._open_health(run)
            outputs = [*self._outlets.open(), *(health.outputs if health is not None else ())]
            job = self._make_job(outputs, health)
        except (CaptureError, OutputError, SpawnError) as error:
            close_all(outputs)
            if health is not None:
                health.close()
            return self._failed_to_start(error, EX_UNAVAILABLE)
        try:
            job.start()
            self._job = self._last = job
            self._started(job)
            outcome = await self._follow(job, health, run)
        except SpawnError as error:
            return self._failed_to_start(error, EX_NOINPUT if error.filename == self.spec.argv[0] else EX_OSERR)
        except UnknownExitStatusError as error:
            return self._failed_to_start(error, EX_OSERR)
        finally:
            self._job = None
            if health is not None:
                health.close()
        return self._has_ended(job, outcome, run)

    def _make_job(self, outputs: Sequence[Output], health: HealthWatch | None) -> Job:
        def report(output: Output, error: OSError) -> None:
            self._house.fail(EX_IOERR)
            self._tell(OutputFailed(self.spec.name, output.name, error, self.attempt))

        surroundings = self._house.surroundings
        if health is not None:
            environment = {**surroundings.environment, **health.environment}
            surroundings = replace(surroundings, environment=environment, extra_fds=health.child_fds)
        return self._house.scene.make_job(self._house.loop, self._house.captures, self.spec, outputs, report, surroundings=surroundings)

    def _failed_to_start(self, error: OSError, status: int) -> int:
        self.tally.status = status
        self._tell(JobFailedToStart(self.spec.name, error, status, self.attempt))
        return status

    def _started(self, job: Job) -> None:
        transport, reason, fell_back = job.capturing
        name, attempt = self.spec.name, self.attempt
        self._was_started = True
        self._tell(JobStarted(name, job.pid, self.spec.title, transport.mode, transport.exact, reason, fell_back, attempt))
        if job.unguarded is not None:
            self._tell(JobUnguarded(name, job.unguarded, attempt))
        self._step(Step.STARTED)

    async def _follow(self, job: Job, health: HealthWatch | None, run: _Run) -> Outcome:
        """Until the command has ended, by itself or because it has to."""
        try:
            if health is None:
                return await self._listen(job, run)
            async with anyio.create_task_group() as group:
                health.spawned(job.pid)
                group.start_soon(_watch, health, run)
                outcome = await self._listen(job, run)
                run.watching.cancel()
        except BaseException:  # cancelled
            with anyio.CancelScope(shield=True):
                await job.stop()
            raise
        return outcome

    async def _listen(self, job: Job, run: _Run) -> Outcome:
        if self._stopped:
            run.listening.cancel()
        with run.listening:
            return await job.wait()
        with anyio.CancelScope(shield=True):
            await self._end_run(job, run)
        return await job.wait()

    def _has_ended(self, job: Job, outcome: Outcome, run: _Run) -> int:
        """Tell all there is to tell; the status, as far as it is a failure."""
        name, attempt, exit = self.spec.name, self.attempt, outcome.exit
        self.tally.add(outcome)
        if outcome.error is not None:
            self._house.fail(EX_IOERR)
            self._tell(CaptureFailed(name, outcome.error, attempt))
        for output, size_bytes in outcome.dropped:
            self._tell(OutputDropped(name, output.name, size_bytes, attempt))
        lossless = outcome.error is None and job.lossless
        self._tell(JobExited(name, exit, outcome.duration_s, outcome.writers_left, lossless, attempt, self.state is State.TERMINATING))
        if job.loss:
            self._tell(OutputLost(name, job.loss, REMEDY, attempt))
        if outcome.error is not None or run.unhealthy:
            return exit.status or 1
        return 0 if self.spec.succeeded(exit, told=self.state is State.TERMINATING) else exit.status or 1

    # The end of a run that does not end by itself

    async def _end_run(self, job: Job, run: _Run) -> None:
        """It has been told to end: when it is its turn."""
        if not run.unhealthy:
            with self._interruptible(by_stop=False):
                await self._dependents_ended()
            run.watching.cancel()  # that it stops answering is no news from now on
            self._step(Step.STOP)
        if self._killed:
            job.kill()
        await self._end(job)

    async def _dependents_ended(self) -> None:
        """Wait for all that depend on it, also by way of others that completed long ago."""
        queue, seen = [*self.before], set(self.before)
        for other in queue:  # it grows meanwhile
            await other.ended()
            queue += [each for each in other.before if each not in seen]
            seen.update(other.before)

    async def _end(self, job: Job) -> None:
        """Stop it, and say what takes long or is left."""
        with self._saying_still_waiting(job), anyio.CancelScope(shield=True):
            left = await job.stop()
        self._last = None
        if job.stop_problem:
            self._tell(ShutdownFailed(self.spec.name, job.stop_problem, self.attempt))
        if left:
            self._tell(JobNotEnded(self.spec.name, left, self.attempt))

    @contextmanager
    def _saying_still_waiting(self, job: Job) -> Iterator[None]:
        loop, began_s = self._house.loop, self._house.loop.time()
        timer: Timer

        def again() -> Timer:
            return loop.call_later(STILL_WAITING_S, say)

        def say() -> None:
            nonlocal timer
            waited_s = loop.time() - began_s
            self._tell(StillWaiting(self.spec.name, job.pid, waited_s, self.spec.shutdown.timeout_seconds, self.attempt))
            timer = again()

        timer = again()
        try:
            yield
        finally:
            timer.cancel()

    # Its health

    def _open_health(self, run: _Run) -> HealthWatch | None:
        """Raises SpawnError."""
        health = self.spec.health
        if not (health.tells_ready or health.liveness_probe):
            return None
        name, attempt = self.spec.name, self.attempt

        def ready() -> None:
            if self.state is not State.TERMINATING:
                self._tell(JobReady(name, self._house.loop.time() - run.started_s, attempt))
                self._step(Step.READY)

        def log_ready() -> None:
            self._log_ready = True
            self._notify()

        def unready(reason: str) -> None:
            if self.state is not State.TERMINATING:
                self._tell(JobNotReady(name, reason, attempt))
                self._step(Step.UNREADY)

        def failed(reason: str) -> None:
            if self.state is State.TERMINATING:
                return
            run.unhealthy = reason
            self._tell(JobUnhealthy(name, reason, attempt))
            self._step(Step.UNREADY)
            run.listening.cancel()

        guardian = self._house.captures.guardian if self.spec.die_with_supervisor else None
        return self._house.scene.make_health(
            self._house.loop,
            self.spec,
            on_ready=ready,
            on_log_ready=log_ready,
            on_unready=unready,
            on_failed=failed,
            on_status=lambda text: self._tell(JobStatus(name, text, attempt)),
            surroundings=replace(self._house.surroundings, guardian=guardian),
        )


async def _watch(health: HealthWatch, run: _Run) -> None:
    with run.watching:
        await health.run()
