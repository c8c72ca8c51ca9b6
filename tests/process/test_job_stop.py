"""The stop of one job: as its spec says, and nobody of it is left."""

import asyncio
import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from dtee_async.api.loops import captures_of_loop
from dtee_async.core.capture import CaptureSpec
from dtee_async.core.policy import Privileges, Shutdown
from dtee_async.core.spec import JobSpec
from dtee_async.process.descendants import COOKIE, Family
from dtee_async.process.group import members
from dtee_async.supervisor.job import Job, Surroundings
from dtee_async.supervisor.stop import Census, end_strays
from dtee_async.testing import RecordingOutput

PYTHON = (sys.executable, "-I", "-S", "-c")


class Run:
    def __init__(self, command, surroundings=None, **settings):
        loop = asyncio.get_running_loop()
        self.census = Census(loop, Family())
        self.output = RecordingOutput()
        self._captures = captures_of_loop()
        surroundings = Surroundings(census=self.census) if surroundings is None else surroundings
        self.job = Job(loop, self._captures, JobSpec("job", command, **settings), [self.output], print, surroundings=surroundings)
        self.job.start()

    async def said(self, count):
        """The words that it has written, when they are so many."""
        while len(words := self.output.data().decode().split()) < count:
            await anyio.lowlevel.checkpoint()
        return words

    async def stop(self, *arguments):
        left = await self.job.stop(*arguments)
        outcome = await self.job.wait()
        self._captures.close()
        assert members(self.job.pid) == []
        return left, outcome.exit.status


