"""Many jobs at once: statuses, stops, groups, and who is told what."""

import asyncio
import errno
import os
import signal

import anyio
import pytest

from dtee_async.api.loops import captures_of_loop
from dtee_async.core.outputs import OutputFile
from dtee_async.core.policy import Condition, Shutdown
from dtee_async.core.spec import JobSpec
from dtee_async.core.write import Stream
from dtee_async.engine.pumps import PumpProcess
from dtee_async.errors import ConfigError, OutputError
from dtee_async.process.group import members
from dtee_async.supervisor.events import JobExited, JobFailedToStart, JobLeftRunning, JobStarted, OutputDropped, OutputFailed, Stopping
from dtee_async.supervisor.files import open_all, open_in_host
from dtee_async.supervisor.supervisor import Supervisor
from dtee_async.testing import RecordingOutput, open_fds


class Outlet:
    """One output for a job that runs once."""

    def __init__(self, output):
        self.output = output
        self.closed = 0

    def open(self):
        return [self.output]

    def close(self):
        self.closed += 1


class Run:
    """A supervisor of shell commands, each with a recording output, and its events."""

    def __init__(self, loop, *commands, output=RecordingOutput, grace_s=10.0, **options):
        self.outputs = [output() for _ in commands]
        self.outlets = [Outlet(output) for output in self.outputs]
        self.events = []
        self.told = anyio.Event()
        shutdown = Shutdown(timeout_seconds=grace_s)
        specs = [JobSpec(f"job{i}", command, shutdown=shutdown) for i, command in enumerate(commands)]
        self.supervisor = Supervisor(loop, captures_of_loop(), list(zip(specs, self.outlets, strict=True)), self._tell, **options)

    def _tell(self, event):
        self.events.append(event)
        told, self.told = self.told, anyio.Event()
        told.set()

    async def until(self, condition):
        while not condition():
            await self.told.wait()

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]


async def start(*commands, **options):
    return Run(asyncio.get_running_loop(), *commands, **options)


async def test_all_run_at_once_and_0_is_the_status_when_all_succeeded(tmp_path):
    # Each waits for the other: one after the other they would never end.
    os.mkfifo(tmp_path / "a")
    os.mkfifo(tmp_path / "b")
    run = await start(f"echo 1 >{tmp_path}/a; cat {tmp_path}/b", f"cat {tmp_path}/a; echo 2 >{tmp_path}/b")
    assert await run.supervisor.run() == 0
    assert [output.data() for output in run.outputs] == [b"2\n", b"1\n"]
    assert len(run.of(JobStarted)) == len(run.of(JobExited)) == 2
    assert all(event.exact and event.mode == "ordered" for event in run.of(JobStarted))


async def test_the_status_is_that_of_the_job_that_failed_first_in_time(tmp_path):
    os.mkfifo(tmp_path / "go")
    run = await start(f"cat {tmp_path}/go; exit 3", "kill -USR1 $$")

    async with anyio.create_task_group() as group:
        group.start_soon(run.supervisor.run)
        await run.until(lambda: run.of(JobExited))
        with open(tmp_path / "go", "w"):
            pass
    assert run.supervisor.status == 128 + signal.SIGUSR1


async def test_a_command_that_cannot_be_started_fails_and_the_others_run():
    run = await start(["nonexistent-command"], "echo x")
    assert await run.supervisor.run() == 66
    assert run.outputs[1].data() == b"x\n"
    assert run.outputs[0].closed == 1
    assert [event.error.filename for event in run.of(JobFailedToStart)] == ["nonexistent-command"]


async def test_a_stop_ends_the_whole_group_of_every_job():
    run = await start(*["sleep 100 & sleep 100 & echo; wait"] * 3)
    async with anyio.create_task_group() as group:
        group.start_soon(run.supervisor.run)
        await run.until(lambda: len(run.of(JobStarted)) == 3)
        run.supervisor.stop(signal.SIGTERM)
    assert all(event.exit.signal == signal.SIGTERM for event in run.of(JobExited))
    assert [members(event.pid) for event in run.of(JobStarted)] == [[], [], []]
    assert run.of(Stopping) == [Stopping(signal.SIGTERM, now=False)]
    assert run.supervisor.stopped_by == signal.SIGTERM


