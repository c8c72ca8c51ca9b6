"""Random lives of many jobs, with a clock that leaps and children that follow a script: whatever happens, no rule is broken."""

from __future__ import annotations

import asyncio
import random
import selectors
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import anyio
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from dtee_async.core.exit import Exit
from dtee_async.core.lifecycle import State
from dtee_async.core.policy import FOREVER, Availability, Condition, Health, Restart, Shutdown
from dtee_async.core.spec import JobSpec
from dtee_async.engine.command import Outcome
from dtee_async.errors import CaptureError, OutputError, SpawnError
from dtee_async.process.group import Member
from dtee_async.supervisor.events import JobExited, JobGivenUp, JobNotEnded, JobReady, JobRestarting, JobSkipped, JobStarted, JobUnhealthy
from dtee_async.supervisor.house import Scene
from dtee_async.supervisor.supervisor import Supervisor

NO_PID = 1 << 30
"""More than any pid can be."""

LAST_S = 1e6
"""When whatever still goes on is stopped."""


class Leaping(selectors.DefaultSelector):
    """Never waits: when nothing is ready, it is later at once."""

    now_s = 0.0

    def select(self, timeout=None):
        if ready := super().select(0):
            return ready
        assert timeout is not None, "a deadlock: everybody waits, and nothing will ever happen"
        self.now_s += timeout
        return []


class LeapingLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self._leaping = Leaping()
        super().__init__(self._leaping)

    def time(self):
        return self._leaping.now_s


# The script.


@dataclass(frozen=True)
class Attempt:
    """What one attempt of a job does. Times are seconds from its start; ``exits_s``: None, never by itself."""

    trouble: str = ""
    """output, capture or spawn: it cannot be started for that."""
    exits_s: float | None = None
    returncode: int = 0
    stops_s: float | None = 0.0
    """How long it takes to end when it is asked to; None: until it is killed."""
    leaves: bool = False
    """It leaves a process behind, which takes as long to end."""
    health: tuple[tuple[float, str], ...] = ()


ENDLESS = Attempt()


@dataclass(frozen=True)
class Script:
    """What the jobs are, what their attempts do, and what happens to them from outside, and when."""

    specs: tuple[JobSpec, ...]
    attempts: dict[str, tuple[Attempt, ...]]
    actions: tuple[tuple[float | tuple[type, int], str], ...] = ()
    max_parallel: int = 0


SOON_S = st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0, 2.0, 5.0, 30.0])
HEALTH = st.lists(st.tuples(SOON_S, st.sampled_from(["ready", "ready", "log_ready", "unready", "failed"])), max_size=4)
ATTEMPTS = st.builds(
    Attempt,
    trouble=st.sampled_from([*[""] * 9, "output", "capture", "spawn"]),
    exits_s=st.sampled_from([None, 0.25, 0.5, 1.0, 1.0, 2.0, 5.0, 30.0, 20_000.0]),
    returncode=st.sampled_from([0, 0, 1, 3, 143, -9, -15]),
    stops_s=st.sampled_from([None, None, 0.0, 0.5, 5.0]),
    leaves=st.booleans(),
    health=HEALTH.map(lambda found: tuple(sorted(found, key=lambda each: each[0]))),
)
WHENS = (
    SOON_S
    | st.sampled_from([1000.0, 20_000.0])
    | st.tuples(st.sampled_from([JobRestarting, JobRestarting, JobExited, JobStarted, JobReady]), st.integers(1, 3))
)
"""When something happens from outside: after that many seconds, or right after so many events of a kind."""


@st.composite
def availabilities(draw):
    backoff_s = draw(st.sampled_from([0.0, 0.1, 1.0, 60.0, 3600.0]))
    return Availability(
        restart=draw(st.sampled_from([Restart.NO, Restart.ON_FAILURE, *Restart])),
        backoff_seconds=backoff_s,
        backoff_max_seconds=draw(st.sampled_from([backoff_s, 3 * backoff_s, 86_400.0])),
        max_restarts=draw(st.sampled_from([0, 0, 1, 2, 3])),
        restart_window_seconds=draw(st.sampled_from([FOREVER, 10.0, 5000.0])),
        stable_seconds=draw(st.sampled_from([1.0, 10.0, 1000.0])),
        exit_on_end=draw(st.integers(0, 9)) == 9,
    )


