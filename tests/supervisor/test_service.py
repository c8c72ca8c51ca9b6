"""Real jobs that depend on each other, become ready, are started again and are stopped; on both loops; nothing is left of them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import anyio
import pytest

from dtee_async.api.loops import captures_of_loop
from dtee_async.core.lifecycle import State
from dtee_async.core.outputs import OutputFile
from dtee_async.core.policy import Availability, Condition, ExecCheck, Health, Probe, Restart, Shutdown
from dtee_async.core.spec import JobSpec
from dtee_async.core.write import Stream
from dtee_async.engine.pumps import PumpProcess
from dtee_async.errors import OutputError
from dtee_async.process.group import members
from dtee_async.supervisor import service as service_module
from dtee_async.supervisor.events import (
    JobExited,
    JobFailedToStart,
    JobGivenUp,
    JobLeftRunning,
    JobNotReady,
    JobReady,
    JobRestarting,
    JobSkipped,
    JobStarted,
    JobStatus,
    JobUnhealthy,
    JobWaiting,
    OutputFailed,
    ShutdownFailed,
    StillWaiting,
    Stopping,
)
from dtee_async.supervisor.files import open_all
from dtee_async.supervisor.supervisor import Supervisor
from dtee_async.testing import RecordingOutput

ENOUGH_S = 30
STARTED, HEALTHY, LOG_READY = Condition.STARTED, Condition.HEALTHY, Condition.LOG_READY
COMPLETED, SUCCEEDED = Condition.COMPLETED, Condition.COMPLETED_SUCCESSFULLY
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.01; done"
SLEEP = "echo ready; exec sleep 1000"


class Recordings:
    """A new recording output for each run of a job."""

    def __init__(self):
        self.outputs = []
        self.closed = 0

    def open(self):
        self.outputs.append(RecordingOutput())
        return self.outputs[-1:]

    def close(self):
        self.closed += 1

    @property
    def data(self):
        return b"".join(output.data() for output in self.outputs)


def job(command, **options):
    """How to make the JobSpec when its name is known."""
    after = {name: Condition(condition) for name, condition in options.pop("after", {}).items()}
    return lambda name: JobSpec(name, command, depends_on=after, **options)


def again(restart=Restart.ON_FAILURE, **options):
    """Started again, soon."""
    return Availability(restart=restart, **{"backoff_seconds": 0.01, "backoff_max_seconds": 0.02} | options)


def probe(command, **options):
    return Probe(ExecCheck(command), **{"period_seconds": 0.02, "timeout_seconds": 10} | options)


class Stack:
    """Jobs with their recordings, and what is told of them."""

    def __init__(self, jobs, outlets=None, **options):
        self.outlets = {name: Recordings() for name in jobs} | (outlets or {})
        self.events = []
        self.on_event = lambda event: None
        self._told = anyio.Event()
        specs = [(make(name), self.outlets[name]) for name, make in jobs.items()]
        self.supervisor = Supervisor(asyncio.get_running_loop(), captures_of_loop(), specs, self._tell, **options)
        self.services = {service.spec.name: service for service in self.supervisor.services}

    def _tell(self, event):
        self.events.append(event)
        self.on_event(event)
        told, self._told = self._told, anyio.Event()
        told.set()

    def of(self, kind, name=None):
        return [event for event in self.events if isinstance(event, kind) and name in (None, event.job)]

    def pid(self, name):
        return self.of(JobStarted, name)[-1].pid

    @property
    def states(self):
        return {name: str(service.state) for name, service in self.services.items()}

    async def until(self, condition):
        with anyio.fail_after(ENOUGH_S):
            while not condition():
                await self._told.wait()

    async def said(self, *names):
        """Until each of them has written something in its last run."""
        with anyio.fail_after(ENOUGH_S):
            while not all(self.outlets[name].outputs and self.outlets[name].outputs[-1].writes for name in names):
                await anyio.lowlevel.checkpoint()

    async def run(self, *steps):
        """Run it, and meanwhile do the steps; the status. Everything has been ended and closed then."""
        with anyio.fail_after(ENOUGH_S):
            async with anyio.create_task_group() as group:
                group.start_soon(self.supervisor.run)
                for step in steps:
                    await step()
        self.check_ended()
        return self.supervisor.status

    def check_ended(self):
        assert all(service.state.final for service in self.services.values())
        for outlets in self.outlets.values():
            assert outlets.closed == 1
            assert [output.closed for output in outlets.outputs] == [1] * len(outlets.outputs)

    def stop(self):
        self.supervisor.stop(signal.SIGTERM)


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    """The jobs' commands have short names for their files."""
    monkeypatch.chdir(tmp_path)


