"""The watch over one attempt: real jobs that say that they are ready, alive or not; on both loops; nothing left of it."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys

import anyio
import pytest

from dtee_async.core.policy import NOT_INHERITED, ExecCheck, Health, Probe
from dtee_async.core.spec import JobSpec
from dtee_async.core.write import Stream
from dtee_async.errors import SpawnError
from dtee_async.supervisor import health as health_module
from dtee_async.supervisor.health import HealthWatch, Sign, signs_of
from dtee_async.testing import batch_of, open_fds

ENOUGH_S = 20
SEND = """
import os, socket, sys, time
def send(*messages):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(os.environ["NOTIFY_SOCKET"].replace("@", "\\0"))
        for message in messages:
            sender.send(message)
def wait(): return sys.stdin.readline()
"""


class Attempt:
    """A job, its watch, and all that was called, in order: a name, or a name and a text."""

    def __init__(self, **health):
        self.calls, self._called = [], anyio.Event()
        spec = JobSpec("job", "true", health=Health(**health))
        loop = asyncio.get_running_loop()
        self.watch = HealthWatch(
            loop,
            spec,
            on_ready=lambda: self._call("ready"),
            on_log_ready=lambda: self._call("log_ready"),
            on_unready=lambda reason: self._call("unready", reason),
            on_failed=lambda reason: self._call("failed", reason),
            on_status=lambda text: self._call("status", text),
        )

    def _call(self, *call):
        self.calls.append(call)
        called, self._called = self._called, anyio.Event()
        called.set()

    @property
    def names(self):
        return [name for name, *_ in self.calls]

    async def until(self, count):
        with anyio.fail_after(ENOUGH_S):
            while len(self.calls) < count:
                await self._called.wait()
        return self.calls

    def tell(self, line=b""):
        """Let the script go on."""
        self.child.stdin.write(line + b"\n")
        self.child.stdin.flush()

    def write(self, *writes):
        for output in self.watch.outputs:
            output.write(batch_of([(Stream.STDOUT, data) for data in writes]))

    @contextlib.asynccontextmanager
    async def running(self, script="wait()"):
        """The job runs, and the watch too; at the end both are ended."""
        environment = os.environ | self.watch.environment
        moves = "".join(f"os.dup2({ours}, {theirs});" for theirs, ours in self.watch.child_fds.items())
        words = [sys.executable, "-I", "-S", "-c", SEND + moves + script]
        with subprocess.Popen(
            words, env=environment, start_new_session=True, stdin=subprocess.PIPE, pass_fds=self.watch.child_fds.values()
        ) as self.child:
            self.watch.spawned(self.child.pid)
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(self.watch.run)
                    yield self
                    group.cancel_scope.cancel()
            finally:
                self.watch.close()
                self.watch.close()
                self.child.kill()


def probe(path, **more):
    """Passes as long as there is this file."""
    return Probe(ExecCheck(["test", "-e", str(path)]), **{"period_seconds": 0.05, "timeout_seconds": 10} | more)


def stays(command, **more):
    return Probe(ExecCheck(command), **{"period_seconds": 0.05, "timeout_seconds": 10} | more)


PASS, FAIL = stays("true"), stays("false")


@pytest.mark.parametrize(
    ("health", "signs"),
    [
        (Health(), set()),
        (Health(ready_log_line="x"), {Sign.LOG_LINE}),
        (Health(liveness_probe=PASS), {Sign.LIVENESS}),
        (Health(liveness_probe=PASS, ready_log_line="x"), {Sign.LIVENESS, Sign.LOG_LINE}),
        (Health(liveness_probe=PASS, readiness_probe=PASS), {Sign.READINESS}),
        (Health(liveness_probe=PASS, startup_probe=PASS), {Sign.STARTUP}),
        (Health(liveness_probe=PASS, sd_notify=True), {Sign.NOTIFY}),
        (Health(liveness_probe=PASS, notification_fd=3), {Sign.NOTIFICATION_FD}),
        (Health("x", PASS, PASS, PASS, sd_notify=True, notification_fd=3), set(Sign) - {Sign.LIVENESS}),
    ],
)
def test_what_has_to_say_that_a_job_is_ready(health, signs):
    assert signs_of(health) == signs
    assert bool(signs) == health.tells_ready
    assert bool(signs - {Sign.LOG_LINE}) == health.tells_health


async def test_a_log_line_makes_it_ready():
    attempt = Attempt(ready_log_line="^ready$")
    attempt.write(b"ready")
    assert attempt.calls == []
    async with attempt.running():
        attempt.write(b"\n", b"ready\n")
        assert attempt.names == ["log_ready", "ready"]
    assert attempt.names == ["log_ready", "ready"]


async def test_sd_notify_makes_it_ready_and_tells_its_status_and_its_main_pid():
    async with Attempt(sd_notify=True).running("send(b'STATUS=half', b'STATUS=half', b'READY=1\\nMAINPID=12'); wait()") as attempt:
        assert await attempt.until(2) == [("status", "half"), ("ready",)]
        assert attempt.watch.main_pid == 12


@pytest.mark.skipif(not shutil.which("systemd-notify"), reason="no systemd-notify here")
async def test_systemds_own_program_makes_it_ready():
    async with Attempt(sd_notify=True).running("os.execlp('sh', 'sh', '-c', 'systemd-notify --ready --status=up; read x')") as attempt:
        assert sorted(await attempt.until(2)) == [("ready",), ("status", "up")]


async def test_a_newline_on_the_notification_fd_makes_it_ready():
    async with Attempt(notification_fd=37).running("os.write(37, b'\\n'); os.close(37); wait()") as attempt:
        assert await attempt.until(1) == [("ready",)]


async def test_it_is_ready_when_all_say_so(tmp_path):
    attempt = Attempt(ready_log_line="up", sd_notify=True, notification_fd=5, readiness_probe=probe(tmp_path / "a"))
    async with attempt.running("wait(); send(b'STATUS=x', b'READY=1'); os.write(5, b'\\n'); wait()"):
        attempt.tell()
        await attempt.until(1)
        attempt.write(b"up\n")
        assert attempt.names == ["status", "log_ready"]
        (tmp_path / "a").touch()
        await attempt.until(4) if "status" in attempt.names[2:] else await attempt.until(3)
        assert attempt.names[-1] == "ready"


async def test_readiness_comes_and_goes(tmp_path):
    path = tmp_path / "a"
    async with Attempt(readiness_probe=probe(path, failure_threshold=2)).running() as attempt:
        assert await attempt.until(1) == [("status", f"readiness probe failed 2 times in a row: test -e {path}: exited with status 1")]
        path.touch()
        await attempt.until(2)
        path.unlink()
        await attempt.until(3)
        path.touch()
        await attempt.until(4)
        assert attempt.names == ["status", "ready", "unready", "ready"]
        assert attempt.calls[2][1] == attempt.calls[0][1]


async def test_the_first_success_of_a_lonely_liveness_probe_makes_it_ready_and_its_failure_fails_the_job(tmp_path):
    path = tmp_path / "a"
    path.touch()
    async with Attempt(liveness_probe=probe(path, failure_threshold=1)).running() as attempt:
        await attempt.until(1)
        path.unlink()
        assert await attempt.until(2) == [("ready",), ("failed", f"liveness probe failed: test -e {path}: exited with status 1")]


async def test_what_a_failing_command_says_is_shown():
    async with Attempt(liveness_probe=stays("echo broken >&2; exit 7", failure_threshold=1)).running() as attempt:
        assert (await attempt.until(1))[0][1].endswith("exited with status 7: broken")


async def test_the_other_probes_wait_for_the_startup_probe(tmp_path):
    path, asked = tmp_path / "a", tmp_path / "asked"
    attempt = Attempt(
        startup_probe=probe(path, failure_threshold=1000),
        readiness_probe=stays(f"echo >>{asked}; test -e {path}"),
        liveness_probe=stays(f"echo >>{asked}; test -e {path}", failure_threshold=1),
    )
    async with attempt.running():
        await anyio.sleep(0.3)  # time enough to ask too early
        assert not asked.exists()
        path.touch()
        assert await attempt.until(1) == [("ready",)]
        path.unlink()
        await attempt.until(2)
        assert "failed" in attempt.names or "unready" in attempt.names


async def test_a_startup_probe_alone_makes_it_ready():
    async with Attempt(startup_probe=PASS).running() as attempt:
        assert await attempt.until(1) == [("ready",)]


async def test_a_startup_probe_that_fails_fails_the_job_and_nothing_else_is_asked(tmp_path):
    attempt = Attempt(
        startup_probe=stays("false", failure_threshold=2), liveness_probe=stays(f"touch {tmp_path}/asked"), ready_log_line="x"
    )
    async with attempt.running():
        await attempt.until(1)
        attempt.write(b"x\n")
        await anyio.sleep(0.2)
    assert attempt.calls == [("failed", "startup probe failed 2 times in a row: false: exited with status 1")]
    assert os.listdir(tmp_path) == []


# The watchdog


async def test_a_watchdog_that_is_fed_keeps_quiet_and_one_that_is_not_fails_the_job():
    script = "send(b'READY=1')\nfor _ in range(20): time.sleep(0.05); send(b'WATCHDOG=1')\nsend(b'STATUS=tired'); wait()"
    async with Attempt(sd_notify=True, watchdog_seconds=0.5).running(script) as attempt:
        begun_s = anyio.current_time()
        assert await attempt.until(3) == [("ready",), ("status", "tired"), ("failed", "sd_notify: no WATCHDOG=1 for 0.5 s")]
        assert anyio.current_time() - begun_s > 1.4


async def test_a_watchdog_sleeps_until_ready():
    async with Attempt(sd_notify=True, watchdog_seconds=0.1).running("send(b'WATCHDOG=1'); wait(); send(b'READY=1'); wait()") as attempt:
        await anyio.sleep(0.3)
        assert attempt.calls == []
        attempt.tell()
        assert (await attempt.until(2))[0] == ("ready",)


async def test_what_came_while_we_did_not_listen_counts_as_fed():
    """The timer and the socket are due at once, and the timer comes first."""
    async with Attempt(sd_notify=True, watchdog_seconds=1000).running(
        "send(b'READY=1'); wait(); send(b'WATCHDOG=1'); os._exit(0)"
    ) as attempt:
        await attempt.until(1)
        attempt.tell()
        os.waitid(os.P_PID, attempt.child.pid, os.WEXITED | os.WNOWAIT)
        attempt.watch._starved()
        assert attempt.names == ["ready"]
        attempt.watch._starved()
        assert attempt.names == ["ready", "failed"]


async def test_a_job_can_say_itself_that_it_is_stuck_and_what_it_says_then_changes_nothing():
    script = "send(b'READY=1', b'WATCHDOG=trigger', b'READY=1', b'STOPPING=1', b'STATUS=end'); wait()"
    async with Attempt(sd_notify=True).running(script) as attempt:
        reason = "sd_notify: it says itself that it is stuck (WATCHDOG=trigger)"
        assert await attempt.until(3) == [("ready",), ("failed", reason), ("status", "end")]


async def test_a_job_that_is_stopping_is_ready_no_more_and_nothing_is_asked_of_it():
    health = {"watchdog_seconds": 0.1, "liveness_probe": stays("false", initial_delay_seconds=0.2, failure_threshold=1)}
    async with Attempt(sd_notify=True, **health).running("send(b'READY=1', b'STOPPING=1', b'READY=1'); wait()") as attempt:
        assert await attempt.until(2) == [("ready",), ("unready", "sd_notify: it says that it is stopping")]
        await anyio.sleep(0.4)
        assert len(attempt.calls) == 2


async def test_the_environment_is_for_every_process_of_the_job():
    async with Attempt(sd_notify=True, watchdog_seconds=1.5).running() as attempt:
        assert attempt.watch.environment == {"NOTIFY_SOCKET": attempt.watch._socket.address, "WATCHDOG_USEC": "1500000"}
        assert "WATCHDOG_PID" in NOT_INHERITED and set(attempt.watch.environment) < NOT_INHERITED


# The end


async def test_a_job_that_is_being_stopped_is_still_heard_but_neither_ready_nor_failed():
    """Else it would wait in its write, when the socket is full, or at a barrier."""
    attempt = Attempt(sd_notify=True, watchdog_seconds=0.05, notification_fd=4)
    script = "wait(); send(*[b'WATCHDOG=1'] * 100, b'READY=1', b'STATUS=bye'); os.write(4, bytes(100_000) + b'\\n'); os._exit(0)"
    words = [sys.executable, "-I", "-S", "-c", SEND + f"os.dup2({attempt.watch.child_fds[4]}, 4);" + script]
    with subprocess.Popen(
        words,
        env=os.environ | attempt.watch.environment,
        start_new_session=True,
        stdin=subprocess.PIPE,
        pass_fds=attempt.watch.child_fds.values(),
    ) as attempt.child:
        attempt.watch.spawned(attempt.child.pid)
        with anyio.move_on_after(0.01):
            await attempt.watch.run()
        attempt.tell()
        pidfd = os.pidfd_open(attempt.child.pid)
        with anyio.fail_after(ENOUGH_S):
            await anyio.wait_readable(pidfd)
        os.close(pidfd)
        await attempt.until(1)
        attempt.watch.close()
    assert attempt.calls == [("status", "bye")]


@pytest.mark.parametrize("sign", ["startup_probe", "readiness_probe", "liveness_probe"])
@pytest.mark.parametrize("delay_s", [0, 0.001, 0.02, 0.1])
async def test_cancelled_in_the_middle_of_a_probe_nothing_is_left(sign, delay_s):
    attempt = Attempt(**{sign: stays("sleep 100")})
    attempt.watch.spawned(os.getpid())
    with anyio.move_on_after(delay_s):
        await attempt.watch.run()
    attempt.watch.close()
    assert attempt.calls == []


async def test_without_a_spawn_nothing_is_left():
    before = open_fds()
    attempt = Attempt(sd_notify=True, notification_fd=3, ready_log_line="x", liveness_probe=PASS)
    assert len(open_fds()) == len(before) + 3
    attempt.watch.close()
    attempt.watch.close()
    assert open_fds() == before


async def test_when_one_of_them_cannot_be_made_the_others_are_closed(monkeypatch):
    def fail(*_):
        raise SpawnError(24, "Too many open files")

    before = open_fds()
    monkeypatch.setattr(health_module, "NotificationPipe", fail)
    with pytest.raises(SpawnError):
        Attempt(sd_notify=True, notification_fd=3)
    assert open_fds() == before