def possible(spec):
    """What another job can wait for in this one."""
    found = [Condition.STARTED]
    if spec.health.ready_log_line:
        found.append(Condition.LOG_READY)
    if spec.health.sd_notify:
        found.append(Condition.HEALTHY)
    if spec.availability.restart not in (Restart.ALWAYS, Restart.UNLESS_STOPPED):
        found += [Condition.COMPLETED, Condition.COMPLETED_SUCCESSFULLY]
    return found


@st.composite
def scripts(draw):
    specs = []
    for name in "abcde"[: draw(st.integers(1, 5))]:
        others = [spec for spec in specs if draw(st.booleans())]
        specs.append(
            JobSpec(
                name,
                "true",
                depends_on={other.name: draw(st.sampled_from(possible(other))) for other in others},
                health=Health(ready_log_line=draw(st.sampled_from(["", "x"])), sd_notify=draw(st.booleans())),
                availability=draw(availabilities()),
                shutdown=Shutdown(timeout_seconds=draw(st.sampled_from([0.0, 1.0, 10.0, 10.0]))),
                success_exit_codes=draw(st.sampled_from([(0,), (0, 3), (3,)])),
            )
        )
    return Script(
        tuple(draw(st.permutations(specs))),
        {spec.name: tuple(draw(st.lists(ATTEMPTS, min_size=1, max_size=4))) for spec in specs},
        tuple(draw(st.lists(st.tuples(WHENS, st.sampled_from(["stop", "stop", "kill", "cancel"])), max_size=2))),
        draw(st.sampled_from([0, 0, 1, 2])),
    )


# The world in which it is played: what stands in the place of a job, of its health and of its outputs.


@dataclass
class World:
    script: Script
    supervisor: Supervisor | None = None
    act: Callable[[str], None] | None = None
    """Do what is to be done from outside."""
    events: list[tuple[float, object]] = field(default_factory=list)
    starts: dict[str, list[float]] = field(default_factory=dict)
    """When each attempt of a job began, also if nothing came of it."""
    alive: set[FakeJob] = field(default_factory=set)
    left: set[FakeJob] = field(default_factory=set)
    """Who has ended and has left a process behind."""
    log_ready: set[str] = field(default_factory=set)
    outlets: list[FakeOutlets] = field(default_factory=list)
    outputs: list[FakeOutput] = field(default_factory=list)
    stopped_s: float | None = None
    killed_s: float | None = None
    cancelled_s: float | None = None
    ended_s: float = 0.0

    def service(self, name):
        assert self.supervisor is not None
        return next(service for service in self.supervisor.services if service.spec.name == name)

    def tell(self, event):
        if isinstance(event, JobRestarting):
            assert self.stopped_s is None or self.service(event.job).state is State.RESTARTING
        self.events.append((asyncio.get_running_loop().time(), event))
        count = sum(isinstance(each, type(event)) for _, each in self.events)
        for when, action in self.script.actions:
            if when == (type(event), count):
                asyncio.get_running_loop().call_soon(self.act, action)

    def of(self, kind, name):
        return [(at_s, event) for at_s, event in self.events if isinstance(event, kind) and event.job == name]

    @property
    def over_s(self):
        """When it was told to end."""
        return min((each for each in (self.stopped_s, self.killed_s, self.cancelled_s) if each is not None), default=None)

    def holds(self, name, condition):
        """Whether the job has reached that, by what was seen of it here."""
        match condition:
            case Condition.STARTED:
                return bool(self.of(JobStarted, name))
            case Condition.HEALTHY:
                return self.service(name).state is State.READY
            case Condition.LOG_READY:
                return name in self.log_ready
            case Condition.COMPLETED:
                return self.service(name).state in (State.COMPLETED, State.FAILED)
            case Condition.COMPLETED_SUCCESSFULLY:
                return self.service(name).state is State.COMPLETED

    def begin(self, name):
        """An attempt begins: here is what must be true then; what it is to do."""
        service = self.service(name)
        assert service.state is State.LAUNCHING
        assert self.stopped_s is None, "it is started after the stop"
        assert self.cancelled_s in (None, asyncio.get_running_loop().time())
        if not self.starts.get(name):
            for other, condition in service.spec.depends_on.items():
                assert self.holds(other, condition), f"{name} is started before {other} is {condition}"
        assert not self.script.max_parallel or len(self.alive) < self.script.max_parallel
        assert name not in {job.spec.name for job in self.alive | self.left}, "it meets itself, or what it has left"
        starts = self.starts.setdefault(name, [])
        starts.append(asyncio.get_running_loop().time())
        attempts = self.script.attempts[name]
        assert service.attempt == len(starts)
        return attempts[len(starts) - 1] if len(starts) <= len(attempts) else ENDLESS