def let_go(path):
    """A step: whoever reads this FIFO goes on."""

    async def step():
        with anyio.fail_after(ENOUGH_S):
            while True:
                try:
                    os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                except OSError:  # ENXIO: nobody reads it yet
                    await anyio.lowlevel.checkpoint()
                else:
                    return

    return step


# What a job waits for.

REACHED = {
    HEALTHY: job("cat go; touch there; echo >fd; exec sleep 1000", health=Health(readiness_probe=probe("test -e there"))),
    LOG_READY: job("cat go; touch there; printf 'now re'; printf 'ady\\n' >&2; exec sleep 1000", health=Health(ready_log_line="^ady$")),
    COMPLETED: job("cat go; touch there; exit 3", success_exit_codes=(3,)),
    SUCCEEDED: job("cat go; touch there; exit 3", success_exit_codes=(3,)),
}


@pytest.mark.parametrize("condition", REACHED)
async def test_a_job_is_started_when_what_it_waits_for_is_there_and_not_before(condition, fifo):
    fifo("go")
    stack = Stack({"web": job("test -e there", after={"db": condition}), "db": REACHED[condition]})

    async def wait():
        await stack.until(lambda: stack.of(JobStarted, "db"))
        await anyio.wait_all_tasks_blocked()
        assert stack.states["web"] == "Pending"

    async def finish():
        await stack.until(lambda: stack.of(JobExited, "web"))
        stack.stop()

    assert await stack.run(wait, let_go("go"), finish) == 0
    assert stack.of(JobExited, "web")[0].exit.returncode == 0


async def test_process_started_is_there_when_it_was_spawned(fifo):
    fifo("go")
    stack = Stack({"web": job("echo >go", after={"db": STARTED}), "db": job("cat go")})  # db ends only when web has run
    assert await stack.run() == 0
    assert [event.job for event in stack.of(JobStarted)] == ["db", "web"]


async def test_process_completed_is_there_after_a_failure_too():
    stack = Stack({"after": job("echo ran", after={"migrate": COMPLETED}), "migrate": job("exit 3")})
    assert await stack.run() == 3
    assert stack.states == {"after": "Completed", "migrate": "Failed"}


async def test_all_that_a_job_waits_for_has_to_be_there(fifo):
    fifo("go")
    stack = Stack({"web": job("test -e there", after={"a": COMPLETED, "b": COMPLETED}), "a": job("true"), "b": job("cat go; touch there")})
    assert await stack.run(lambda: stack.until(lambda: stack.of(JobExited, "a")), let_go("go")) == 0


NEVER = [
    (STARTED, job(["nonexistent-command"]), "Failed", 66),
    (HEALTHY, job("exit 3", health=Health(sd_notify=True)), "Failed", 3),
    (HEALTHY, job("true", health=Health(sd_notify=True)), "Completed", 69),
    (LOG_READY, job("echo not", health=Health(ready_log_line="ready")), "Completed", 69),
    (SUCCEEDED, job("exit 3", availability=again(max_restarts=2)), "Failed", 3),
    (SUCCEEDED, job("kill -KILL $$"), "Failed", 137),
]


@pytest.mark.parametrize(("condition", "db", "state", "status"), NEVER, ids=lambda value: str(value))
async def test_what_can_never_be_there_skips_all_that_wait_for_it_and_is_no_success(condition, db, state, status):
    jobs = {"top": job("true", after={"web": STARTED}), "web": job("true", after={"db": condition}), "db": db, "other": job("true")}
    stack = Stack(jobs)
    assert await stack.run() == status
    assert stack.states == {"top": "Skipped", "web": "Skipped", "db": state, "other": "Completed"}
    assert stack.of(JobSkipped) == [
        JobSkipped("web", f"db is {state}, and {condition} is needed of it"),
        JobSkipped("top", "web is Skipped, and process_started is needed of it"),
    ]


# Ready, and well.


async def test_a_readiness_probe_makes_it_ready_and_can_take_it_back():
    stack = Stack({"db": job(SLEEP, health=Health(readiness_probe=probe("test -e up", failure_threshold=1)))})

    async def go_up_and_down():
        await stack.until(lambda: stack.of(JobStatus))  # the first answer was no
        Path("up").touch()
        await stack.until(lambda: stack.of(JobReady))
        assert stack.states["db"] == "Ready"
        Path("up").unlink()
        await stack.until(lambda: stack.of(JobNotReady))
        assert stack.states["db"] == "Running"
        stack.stop()

    assert await stack.run(go_up_and_down) == 0
    assert "readiness probe" in stack.of(JobNotReady)[0].reason