async def test_what_ignores_term_is_killed_after_the_grace_period():
    run = await start("trap '' TERM; echo ready; while :; do sleep 1; done", grace_s=0.2)
    async with anyio.create_task_group() as group:
        group.start_soon(run.supervisor.run)
        while not run.outputs[0].writes:
            await anyio.lowlevel.checkpoint()
        run.supervisor.stop(signal.SIGTERM)
    assert run.of(JobExited)[0].exit.signal == signal.SIGKILL
    assert members(run.of(JobStarted)[0].pid) == []


async def test_a_member_of_the_group_that_ignores_term_does_not_survive_its_leader():
    run = await start("(trap '' TERM; echo ready; while :; do sleep 1; done) & wait", grace_s=0.2)
    async with anyio.create_task_group() as group:
        group.start_soon(run.supervisor.run)
        while not run.outputs[0].writes:
            await anyio.lowlevel.checkpoint()
        run.supervisor.stop(signal.SIGTERM)
    assert members(run.of(JobStarted)[0].pid) == []


async def test_a_second_stop_kills_at_once():
    run = await start("trap '' TERM; echo ready; while :; do sleep 1; done", grace_s=1000)
    async with anyio.create_task_group() as group:
        group.start_soon(run.supervisor.run)
        while not run.outputs[0].writes:
            await anyio.lowlevel.checkpoint()
        run.supervisor.stop(signal.SIGINT)
        run.supervisor.stop(signal.SIGINT)
    assert run.of(JobExited)[0].exit.signal == signal.SIGKILL
    assert [event.now for event in run.of(Stopping)] == [False, True]


async def test_a_stop_before_the_start_starts_nothing():
    run = await start("echo x")
    run.supervisor.stop(signal.SIGTERM)
    await run.supervisor.run()
    assert run.of(JobStarted) == []
    assert run.outlets[0].closed == 1


async def test_what_a_job_leaves_in_its_group_is_named_and_left_alone():
    run = await start("sleep 100 >/dev/null 2>&1 & echo $!; sleep 0.01")
    assert await run.supervisor.run() == 0
    (left,) = run.of(JobLeftRunning)
    pid = int(run.outputs[0].data())
    os.kill(pid, signal.SIGKILL)
    assert [(member.pid, member.name) for member in left.members] == [(pid, "sleep")]


async def test_cancelling_the_supervisor_ends_its_jobs():
    run = await start("echo ready; exec sleep 100")
    async with anyio.create_task_group() as group:
        group.start_soon(run.supervisor.run)
        await run.until(lambda: run.of(JobStarted))
        group.cancel_scope.cancel()
    assert members(run.of(JobStarted)[0].pid) == []


async def test_an_output_that_is_stuck_is_dropped_after_the_grace_period_and_told():
    class Stuck(RecordingOutput):
        def write(self, batch):
            super().write(batch)
            self.flow.pause()

        def close(self):
            super().close()
            return len(self.data())

    run = await start("echo 12345; exec sleep 100", output=Stuck, grace_s=0.1)
    async with anyio.create_task_group() as group:
        group.start_soon(run.supervisor.run)
        while not run.outputs[0].writes:
            await anyio.lowlevel.checkpoint()
        run.supervisor.stop(signal.SIGTERM)
    assert run.of(OutputDropped) == [OutputDropped("job0", "recording", 6)]


async def test_a_failing_output_is_told_and_makes_the_status_74():
    class Failing(RecordingOutput):
        def write(self, batch):
            self.flow.report(OSError(28, "No space left on device"))

    run = await start("echo x", output=Failing)
    assert await run.supervisor.run() == 74
    assert [event.error.errno for event in run.of(OutputFailed)] == [28]