class FakeOutput:
    name = "fake"

    def __init__(self, world):
        self.closed = 0
        world.outputs.append(self)

    def close(self):
        self.closed += 1
        return 0


class FakeOutlets:
    def __init__(self, world, name):
        self.closed = 0
        self._world, self._name = world, name
        world.outlets.append(self)

    def open(self):
        assert not self.closed
        self.attempt = self._world.begin(self._name)
        if self.attempt.trouble == "output":
            raise OutputError(24, "Too many open files", "out")
        return [FakeOutput(self._world), FakeOutput(self._world)]

    def close(self):
        self.closed += 1


class FakeHealth:
    """Says what the script says, from spawned() to the end of run()."""

    environment: dict[str, str] = {}  # noqa: RUF012 - nobody changes it
    child_fds: dict[int, int] = {}  # noqa: RUF012
    outputs = ()

    def __init__(self, world, spec, calls):
        self.closed = 0
        self._world, self._spec, self._calls = world, spec, calls
        self._is_ready = False

    def spawned(self, pid):
        assert pid >= NO_PID

    async def run(self):
        number = len(self._world.starts[self._spec.name]) - 1
        attempts = self._world.script.attempts[self._spec.name]
        began_s = asyncio.get_running_loop().time()
        for at_s, what in attempts[number].health if number < len(attempts) else ():
            with anyio.move_on_after(began_s + at_s - asyncio.get_running_loop().time()):
                await anyio.Event().wait()
            self._say(what)
            if what == "failed":
                break
        await anyio.Event().wait()

    def _say(self, what):
        match what:
            case "ready" if not self._is_ready and self._spec.health.tells_health:
                self._is_ready = True
                self._calls["on_ready"]()
            case "unready" if self._is_ready:
                self._is_ready = False
                self._calls["on_unready"]("it is not")
            case "log_ready" if self._spec.health.ready_log_line:
                self._world.log_ready.add(self._spec.name)
                self._calls["on_log_ready"]()
            case "failed":
                self._calls["on_failed"]("it is ill")
            case _:
                self._calls["on_status"](what)

    def close(self):
        self.closed += 1
        assert self.closed == 1


class FakeJob:
    """A command that does what the script says."""

    unguarded = None
    stop_problem = loss = ""
    lossless = True
    capturing = (SimpleNamespace(mode="fake", exact=True), "", False)

    def __init__(self, world, spec, outputs):
        self.spec, self.pid = spec, 0
        self._world, self._outputs = world, outputs
        self._attempt = next(outlets.attempt for outlets in world.outlets if outlets._name == spec.name)
        self._ended, self._gone, self._killed = anyio.Event(), anyio.Event(), False
        self._loop = asyncio.get_running_loop()
        self._timers = []
        if self._attempt.trouble == "capture":
            raise CaptureError(24, "Too many open files")

    def start(self):
        if self._attempt.trouble == "spawn":
            self._close()
            raise SpawnError(11, "Resource temporarily unavailable", "true")
        self._started_s = asyncio.get_running_loop().time()
        self.pid = NO_PID + len(self._world.events)
        self._world.alive.add(self)
        if self._attempt.exits_s is not None:
            self._later(self._attempt.exits_s, self._end, Exit(self._attempt.returncode))

    def _later(self, delay_s, call, *args):
        self._timers.append(self._loop.call_later(delay_s, call, *args))

    def _close(self):
        for output in self._outputs:
            output.close()

    def _end(self, exit):
        if self._ended.is_set():
            return
        self._exit = exit
        self._duration_s = asyncio.get_running_loop().time() - self._started_s
        self._world.alive.remove(self)
        if self._attempt.leaves and not self._killed:
            self._world.left.add(self)
        else:
            self._gone.set()
        self._close()
        self._ended.set()

    def _vanish(self, exit):
        """It ends, and all that it has left."""
        self._killed = True
        self._end(exit)
        self._world.left.discard(self)
        self._gone.set()
        for timer in self._timers:
            timer.cancel()

    async def wait(self):
        await self._ended.wait()
        return Outcome(self._exit, self._duration_s, False, (), None)

    async def stop(self, grace_s=None):
        world, service = self._world, self._world.service(self.spec.name)
        if service.state is State.TERMINATING and world.killed_s is None and world.cancelled_s is None and world.over_s is not None:
            assert all(other.state.final for other in dependents(service)), "it is stopped before those that depend on it"
        timeout_s, takes_s = self.spec.shutdown.timeout_seconds, self._attempt.stops_s
        if takes_s is not None and takes_s < timeout_s:
            self._later(takes_s, self._vanish, Exit(self._attempt.returncode))
        else:
            self._later(timeout_s, self._vanish, Exit(-signal.SIGKILL))
        await self._gone.wait()
        return [Member(self.pid, "fake")] if takes_s is None else []

    def kill(self):
        self._vanish(Exit(-signal.SIGKILL))