def exists(pid):
    """Whether it lives. Who is killed is gone for us, and init may not have reaped it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture(params=["library", "census"])
def surroundings(request):
    """What a job is given: without a census the group is all that is known."""
    return Surroundings() if request.param == "library" else None


async def test_the_signal_is_what_the_spec_says(surroundings):
    run = Run("trap 'exit 7' USR1; echo ready; while :; do sleep 0.01; done", surroundings, shutdown=Shutdown(signal=signal.SIGUSR1))
    await run.said(1)
    assert await run.stop() == ([], 7)


async def test_the_timeout_is_what_the_spec_says_and_then_it_is_killed(surroundings):
    run = Run("trap '' TERM; echo ready; while :; do sleep 0.01; done", surroundings, shutdown=Shutdown(timeout_seconds=0.1))
    await run.said(1)
    started = time.monotonic()
    assert await run.stop() == ([], 128 + signal.SIGKILL)
    assert 0.1 <= time.monotonic() - started < 5


@pytest.mark.parametrize("parent_only", [True, False])
async def test_the_signal_is_for_the_command_alone_or_for_all(surroundings, parent_only, tmp_path):
    child = f"(trap 'touch {tmp_path}/told; exit' TERM; echo ready; while :; do sleep 0.01; done) &"
    command = f"{child} trap 'sleep 0.1; exit 7' TERM; echo ready; while :; do sleep 0.01; done"
    run = Run(command, surroundings, shutdown=Shutdown(parent_only=parent_only))
    await run.said(2)
    assert await run.stop() == ([], 7)
    assert (tmp_path / "told").exists() is not parent_only


async def test_a_command_is_run_in_place_of_the_signal_with_the_environment_and_the_directory_of_the_job(surroundings, tmp_path):
    run = Run(
        "trap 'exit 7' USR1; trap '' TERM; echo ready; while :; do sleep 0.01; done",
        surroundings,
        environment={"A": "b", "PATH": os.environ["PATH"]},
        working_dir=str(tmp_path),
        shutdown=Shutdown(command="echo $A $JOB_PID >file; kill -USR1 $JOB_PID"),
    )
    await run.said(1)
    assert await run.stop() == ([], 7)
    assert (tmp_path / "file").read_text() == f"b {run.job.pid}\n"
    assert run.job.stop_problem == ""


async def test_a_command_that_fails_is_told_and_the_signal_is_sent(surroundings):
    run = Run("echo ready; exec sleep 100", surroundings, shutdown=Shutdown(command="exit 3"))
    await run.said(1)
    assert await run.stop() == ([], 128 + signal.SIGTERM)
    assert run.job.stop_problem == "shutdown.command: exited with status 3"


async def test_a_command_that_does_not_end_is_told_and_ended_with_the_job(surroundings, tmp_path):
    shutdown = Shutdown(command=f"echo $$ >{tmp_path}/pid; exec sleep 100", timeout_seconds=0.3)
    run = Run("echo ready; exec sleep 100", surroundings, shutdown=shutdown)
    await run.said(1)
    assert await run.stop() == ([], 128 + signal.SIGKILL)
    assert run.job.stop_problem == "shutdown.command: not done in its time: killed"
    assert not exists(int((tmp_path / "pid").read_text()))


async def test_a_kill_ends_the_waiting_of_a_stop(surroundings):
    run = Run("trap '' TERM; echo ready; while :; do sleep 0.01; done", surroundings, shutdown=Shutdown(timeout_seconds=1000))
    await run.said(1)
    asyncio.get_running_loop().call_later(0.05, run.job.kill)
    assert await run.stop() == ([], 128 + signal.SIGKILL)


async def test_a_stop_after_a_kill_asks_nobody(surroundings, tmp_path):
    run = Run("echo ready; exec sleep 100", surroundings, shutdown=Shutdown(command=f"touch {tmp_path}/asked"))
    await run.said(1)
    run.job.kill()
    assert await run.stop() == ([], 128 + signal.SIGKILL)
    assert not (tmp_path / "asked").exists()


async def test_a_stop_of_a_job_that_was_never_started_is_nothing():
    job = Job(asyncio.get_running_loop(), captures_of_loop(), JobSpec("job", "true"), [], print)
    assert await job.stop() == []
    job.kill()
    job.capturing.transport.close()


# Who has left the group.

DAEMON = """
import os, signal, sys, time
def daemon():
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    exec(WAIT)
WAIT = 'import os, time; os.write(1, b"%d\\\\n" % os.getpid()); time.sleep(100)'
"""


async def test_a_daemon_of_the_job_is_ended_with_it_and_told_by_the_cookie_and_one_of_a_library_is_left():
    for surroundings in (None, Surroundings()):
        run = Run([*PYTHON, DAEMON + "daemon()\nos.wait()\nexec(WAIT)"], surroundings)
        daemon = next(int(pid) for pid in await run.said(2) if int(pid) != run.job.pid)
        await run.stop()
        assert exists(daemon) == (surroundings is not None)
        if surroundings is not None:
            os.kill(daemon, signal.SIGKILL)


async def test_a_daemon_is_asked_like_the_others():
    trap = "import signal; signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b'asked '), os._exit(0)))"
    run = Run([*PYTHON, f"{DAEMON}\n{trap}\ndaemon()\nif os.getpid() == os.getsid(0): os.wait()\nexec(WAIT)"])
    await run.said(2)
    assert await run.stop() == ([], 0)
    assert run.output.data().count(b"asked") == 2


async def test_a_daemon_whose_job_has_ended_by_itself_is_ended_by_a_stop():
    run = Run([*PYTHON, DAEMON + "daemon()"])
    (daemon,) = await run.said(1)
    await run.job.wait()
    assert exists(daemon)
    assert await run.stop() == ([], 0)
    assert not exists(daemon)


async def test_who_has_thrown_away_his_environment_is_told_by_his_session():
    # A daemon, and in its session a process without environment whose parent has ended.
    source = """
if os.fork():
    os.wait()
else:
    os.setsid()
    if os.fork():
        os._exit(0)
    if not os.fork():
        if os.fork():
            os._exit(0)
        os.execve("/bin/sh", ["sh", "-c", "echo $$; exec sleep 100"], {})