def spec(name, *files):
    return JobSpec(name, "true", outputs=tuple(OutputFile(str(path), None, append) for path, append in files))


def test_either_all_files_are_opened_or_none_is_and_then_nothing_is_truncated(tmp_path):
    (tmp_path / "precious").write_text("old")
    before = open_fds()
    with pytest.raises(OutputError) as caught:
        open_all([spec("a", (tmp_path / "precious", False)), spec("b", (tmp_path / "missing" / "x", True))], PumpProcess(None))
    assert caught.value.filename == str(tmp_path / "missing" / "x")
    assert (tmp_path / "precious").read_text() == "old"
    assert open_fds() == before
    files = open_all([spec("a", (tmp_path / "precious", False))], PumpProcess(None))
    assert (tmp_path / "precious").read_text() == ""
    for last in (False, True):
        for output in files["a"].open(last=last):
            output.close()
    files["a"].close()
    assert open_fds() == before


def test_in_a_host_a_fifo_that_nobody_reads_is_an_error_and_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OutputError, match="nobody has this FIFO open for reading"):
        open_in_host([OutputFile(str(tmp_path / "fifo"), Stream.STDOUT, append=True)], None)


def test_the_files_of_a_job_are_open_for_all_its_runs_and_closed_once(tmp_path):
    before = open_fds()
    files = open_all([spec("a", (tmp_path / "one", False), (tmp_path / "two", True))], PumpProcess(None))["a"]
    held = len(open_fds()) - len(before)
    for _ in range(3):
        outputs = files.open(last=False)
        assert len(open_fds()) - len(before) == held + 2
        for output in outputs:
            output.close()
    assert len(open_fds()) - len(before) == held == 2
    outputs = files.open(last=True)
    files.close()  # they are the last run's
    assert len(open_fds()) - len(before) == 2
    for output in outputs:
        output.close()
    files.close()
    assert open_fds() == before


def test_when_no_fd_is_left_for_a_run_that_is_said_and_nothing_stays_open(tmp_path, monkeypatch):
    before = open_fds()
    files = open_all([spec("a", (tmp_path / "one", False), (tmp_path / "two", True))], PumpProcess(None))["a"]
    fds, dup = [], os.dup

    def dup_once(fd):
        if fds:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        fds.append(dup(fd))
        return fds[0]

    monkeypatch.setattr(os, "dup", dup_once)
    with pytest.raises(OutputError, match="Too many open files") as caught:
        files.open(last=False)
    assert caught.value.filename == str(tmp_path / "two")
    files.close()
    assert open_fds() == before


async def test_the_run_has_the_grace_period_of_the_job_that_has_the_longest():
    async def deadline_s(*grace_s):
        loop = asyncio.get_running_loop()
        jobs = [
            (JobSpec(f"j{i}", "echo; exec sleep 100", shutdown=Shutdown(timeout_seconds=each)), Outlet(RecordingOutput()))
            for i, each in enumerate(grace_s)
        ]
        started = []
        supervisor = Supervisor(loop, captures_of_loop(), jobs, started.append)
        async with anyio.create_task_group() as group:
            group.start_soon(supervisor.run)
            while len(started) < len(jobs):
                await anyio.lowlevel.checkpoint()
            began_s = anyio.current_time()
            supervisor.stop(signal.SIGTERM)
        return supervisor.deadline_s - began_s

    assert await deadline_s(2, 20, 8) == pytest.approx(15, abs=1)


async def test_a_dependency_that_cannot_be_is_refused_before_anything_runs():
    jobs = [(JobSpec("web", "true", depends_on={"db": Condition.STARTED}), Outlet(RecordingOutput()))]
    with pytest.raises(ConfigError, match=r"^jobs\.web\.depends_on\.db: no job has this name"):
        Supervisor(asyncio.get_running_loop(), captures_of_loop(), jobs, print)