async def test_a_liveness_probe_that_fails_ends_it_and_its_policy_decides():
    command = "echo $$; if test -e second; then touch well; fi; touch second; exec sleep 1000"
    health = Health(liveness_probe=probe("test -e well", failure_threshold=2))
    stack = Stack({"web": job(command, health=health, availability=again())})

    async def wait():
        await stack.until(lambda: stack.of(JobReady))
        stack.stop()

    assert await stack.run(wait) == 0
    (unhealthy,) = stack.of(JobUnhealthy)
    assert (unhealthy.attempt, stack.of(JobReady)[0].attempt) == (1, 2)
    assert "liveness probe failed 2 times in a row" in unhealthy.reason
    assert [event.exit.signal for event in stack.of(JobExited)] == [signal.SIGTERM] * 2
    assert [event.attempt for event in stack.of(JobRestarting)] == [1]


async def test_an_unhealthy_job_without_a_policy_has_failed_although_it_ended_as_told():
    stack = Stack({"web": job("trap 'exit 0' TERM; while :; do sleep 0.01; done", health=Health(liveness_probe=probe("false")))})
    assert await stack.run() == 1
    assert stack.states == {"web": "Failed"}


NOTIFY = f"""exec {sys.executable} -Sc '
import os, socket, signal
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
    s.connect(os.environ["NOTIFY_SOCKET"].replace("@", chr(0)))
    s.send(b"STATUS=warm")
    s.send(b"READY=1")
    signal.pause()
'"""


async def test_a_job_that_says_ready_by_sd_notify_is_waited_for():
    stack = Stack({"web": job("true", after={"db": HEALTHY}), "db": job(NOTIFY, health=Health(sd_notify=True))})

    async def wait():
        await stack.until(lambda: stack.of(JobExited, "web"))
        stack.stop()

    assert await stack.run(wait) == 0
    assert [event.text for event in stack.of(JobStatus)] == ["warm"]
    kinds = [type(event) for event in stack.events]
    assert kinds.index(JobReady) < kinds.index(JobExited)


async def test_a_job_that_says_ready_by_its_notification_fd_is_waited_for():
    stack = Stack({"web": job("true", after={"db": HEALTHY}), "db": job("echo >&5; exec sleep 1000", health=Health(notification_fd=5))})

    async def wait():
        await stack.until(lambda: stack.of(JobExited, "web"))
        stack.stop()

    assert await stack.run(wait) == 0


# Started again.


async def test_it_is_started_again_as_often_as_the_policy_says_and_every_event_has_its_attempt():
    stack = Stack({"j": job("echo x; exit 3", availability=again(max_restarts=2))})
    assert await stack.run() == 3
    for kind in (JobStarted, JobExited):
        assert [event.attempt for event in stack.of(kind)] == [1, 2, 3]
    first, second = stack.of(JobRestarting)
    assert (first.attempt, second.attempt) == (1, 2)
    assert 0.009 <= first.delay_s <= 0.011
    assert 0.018 <= second.delay_s <= 0.02
    assert stack.of(JobGivenUp) == [JobGivenUp("j", "2 restarts in a row", 3)]
    assert stack.outlets["j"].data == b"x\nx\nx\n"
    assert (stack.services["j"].restarts, stack.services["j"].tally.status) == (2, 3)


async def test_what_cannot_be_started_is_tried_again_too():
    command = "dir/command"
    stack = Stack({"j": job([f"{os.getcwd()}/{command}"], availability=again())})

    def make(event):
        if isinstance(event, JobRestarting):
            Path("dir").mkdir()
            Path(command).write_text("#!/bin/sh\necho made\n")
            Path(command).chmod(0o755)

    stack.on_event = make
    assert await stack.run() == 0
    assert [event.attempt for event in stack.of(JobFailedToStart)] == [1]
    assert [event.attempt for event in stack.of(JobStarted)] == [2]
    assert stack.outlets["j"].data == b"made\n"


async def test_an_output_that_cannot_be_opened_is_a_start_that_failed():
    class Broken(Recordings):
        def open(self):
            if self.outputs:
                raise OutputError(24, "Too many open files", "out")
            return super().open()

    stack = Stack({"j": job("exit 1", availability=again(max_restarts=1))}, {"j": Broken()})
    assert await stack.run() == 69
    assert [(event.attempt, event.status) for event in stack.of(JobFailedToStart)] == [(2, 69)]


