"""A child is watched and reaped with a pidfd, and by a thread where there is none."""

import os
import select
import signal
import subprocess
import sys
import threading
from errno import EAGAIN, ENOBUFS, ENOSYS, EPERM

import pytest

from dtee_async.core import platforms
from dtee_async.core.batch import Batch
from dtee_async.core.contracts import ChildFds
from dtee_async.core.write import Stream
from dtee_async.engine.command import Command
from dtee_async.engine.selectloop import SelectLoop
from dtee_async.errors import CaptureError, SpawnError
from dtee_async.process.child import reap
from dtee_async.process.spawn import SpawnPlan, spawn
from dtee_async.testing import RecordingOutput, ScriptedTransport, open_fds


@pytest.fixture(params=["pidfd", "none", ENOSYS, EPERM])
def pidfd(request, monkeypatch):
    """A system with pidfds, one without, and two kernels that refuse them: an old one, a sandboxed one."""
    if request.param == "none":
        monkeypatch.setattr(platforms, "switched_off", frozenset(["pidfd"]))
    elif request.param != "pidfd":

        def refuse(pid):
            raise OSError(request.param, os.strerror(request.param))

        monkeypatch.setattr(os, "pidfd_open", refuse)
    return request.param


@pytest.fixture
def null():
    fd = os.open(os.devnull, os.O_RDWR)
    yield fd
    os.close(fd)


def start(null, script):
    return spawn(SpawnPlan(["sh", "-c", script]), ChildFds(null, null))


def readable(fd, wait_ms=0):
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(wait_ms))


@pytest.mark.parametrize(("script", "returncode"), [("exit 0", 0), ("exit 77", 77), ("kill -KILL $$", -9)])
def test_it_is_reaped_with_its_status_and_what_it_used(pidfd, null, script, returncode):
    child = start(null, script)
    assert (child.waiter is None) == (pidfd == "pidfd")
    exit = reap(child)
    assert exit.returncode == returncode
    assert exit.max_rss_bytes > 0
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, 0)


def test_the_fd_is_readable_at_the_exit_and_not_before(pidfd, null):
    reader, writer = os.pipe()
    child = spawn(SpawnPlan(["cat"]), ChildFds(null, null, reader))
    os.close(reader)
    assert not readable(child.exit_fd)
    os.close(writer)
    assert readable(child.exit_fd, 20_000)
    assert reap(child).returncode == 0


def test_several_children_are_watched_at_once(pidfd, null):
    children = [start(null, f"exit {number}") for number in range(20)]
    assert [reap(child).returncode for child in reversed(children)] == [*reversed(range(20))]


def test_a_child_that_cannot_be_watched_is_ended_and_it_is_said(monkeypatch, null):
    monkeypatch.setattr(platforms, "switched_off", frozenset(["pidfd"]))
    before = open_fds()

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(SpawnError, match="cannot be watched: can't start new thread") as caught:
        start(null, "sleep 1000")
    assert (caught.value.errno, caught.value.filename) == (EAGAIN, "sh")
    assert open_fds() == before


@pytest.mark.parametrize("without", ["", "pidfd"])
def test_a_status_that_nobody_can_know_is_an_error_and_not_0(without):
    code = "import os, signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
    code += (
        "from dtee_async.core.contracts import ChildFds\nfrom dtee_async.process.child import *\nfrom dtee_async.process.spawn import *\n"
    )
    code += "try: print(reap(spawn(SpawnPlan(['false']), ChildFds(1, 2))))\n"
    code += "except UnknownExitStatusError: print('unknown')\n"
    environment = os.environ | {"DTEE_ASYNC_WITHOUT": without}
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment).stdout == "unknown\n"


def test_the_waiting_thread_takes_no_signal(monkeypatch, null):
    """Else the loop, in the main thread, would not be woken by it."""
    monkeypatch.setattr(platforms, "switched_off", frozenset(["pidfd"]))
    before = set(threading.enumerate())
    reader, writer = os.pipe()
    child = spawn(SpawnPlan(["cat"]), ChildFds(null, null, reader))
    (thread,) = set(threading.enumerate()) - before
    with open(f"/proc/self/task/{thread.native_id}/status") as file:
        blocked = next(int(line.split()[1], 16) for line in file if line.startswith("SigBlk"))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH):
        assert blocked >> number - 1 & 1
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    os.close(reader)
    os.close(writer)
    assert reap(child).returncode == 0


class AfterTheExit(ScriptedTransport):
    """A transport that is not polled: all of it is received when the command has ended."""

    def __init__(self, script):
        super().__init__(script)
        self.fds = ()


def test_a_loss_in_what_a_command_has_left_does_not_end_the_receiving(pidfd):
    batches = [Batch([data], [1], bytes([Stream.STDOUT])) for data in (b"1", b"2", b"3")]
    losses = [CaptureError(ENOBUFS, "No buffer space available") for _ in range(2)]
    transport = AfterTheExit([batches[0], losses[0], batches[1], losses[1], batches[2], None])
    output, done = RecordingOutput(), []
    with SelectLoop() as loop:
        command = Command(loop, transport, [output], lambda *_: None, done.append, linger_s=0)
        command.start(SpawnPlan(["true"]))
        loop.run_until(lambda: bool(done))
    assert output.data() == b"123"
    assert done[0].error is losses[1]
    assert done[0].exit.returncode == 0