def dependents(service):
    """All that depend on it, also by way of others."""
    return {each for other in service.before for each in {other, *dependents(other)}}


def play(script):
    """What becomes of it all."""
    world = World(script)
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        runner.run(_play(world))
    return world


async def _play(world):
    loop, script = asyncio.get_running_loop(), world.script
    scene = Scene(
        make_job=lambda _loop, _captures, spec, outputs, _report, *, surroundings: FakeJob(world, spec, outputs),
        make_health=lambda _loop, spec, **calls: FakeHealth(world, spec, calls),
        random=random.Random(1).random,
    )
    jobs = [(spec, FakeOutlets(world, spec.name)) for spec in script.specs]
    world.supervisor = supervisor = Supervisor(loop, None, jobs, world.tell, max_parallel=script.max_parallel, scene=scene)
    scope = anyio.CancelScope()

    def act(action):
        now_s = asyncio.get_running_loop().time()
        match action:
            case "cancel":
                world.cancelled_s = now_s if world.cancelled_s is None else world.cancelled_s
                scope.cancel()
            case "stop" | "kill":
                if (action == "kill" or supervisor.stopped_by is not None) and world.killed_s is None:
                    world.killed_s = now_s
                if world.stopped_s is None:
                    world.stopped_s = now_s
                    stays_pending(world)
                supervisor.kill() if action == "kill" else supervisor.stop(signal.SIGTERM)

    world.act = act
    told_end = supervisor._end_run

    def end_run(job, status):
        world.stopped_s = asyncio.get_running_loop().time() if world.stopped_s is None else world.stopped_s
        told_end(job, status)

    for service in supervisor.services:
        object.__setattr__(service._house, "end_run", end_run)
    actions = [*script.actions, (LAST_S, "stop"), (LAST_S + 1000, "stop")]
    timers = [loop.call_later(when, act, action) for when, action in actions if isinstance(when, float)]
    with scope:
        await supervisor.run()
    world.ended_s = asyncio.get_running_loop().time()
    for timer in timers:
        timer.cancel()


def stays_pending(world):
    """Whoever has not been started waits for something that is not there, or for a slot. (What came this very moment is not seen yet.)"""
    now_s = asyncio.get_running_loop().time()
    if world.cancelled_s is not None or now_s == 0 or any(at_s == now_s for at_s, _ in world.events):
        return
    services = world.supervisor.services
    in_a_slot = sum(not service.state.final and service.state is not State.PENDING for service in services)
    if world.script.max_parallel and in_a_slot >= world.script.max_parallel:
        return
    for service in services:
        if service.state is State.PENDING:
            needed = service.spec.depends_on.items()
            assert not all(world.holds(other, condition) for other, condition in needed), f"{service.spec.name} could have been started"
            for other, condition in needed:
                assert world.holds(other, condition) or not world.service(other).state.final, f"{service.spec.name} waits in vain"


# What has to be true in the end.