@pytest.mark.parametrize(
    ("restart", "command", "runs"),
    [
        (Restart.NO, "exit 1", 1),
        (Restart.ON_FAILURE, "true", 1),
        (Restart.ON_FAILURE, "exit 1", 3),
        (Restart.ALWAYS, "true", 3),
        (Restart.UNLESS_STOPPED, "true", 3),
        (Restart.EXIT_ON_FAILURE, "exit 1", 1),
    ],
)
async def test_the_policy_says_who_is_started_again(restart, command, runs):
    stack = Stack({"j": job(command, availability=again(restart, max_restarts=2))})
    await stack.run()
    assert len(stack.of(JobStarted)) == runs


@pytest.mark.parametrize(
    ("codes", "command", "status"), [((0, 3), "exit 3", 0), ((3,), "true", 1), ((3,), "exit 4", 4), ((0,), "exit 3", 3)]
)
async def test_which_exit_statuses_are_a_success(codes, command, status):
    stack = Stack({"j": job(command, success_exit_codes=codes, availability=again(max_restarts=1))})
    assert await stack.run() == status
    assert len(stack.of(JobStarted)) == (2 if status else 1)


class Filed(Recordings):
    """A recording, and the files of the job."""

    def __init__(self, files):
        super().__init__()
        self.files = files

    def open(self):
        return [*super().open(), *self.files.open(last=False)]

    def close(self):
        super().close()
        self.files.close()


async def test_each_attempt_goes_on_in_the_same_files():
    outputs = tuple(
        OutputFile(f"{name}-{mode}", stream, mode == "append")
        for name, stream in (("both", None), ("out", Stream.STDOUT), ("err", Stream.STDERR))
        for mode in ("append", "overwrite")
    )
    for file in outputs:
        Path(file.path).write_text("old and long enough\n" * 10)
    command = "echo x >>count; n=$(grep -c x count); echo out $n; echo err $n >&2; printf %0100000d $n; exit 1"
    pumps = PumpProcess(asyncio.get_running_loop())
    make = job(command, outputs=outputs, availability=again(max_restarts=4))
    files = open_all([make("j")], pumps)
    stack = Stack({"j": make}, {"j": Filed(files["j"])})
    assert await stack.run() == 1
    pumps.close()
    texts = [(f"out {n}\n", f"err {n}\n", f"{n:0100000}") for n in range(1, 6)]
    whole = {
        "both": "".join(out + err + rest for out, err, rest in texts),
        "out": "".join(out + rest for out, _, rest in texts),
        "err": "".join(err for _, err, _ in texts),
    }
    for name, text in whole.items():
        assert Path(f"{name}-overwrite").read_text() == text
        assert Path(f"{name}-append").read_text() == "old and long enough\n" * 10 + text


async def test_what_an_attempt_has_left_does_not_meet_the_next():
    stack = Stack({"j": job("sleep 1000 >/dev/null 2>&1 & exit 3", availability=again(max_restarts=2))})
    left = []
    stack.on_event = lambda event: left.extend(members(stack.of(JobStarted)[-2].pid)) if len(stack.of(JobStarted)) > 1 else None
    assert await stack.run() == 3
    assert left == []
    assert [event.attempt for event in stack.of(JobLeftRunning)] == [3]  # who is not started again is left alone
    os.killpg(stack.pid("j"), signal.SIGKILL)


# The end of the whole run.


@pytest.mark.parametrize("status", [0, 5])
async def test_a_job_with_exit_on_end_ends_the_run_with_its_status(status, fifo):
    fifo("go")
    main = job(f"cat go; exit {status}", availability=Availability(exit_on_end=True))
    stack = Stack({"main": main, "bad": job("exit 3"), "web": job(SLEEP)})
    assert await stack.run(lambda: stack.said("web"), lambda: stack.until(lambda: stack.of(JobExited, "bad")), let_go("go")) == status
    assert stack.of(JobExited, "web")[0].exit.signal == signal.SIGTERM
    assert stack.of(Stopping) == [Stopping(0, now=False, job="main")]
    assert stack.supervisor.stopped_by is None


async def test_a_job_with_exit_on_end_that_can_never_start_ends_the_run():
    main = job("true", after={"bad": SUCCEEDED}, availability=Availability(exit_on_end=True))
    stack = Stack({"main": main, "bad": job("exit 3"), "web": job(SLEEP)})
    assert await stack.run() == 69
    assert stack.states["main"] == "Skipped"


async def test_a_job_with_exit_on_end_that_is_started_again_has_not_ended():
    availability = again(max_restarts=1, exit_on_end=True)
    stack = Stack({"main": job("exit 4", availability=availability), "web": job(SLEEP)})
    assert await stack.run() == 4
    assert [event.attempt for event in stack.of(JobStarted, "main")] == [1, 2]