exec(WAIT)
"""
    run = Run([*PYTHON, DAEMON + source])
    pids = await run.said(3)
    await run.stop()
    assert not any(map(exists, pids))


async def test_a_kill_does_not_wait_for_who_has_left_the_group():
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    run = Run(
        [*PYTHON, f"{DAEMON}\n{ignore}\ndaemon()\nif os.getpid() == os.getsid(0): os.wait()\nexec(WAIT)"],
        shutdown=Shutdown(timeout_seconds=1000),
    )
    pids = await run.said(2)
    asyncio.get_running_loop().call_later(0.05, run.job.kill)
    assert await run.stop() == ([], 128 + signal.SIGKILL)
    assert not any(map(exists, pids))


async def test_the_jobs_that_we_run_in_are_told_by_the_same_variable(monkeypatch):
    monkeypatch.setenv(COOKIE, "outer")
    run = Run(f"echo ${COOKIE}")
    await run.job.wait()
    (cookies,) = await run.said(1)
    assert cookies.startswith("outer:")
    assert len(cookies.split(":")) == 2
    await run.stop()


async def test_a_job_of_another_is_not_touched():
    first = Run([*PYTHON, DAEMON + "daemon()\nos.wait()\nexec(WAIT)"])
    pids = await first.said(2)
    second = Run([*PYTHON, DAEMON + "daemon()\nos.wait()\nexec(WAIT)"])
    await second.said(2)
    await second.stop()
    assert all(map(exists, pids))
    await first.stop()
    assert not any(map(exists, pids))


FREEZER = Path("/sys/fs/cgroup/freezer")


@contextmanager
def frozen(pid):
    """It cannot even be killed meanwhile: a freezer of cgroup v1 does not let it."""
    folder = FREEZER / f"dtee-async-test-{os.getpid()}"
    folder.mkdir()
    (folder / "cgroup.procs").write_text(str(pid))
    (folder / "freezer.state").write_text("FROZEN")
    while (folder / "freezer.state").read_text() != "FROZEN\n":
        pass
    try:
        yield
    finally:
        (folder / "freezer.state").write_text("THAWED")
        while (folder / "cgroup.procs").read_text():
            pass
        folder.rmdir()


@pytest.mark.root
async def test_who_cannot_even_be_killed_is_named(surroundings):
    if not FREEZER.is_dir():
        pytest.skip("needs to be root, and a freezer of cgroup v1")
    run = Run("sleep 100 & echo $!; exec sleep 100", surroundings, shutdown=Shutdown(timeout_seconds=0.1))
    (pid,) = await run.said(1)
    with frozen(pid):
        left = await run.job.stop()
    assert [member.pid for member in left] == [int(pid)]  # its name is still that of the shell, if it was frozen before its exec
    assert (await run.stop())[0] == []


@pytest.mark.root
async def test_a_job_of_another_user_is_ended_too():
    run = Run("sleep 100 & setsid sleep 100 & echo $! ready; wait", privileges=Privileges(user="nobody"))
    daemon, _ = await run.said(2)
    assert (await run.stop())[0] == []
    assert not exists(daemon)


@pytest.mark.root
@pytest.mark.parametrize("mode", ["ordered", "turnstile", "pipe", "pty"])
async def test_another_user_is_captured_in_every_mode(mode, tmp_path):
    file = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    surroundings = Surroundings(environment={"A": "b"}, extra_fds={9: file})
    run = Run("id -u; echo $A >&2; echo x >&9", surroundings, capture=CaptureSpec(mode), privileges=Privileges(user="nobody", umask=0))
    os.close(file)
    assert sorted(await run.said(2)) == ["65534", "b"]
    assert (await run.job.wait()).exit.status == 0
    assert (tmp_path / "file").read_text() == "x\n"
    assert run.job.capturing.transport.mode == mode
    await run.stop()


async def test_without_a_stray_nobody_is_killed():
    run = Run("echo ready; exec sleep 100")
    await run.said(1)
    run.census.family.add(os.getpid())
    for pid in [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]:
        run.census.family.add(pid)
    assert await end_strays(run.census) == ([], [])
    assert exists(run.job.pid)
    await run.stop()