def check_the_end(world):
    assert not world.alive
    if world.over_s is not None:
        assert not world.left
        timeouts_s = sum(spec.shutdown.timeout_seconds for spec in world.script.specs)
        assert world.ended_s <= world.over_s + 3 * timeouts_s + 1e-6, "the stop takes too long"
    if world.killed_s is not None and world.cancelled_s is None:
        assert world.ended_s <= world.killed_s + 1e-6, "the kill takes its time"
    assert [outlets.closed for outlets in world.outlets] == [1] * len(world.outlets)
    assert [output.closed for output in world.outputs] == [1] * len(world.outputs)
    for service in world.supervisor.services:
        assert service.state.final
        assert (service.state is State.SKIPPED) == (not world.starts.get(service.spec.name)) or world.cancelled_s is not None
    if not world.script.max_parallel:
        for spec in world.script.specs:
            assert spec.depends_on or world.over_s == 0 or world.starts[spec.name][0] == 0, "it could have been started at once"


def check_reasons(world):
    """Who was skipped, and not by a stop, waited for what did not come."""
    for service in world.supervisor.services:
        for at_s, skipped in world.of(JobSkipped, service.spec.name):
            assert skipped.attempt == 0
            if skipped.reason == "the run was stopped":
                assert world.stopped_s is not None
                continue
            name = skipped.reason.split()[0]
            assert world.service(name).state.final
            assert not world.holds(name, service.spec.depends_on[name])
            assert world.stopped_s is None or at_s <= world.stopped_s


def check_restarts(world, spec):
    """Its restarts are as its policy says, and when it says."""
    policy, starts = spec.availability, world.starts.get(spec.name, [])
    restartings = world.of(JobRestarting, spec.name)
    runs = world.script.attempts[spec.name]
    in_a_row = 0
    for number, (told_s, told) in enumerate(restartings, 1):
        assert told.attempt == number
        began_s = starts[number - 1]
        if told_s - began_s >= policy.stable_seconds:
            in_a_row = 0
        in_a_row += 1
        base_s = min(policy.backoff_seconds * 2 ** (in_a_row - 1), policy.backoff_max_seconds)
        assert 0.9 * base_s - 1e-9 <= told.delay_s <= min(1.1 * base_s, policy.backoff_max_seconds) + 1e-9
        sweep_s = spec.shutdown.timeout_seconds if number <= len(runs) and runs[number - 1].leaves else 0.0
        if number < len(starts):
            assert told.delay_s - 1e-6 <= starts[number] - told_s <= told.delay_s + sweep_s + 1e-6
        else:
            assert world.over_s is not None
        if policy.restart is Restart.ON_FAILURE:
            exits = [exited for _, exited in world.of(JobExited, spec.name) if exited.attempt == number]
            ill = any(what == "failed" for _, what in runs[number - 1].health)
            assert ill or not exits or exits[0].exit.returncode not in spec.success_exit_codes
        if policy.max_restarts and policy.restart_window_seconds == FOREVER:
            assert in_a_row <= policy.max_restarts, "too many in a row"
    if restartings:
        assert policy.restart not in (Restart.NO, Restart.EXIT_ON_FAILURE)
    if world.over_s is None and starts and is_wanted_again(world, spec):
        assert policy.max_restarts
        assert policy.restart_window_seconds < FOREVER or in_a_row == policy.max_restarts
    if policy.max_restarts and policy.restart_window_seconds < FOREVER:
        again = starts[1:]
        for first, later in zip(again, again[policy.max_restarts :], strict=False):
            assert later - first >= policy.restart_window_seconds, "too many within the window"


def has_succeeded(world, spec):
    """Whether the last attempt was good, by what was told of it."""
    attempt = world.service(spec.name).attempt
    exits = [told.exit.returncode for _, told in world.of(JobExited, spec.name) if told.attempt == attempt]
    ill = [told for _, told in world.of(JobUnhealthy, spec.name) if told.attempt == attempt]
    return bool(exits) and exits[0] in spec.success_exit_codes and not ill


def is_wanted_again(world, spec):
    match spec.availability.restart:
        case Restart.ALWAYS | Restart.UNLESS_STOPPED:
            return True
        case Restart.ON_FAILURE:
            return not has_succeeded(world, spec)
    return False