@pytest.mark.parametrize(("command", "ends"), [("exit 4", True), (["nonexistent-command"], True), ("true", False)])
async def test_exit_on_failure_ends_the_run_after_a_failure_only(command, ends):
    stack = Stack({"main": job(command, availability=Availability(restart=Restart.EXIT_ON_FAILURE)), "web": job(SLEEP)})

    async def wait():
        await stack.said("web")
        await stack.until(lambda: stack.services["main"].state.final)
        assert stack.services["web"].state is State.RUNNING
        stack.stop()

    status = await stack.run(*[] if ends else [wait])
    assert status == {"exit 4": 4, "true": 0}.get(str(command), 66)
    assert stack.states["web"] == ("Completed" if stack.of(JobStarted, "web") else "Skipped")


# The stop.


def tells(before=""):
    """A command that says in a file that it was told to end, after something else."""
    return f"trap '{before} echo $JOB >>ended; exit 0' TERM; echo ready; while :; do sleep 0.01; done"


def named(name, command, **options):
    return job(f"JOB={name}; {command}", **options)


async def test_dependents_are_stopped_first_and_the_independent_at_once(fifo):
    fifo("here")
    fifo("there")
    jobs = {
        "a": named("a", tells()),
        "b": named("b", tells(), after={"a": STARTED}),
        "c": named("c", tells("echo >here; cat there;"), after={"b": STARTED, "a": STARTED}),
        "d": named("d", tells("cat here; echo >there;")),  # it and c wait for each other
    }
    stack = Stack(jobs)

    async def stop():
        await stack.said(*"abcd")
        stack.stop()

    assert await stack.run(stop) == 0
    ended = Path("ended").read_text().split()
    assert [name for name in ended if name != "d"] == ["c", "b", "a"]
    assert ended.index("d") < 2
    assert {event.exit.returncode for event in stack.of(JobExited)} == {0}


async def test_who_depends_on_it_by_way_of_one_that_has_completed_is_stopped_before_it_too():
    jobs = {
        "db": named("db", tells()),
        "migrate": job("true", after={"db": STARTED}),
        "web": named("web", tells("sleep 0.1;"), after={"migrate": SUCCEEDED}),
    }
    stack = Stack(jobs)

    async def stop():
        await stack.said("db", "web")
        stack.stop()

    assert await stack.run(stop) == 0
    assert Path("ended").read_text().split() == ["web", "db"]


async def test_one_that_ends_by_itself_while_it_waits_for_its_dependents_is_no_obstacle(fifo):
    fifo("go")
    end = "echo >go; while kill -0 $(cat pid); do sleep 0.01; done; exit 0"  # or a would be told to end before it has
    jobs = {
        "a": job("echo $$ >pid; echo; cat go; exit 3"),
        "b": job(f"trap '{end}' TERM; echo; while :; do sleep 0.01; done", after={"a": STARTED}),
    }
    stack = Stack(jobs)

    async def stop():
        await stack.said("a", "b")
        stack.stop()

    assert await stack.run(stop) == 3
    assert stack.states == {"a": "Failed", "b": "Completed"}


async def test_a_stop_that_takes_long_is_told_again_and_again(monkeypatch):
    monkeypatch.setattr(service_module, "STILL_WAITING_S", 0.05)
    stack = Stack({"j": job(STUBBORN, shutdown=Shutdown(timeout_seconds=0.3))})

    async def stop():
        await stack.said("j")
        stack.stop()

    assert await stack.run(stop) == 137
    waiting = stack.of(StillWaiting)
    assert len(waiting) >= 2
    assert {(event.job, event.pid, event.timeout_s) for event in waiting} == {("j", stack.pid("j"), 0.3)}
    waited_s = [event.waited_s for event in waiting]
    assert waited_s == sorted(set(waited_s))
    assert 0.04 <= waited_s[0] < 0.3


async def test_a_second_stop_kills_those_that_wait_for_their_dependents_too():
    options = {"shutdown": Shutdown(timeout_seconds=1000)}
    stack = Stack({"a": job(STUBBORN, **options), "b": job(STUBBORN, after={"a": STARTED}, **options)})

    async def stop_twice():
        await stack.said("a", "b")
        stack.stop()
        await anyio.wait_all_tasks_blocked()
        stack.stop()

    await stack.run(stop_twice)
    assert [event.exit.signal for event in stack.of(JobExited)] == [signal.SIGKILL] * 2


async def test_the_first_signal_after_a_job_has_ended_the_run_is_no_second_one(fifo):
    fifo("go")
    web = job("trap 'cat go; exit 0' TERM; echo; while :; do sleep 0.01; done", health=Health(ready_log_line="^$"))
    stack = Stack({"main": job("exit 0", after={"web": LOG_READY}, availability=Availability(exit_on_end=True)), "web": web})

    async def stop():
        await stack.until(lambda: stack.of(Stopping))
        stack.stop()
        await anyio.wait_all_tasks_blocked()

    assert await stack.run(stop, let_go("go")) == 0
    assert [event.now for event in stack.of(Stopping)] == [False, False]
    assert stack.of(JobExited, "web")[0].exit.returncode == 0
    assert stack.supervisor.stopped_by == signal.SIGTERM


@pytest.mark.parametrize("restart", Restart)
async def test_what_was_stopped_is_not_started_again(restart):
    stack = Stack({"j": job(f"trap 'exit 3' TERM; {SLEEP.replace('exec ', '')} & wait", availability=again(restart))})

    async def stop():
        await stack.said("j")
        stack.stop()

    assert await stack.run(stop) == 3
    assert len(stack.of(JobStarted)) == 1


async def test_a_stop_in_a_back_off_is_at_once_and_the_last_run_counts():
    stack = Stack({"j": job("exit 3", availability=again(backoff_seconds=1000, backoff_max_seconds=1000))})

    async def stop():
        await stack.until(lambda: stack.of(JobRestarting))
        await anyio.wait_all_tasks_blocked()
        assert stack.states["j"] == "Restarting"
        stack.stop()

    assert await stack.run(stop) == 3
    assert stack.states == {"j": "Failed"}
    assert len(stack.of(JobStarted)) == 1


LEAVES = "(trap '' TERM; exec sleep 1000 >/dev/null 2>&1) & exit 3"


@pytest.mark.parametrize("kills", [False, True])
async def test_a_stop_while_what_an_attempt_has_left_is_ended_is_not_forgotten(kills):
    availability = again(backoff_seconds=1000, backoff_max_seconds=1000)
    stack = Stack({"j": job(LEAVES, availability=availability, shutdown=Shutdown(timeout_seconds=1000 if kills else 0.2))})

    async def stop():
        await stack.until(lambda: stack.of(JobRestarting))
        await anyio.wait_all_tasks_blocked()
        stack.stop()
        if kills:
            stack.stop()

    assert await stack.run(stop) == 3
    assert members(stack.pid("j")) == []


async def test_what_a_job_has_left_goes_when_the_run_is_stopped():
    stack = Stack({"j": job("sleep 1000 >/dev/null 2>&1 &"), "web": job(SLEEP)})

    async def stop():
        await stack.said("web")
        await stack.until(lambda: stack.of(JobExited, "j"))
        assert members(stack.pid("j")) != []
        stack.stop()

    assert await stack.run(stop) == 0
    assert members(stack.pid("j")) == []


async def test_jobs_that_were_not_started_are_skipped_by_a_stop():
    jobs = {"a": job(SLEEP, health=Health(sd_notify=True)), "b": job("true", after={"a": HEALTHY}), "c": job("true", after={"b": STARTED})}
    stack = Stack(jobs)

    async def stop():
        await stack.said("a")
        stack.stop()

    assert await stack.run(stop) == 0
    assert stack.states == {"a": "Completed", "b": "Skipped", "c": "Skipped"}
    assert stack.of(JobSkipped) == [JobSkipped(name, "the run was stopped") for name in "bc"]


async def test_a_stop_before_the_start_skips_all_for_this_reason():
    stack = Stack({"a": job("true"), "b": job("true", after={"a": STARTED})}, max_parallel=1)
    stack.stop()
    assert await stack.run() == 0
    assert sorted(event.job for event in stack.of(JobSkipped) if event.reason == "the run was stopped") == ["a", "b"]


async def test_a_shutdown_command_that_fails_is_told():
    stack = Stack({"j": job(SLEEP, shutdown=Shutdown(command="exit 9"))})

    async def stop():
        await stack.said("j")
        stack.stop()

    assert await stack.run(stop) == 0
    assert stack.of(ShutdownFailed) == [ShutdownFailed("j", "shutdown.command: exited with status 9", 1)]


# Cancellation.


async def nothing(_stack):
    pass


async def all_said(stack):
    await stack.said(*[name for name in stack.services if name in "ab"])


async def stopping(stack):
    await all_said(stack)
    stack.stop()
    await anyio.wait_all_tasks_blocked()