def check_attempts(world, spec):
    """Each attempt that was started is told once, with its number, and ends."""
    name = spec.name
    started = [told.attempt for _, told in world.of(JobStarted, name)]
    exited = [told.attempt for _, told in world.of(JobExited, name)]
    assert started == sorted(set(started))
    assert exited == (started if world.cancelled_s is None else started[: len(exited)])
    for _, told in world.of((JobGivenUp, JobNotEnded), name):
        assert told.attempt <= len(world.starts[name])
    assert len(world.of(JobGivenUp, name)) <= 1
    assert world.service(name).restarts == max(0, len(world.starts.get(name, [])) - 1)
    assert world.service(name).attempt == len(world.starts.get(name, []))


def check_status(world):
    """0 exactly if nothing went wrong; and who is to end the run has ended it."""
    services = world.supervisor.services
    for service in services:
        if world.over_s is None and world.starts.get(service.spec.name):
            assert (service.state is State.COMPLETED) == has_succeeded(world, service.spec)
            assert service.spec.availability.restart is not Restart.EXIT_ON_FAILURE or service.state is State.COMPLETED
    if world.over_s is None:
        assert not any(service.spec.availability.exit_on_end for service in services)
        assert (world.supervisor.status == 0) == all(service.state is State.COMPLETED for service in services)


def check(world):
    """Everything that has to be true in the end."""
    check_the_end(world)
    check_reasons(world)
    for spec in world.script.specs:
        check_restarts(world, spec)
        check_attempts(world, spec)
    check_status(world)


def scripted(actions=(), max_parallel=0, **jobs):
    """A script by hand: for each job the conditions, its restart policy, and its attempts."""
    health = Health(ready_log_line="x", sd_notify=True)
    specs = [
        JobSpec(name, "true", depends_on=after, health=health, availability=availability, shutdown=Shutdown(timeout_seconds=10))
        for name, (after, availability, *_) in jobs.items()
    ]
    return Script(tuple(specs), {name: tuple(attempts) for name, (_, _, *attempts) in jobs.items()}, actions, max_parallel)


ONCE, ALWAYS = Availability(), Availability(restart=Restart.ALWAYS, backoff_seconds=3600, backoff_max_seconds=86_400)
CRASH = Attempt(exits_s=0.5, returncode=1, leaves=True, stops_s=None)
RESTARTED = JobRestarting, 1


@settings(max_examples=350, deadline=None)
@given(scripts())
@example(scripted(a=({}, ONCE, Attempt(exits_s=1.0)), b=({"a": Condition.HEALTHY}, ONCE)))
@example(scripted(((RESTARTED, "stop"),), a=({}, ALWAYS, CRASH)))
@example(scripted(((RESTARTED, "kill"),), a=({}, ALWAYS, CRASH)))
@example(scripted(((0.5, "stop"), (1.0, "cancel")), a=({}, ONCE, ENDLESS), b=({"a": Condition.STARTED}, ONCE, Attempt(stops_s=5.0))))
@example(
    scripted(  # c depends on a by way of b, which has completed
        ((1.0, "stop"),),
        a=({}, ONCE, ENDLESS),
        b=({"a": Condition.STARTED}, ONCE, Attempt(exits_s=0.5)),
        c=({"b": Condition.COMPLETED}, ONCE, Attempt(stops_s=5.0)),
    )
)
@example(
    scripted(  # a has been ready, and is no more, when it is c's turn
        max_parallel=2,
        a=({}, ONCE, Attempt(exits_s=1.0, health=((0.25, "ready"), (0.5, "unready")))),
        b=({}, ONCE, Attempt(exits_s=0.75)),
        c=({"a": Condition.HEALTHY}, ONCE, Attempt(exits_s=1.0)),
    )
)
def test_whatever_happens_no_rule_is_broken(script):
    world = play(script)
    event(f"{len(world.script.specs)} jobs")
    event("stopped" if world.stopped_s is not None else "ended")
    check(world)


def test_days_of_back_off_take_no_time():
    attempts = [Attempt(exits_s=1.0, returncode=1)] * 100
    began_s = time.monotonic()
    world = play(scripted(a=({}, ALWAYS, *attempts)))
    check(world)
    assert len(world.starts["a"]) > 10
    assert world.ended_s >= LAST_S
    assert time.monotonic() - began_s < 10