async def restarting(stack):
    await stack.until(lambda: stack.of(JobRestarting))
    await anyio.wait_all_tasks_blocked()


LONG = again(backoff_seconds=1000, backoff_max_seconds=1000)
SHORT = Shutdown(timeout_seconds=0.1)
CANCELLED = {
    "before it began": ({"a": job(SLEEP)}, nothing),
    "running": ({"a": job(SLEEP)}, all_said),
    "ready": (
        {"a": job("echo ready; exec sleep 1000", health=Health(ready_log_line="ready"))},
        lambda stack: stack.until(lambda: stack.of(JobReady)),
    ),
    "probed": ({"a": job(SLEEP, health=Health(readiness_probe=probe("exec sleep 1000")))}, all_said),
    "pending": ({"a": job(SLEEP, health=Health(sd_notify=True)), "x": job("true", after={"a": HEALTHY})}, all_said),
    "without a slot": ({"a": job(SLEEP), "x": job("true")}, lambda stack: stack.said("a")),
    "in a back-off": ({"a": job("exit 1", availability=LONG)}, restarting),
    "ending what was left": ({"a": job(LEAVES, availability=LONG, shutdown=SHORT)}, restarting),
    "terminating": ({"a": job(STUBBORN, shutdown=SHORT)}, stopping),
    "waiting for dependents": ({"a": job(SLEEP), "b": job(STUBBORN, after={"a": STARTED}, shutdown=SHORT)}, stopping),
    "when one has left something": (
        {"a": job(SLEEP), "x": job("sleep 1000 >/dev/null 2>&1 &")},
        lambda stack: stack.until(lambda: stack.of(JobLeftRunning) and stack.outlets["a"].data),
    ),
}


@pytest.mark.parametrize("when", CANCELLED)
async def test_cancelled_at_any_time_nothing_is_left(when):
    jobs, until = CANCELLED[when]
    stack = Stack(jobs, max_parallel=1 if when == "without a slot" else 0)
    with anyio.fail_after(ENOUGH_S):
        async with anyio.create_task_group() as group:
            group.start_soon(stack.supervisor.run)
            await until(stack)
            group.cancel_scope.cancel()
    stack.check_ended()
    assert [members(event.pid) for event in stack.of(JobStarted)] == [[]] * len(stack.of(JobStarted))


# How many at once.


async def test_no_more_than_max_parallel_run_at_once_and_all_run():
    stack = Stack({f"j{number}": job("true") for number in range(9)}, max_parallel=2)
    assert await stack.run() == 0
    running, most = 0, 0
    for event in stack.events:
        running += isinstance(event, JobStarted) - isinstance(event, JobExited)
        most = max(most, running)
    assert (most, running, len(stack.of(JobExited))) == (2, 0, 9)


async def test_who_waits_for_a_place_while_all_are_taken_by_what_is_waited_for_is_told():
    jobs = {
        "first": job("true"),
        "db": job(SLEEP),
        "cache": job(SLEEP),
        "api": job("true", after={"db": STARTED}),
        "web": job("true", after={"api": SUCCEEDED}),
        "worker": job("true", after={"cache": STARTED}),
    }
    stack = Stack(jobs, max_parallel=2)

    async def stop():
        await stack.until(lambda: stack.of(JobWaiting))
        assert [name for name, state in stack.states.items() if state == "Pending"] == ["api", "web", "worker"]
        stack.stop()

    await stack.run(stop)
    (told,) = stack.of(JobWaiting)
    assert told.job in ("api", "worker")
    assert told.reason.startswith("no more than max_parallel = 2 may run, and those that do are what others wait for: ")
    assert sorted(told.reason.rpartition(": ")[2].split(", ")) == ["cache", "db"]


async def test_who_waits_beside_one_that_ends_is_not(fifo):
    fifo("go")
    jobs = {
        "db": job(SLEEP),
        "other": job("cat go"),
        "api": job("true", after={"db": STARTED}),
        "web": job("true", after={"api": SUCCEEDED}),
    }
    stack = Stack(jobs, max_parallel=2)

    async def stop():
        await let_go("go")()
        await stack.until(lambda: stack.of(JobExited, "web"))
        stack.stop()

    assert await stack.run(stop) == 0
    assert stack.of(JobWaiting) == []


async def test_max_parallel_run_at_once(fifo):
    fifo("a")
    fifo("b")
    stack = Stack({"a": job("echo >a; cat b"), "b": job("cat a; echo >b"), "c": job("true")}, max_parallel=2)  # a and b wait for each other
    assert await stack.run() == 0


async def test_what_it_waits_for_has_to_be_there_when_its_turn_has_come(fifo):
    fifo("go")
    jobs = {
        "db": job("touch up; echo; exec sleep 1000", health=Health(readiness_probe=probe("test -e up", failure_threshold=1))),
        "long": job("cat go"),
        "web": job("test -e up", after={"db": HEALTHY}),
    }
    stack = Stack(jobs, max_parallel=2)

    async def up_and_down():
        await stack.until(lambda: stack.of(JobReady))
        await anyio.wait_all_tasks_blocked()
        Path("up").unlink()
        await stack.until(lambda: stack.of(JobNotReady))

    async def up():
        await stack.until(lambda: stack.of(JobExited, "long"))
        await anyio.wait_all_tasks_blocked()
        assert stack.states["web"] == "Pending"
        Path("up").touch()
        await stack.until(lambda: stack.of(JobExited, "web"))
        stack.stop()

    assert await stack.run(up_and_down, let_go("go"), up) == 0


# What was used.


async def test_what_all_runs_have_used_is_added_up():
    stack = Stack({"j": job("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 2", availability=again(max_restarts=2))})
    await stack.run()
    tally, exits = stack.services["j"].tally, stack.of(JobExited)
    assert tally.status == 2
    assert tally.cpu_s == pytest.approx(sum(event.exit.user_s + event.exit.system_s for event in exits))
    assert tally.duration_s == pytest.approx(sum(event.duration_s for event in exits))
    assert tally.max_rss_bytes == max(event.exit.max_rss_bytes for event in exits)
    assert tally.cpu_s > 0


async def test_a_failing_output_is_told_with_its_attempt():
    class Failing(Recordings):
        def open(self):
            output = RecordingOutput()
            output.write = lambda batch: output.flow.report(OSError(28, "No space left on device"))
            self.outputs.append(output)
            return [output]

    stack = Stack({"j": job("echo x; exit 1", availability=again(max_restarts=1))}, {"j": Failing()})
    assert await stack.run() == 74
    assert [event.attempt for event in stack.of(OutputFailed)] == [1, 2]


async def test_a_liveness_probe_that_fails_while_the_job_is_stopped_is_no_news(tmp_path):
    alive = tmp_path / "alive"
    alive.touch()
    command = f"trap 'rm {alive}; sleep 0.3; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    liveness = probe(f"test -e {alive}", failure_threshold=1)
    stack = Stack({"web": job(command, health=Health(liveness_probe=liveness))})

    async def stop():
        await stack.until(lambda: stack.of(JobReady))
        stack.supervisor.stop(signal.SIGTERM)

    assert await stack.run(lambda: stack.said("web"), stop) == 0
    assert stack.of(JobUnhealthy) == stack.of(JobNotReady) == []
    assert stack.states == {"web": "Completed"}


async def test_who_depends_on_a_job_by_way_of_one_that_completed_is_stopped_first():
    slow = "trap 'sleep 0.2; exit' TERM; echo ready; while :; do sleep 0.01; done"
    jobs = {"db": job(SLEEP), "migrate": job("true", after={"db": STARTED}), "web": job(slow, after={"migrate": SUCCEEDED})}
    stack = Stack(jobs)

    async def stop():
        stack.supervisor.stop(signal.SIGTERM)

    await stack.run(lambda: stack.said("db", "web"), stop)
    assert [event.job for event in stack.of(JobExited)] == ["migrate", "web", "db"]


async def test_a_job_that_the_run_is_to_end_with_ends_it_when_it_is_skipped_too():
    smoke = job("true", after={"broken": SUCCEEDED}, availability=Availability(exit_on_end=True))
    stack = Stack({"broken": job("exit 3"), "server": job(SLEEP), "smoke": smoke})
    assert await stack.run() == 69
    assert stack.states == {"broken": "Failed", "server": "Completed", "smoke": "Skipped"}


async def test_the_shutdown_command_is_not_run_for_a_job_that_has_ended(tmp_path):
    shutdown = Shutdown(command=f"echo x >>{tmp_path}/asked")
    stack = Stack({"web": job("exit 3", availability=again(max_restarts=2), shutdown=shutdown)})
    assert await stack.run() == 3
    assert len(stack.of(JobExited)) == 3
    assert not (tmp_path / "asked").exists()


async def test_a_job_that_is_always_wanted_and_was_restarted_too_often_is_given_up_though_it_succeeds():
    stack = Stack({"web": job("true", availability=again(Restart.ALWAYS, max_restarts=2))})
    assert await stack.run() == 0
    assert [event.reason for event in stack.of(JobGivenUp)] == ["2 restarts in a row"]
