"""sd_notify and the notification fd: what is heard, from whom, and that nothing which is sent does any harm."""

import contextlib
import os
import resource
import select
import shutil
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtee_async.core import platforms
from dtee_async.errors import SpawnError
from dtee_async.supervisor import notify
from dtee_async.supervisor.notify import MESSAGE_BYTES, Notice, NotificationPipe, NotifySocket, is_of_job, read_notice
from dtee_async.testing import open_fds

SEND = """
import os, select, socket, sys
def send(*messages, fds=()):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(os.environ["NOTIFY_SOCKET"].replace("@", "\\0"))
        for message in messages:
            socket.send_fds(sender, [message], fds) if fds else sender.send(message)
def wait():  # until what was sent has been received
    os.write(1, b".")
    os.read(0, 1)
"""


class Listener:
    """A NotifySocket, and all that it heard and told."""

    def __init__(self):
        self.heard, self.told = [], []
        self.socket = NotifySocket(self.heard.append, self.told.append)

    def run(self, script, *, job_pid=None):
        """Run a script, or an argument vector, as the job if nobody else is, and listen as long as anybody has its stdout."""
        environment = os.environ | {"NOTIFY_SOCKET": self.socket.address}
        words = [sys.executable, "-I", "-S", "-c", SEND + script] if isinstance(script, str) else script
        with subprocess.Popen(words, env=environment, start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            self.socket.job_pid = job_pid or child.pid
            while True:
                ready, _, _ = select.select([self.socket.fd, child.stdout], [], [])
                self.socket.receive()
                if child.stdout in ready:
                    if not os.read(child.stdout.fileno(), 1):
                        break
                    child.stdin.close()
        assert child.returncode == 0
        return self


@pytest.fixture
def listener():
    listener = Listener()
    yield listener
    listener.socket.close()
    listener.socket.close()


@pytest.mark.parametrize(
    ("message", "notice"),
    [
        (b"READY=1", Notice(ready=True)),
        (b"READY=0", Notice()),
        (b"READY=1\n", Notice(ready=True)),
        (b"STATUS=half done = 50 %\nREADY=1", Notice(ready=True, status="half done = 50 %")),
        (b"STATUS=", Notice(status="")),
        (b"STATUS=one\nSTATUS=two", Notice(status="two")),
        (b"STATUS=\xff\xc3\xa4", Notice(status="\\xff\xe4")),
        (b"MAINPID=4711", Notice(main_pid=4711)),
        (b"MAINPID=0", Notice()),
        (b"MAINPID=-1", Notice()),
        (b"MAINPID=12x", Notice()),
        (b"MAINPID=" + b"9" * 4000, Notice()),
        (b"WATCHDOG=1", Notice(alive=True)),
        (b"WATCHDOG=trigger", Notice(stuck=True)),
        (b"WATCHDOG=2", Notice()),
        (b"STOPPING=1", Notice(stopping=True)),
        (b"RELOADING=1\nMONOTONIC_USEC=1", Notice()),
        (b"BARRIER=1", Notice()),
        (b"X_READY=1\nREADY=1x\n READY=1", Notice()),
        (b"", Notice()),
        (b"\0\n=\n\n=1", Notice()),
    ],
)
def test_a_message_is_read(message, notice):
    assert read_notice(message) == notice


@given(st.lists(st.sampled_from([b"READY=1", b"STATUS=", b"MAINPID=", b"=", b"\n", b"\0", b"\xff"]) | st.binary(max_size=9)).map(b"".join))
def test_no_message_does_any_harm(message):
    notice = read_notice(message)
    assert notice.ready == (b"READY=1" in message.split(b"\n"))
    assert notice.main_pid is None or str(notice.main_pid).encode() in message


def test_the_job_itself_is_heard_in_order(listener):
    listener.run("send(b'STATUS=1', b'STATUS=2', b'READY=1')")
    assert listener.heard == [Notice(status="1"), Notice(status="2"), Notice(ready=True)]
    assert listener.told == []


@pytest.mark.parametrize("escape", ["os.setsid()", "os.setpgid(0, 0)", "pass"])
@pytest.mark.parametrize("end", ["wait()", "os._exit(0)"])
def test_a_process_below_the_job_is_heard(listener, escape, end):
    """It lives, or it is a zombie that nobody has reaped."""
    parent = "os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT); wait()"
    listener.run(f"pid = os.fork()\nif pid: {parent}\nelse: {escape}; send(b'READY=1'); {end}")
    assert listener.heard == [Notice(ready=True)]
    assert listener.told == []


def test_an_orphan_in_the_jobs_session_is_heard(listener):
    listener.run("if os.fork(): os.wait(); os._exit(0)\nif os.fork(): os._exit(0)\nos.setpgid(0, 0); send(b'READY=1'); wait()")
    assert listener.heard == [Notice(ready=True)]


def test_who_has_left_the_job_altogether_is_not_heard(listener):
    script = "if os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\nsend(b'READY=1'); wait()"
    listener.run(script)
    assert listener.heard == []
    assert len(listener.told) == 1


def test_who_has_ended_and_was_reaped_is_not_heard_and_it_is_said(listener):
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", SEND + "send(b'READY=1')"], env={"NOTIFY_SOCKET": listener.socket.address}
    ) as sender:
        pass
    listener.socket.job_pid = os.getpid()
    listener.socket.receive()
    assert listener.heard == []
    assert f"process {sender.pid}, which is no process of this job, or has ended already" in listener.told[0]


@pytest.fixture
def stranger():
    """A process that is of another job."""
    with subprocess.Popen(["sleep", "100"], start_new_session=True) as other:
        yield other.pid
        other.kill()


def test_others_are_not_heard_and_each_is_told_of_once(listener, stranger):
    listener.run("send(b'READY=1', b'WATCHDOG=1'); wait()", job_pid=stranger)
    assert listener.heard == []
    assert len(listener.told) == 1


def test_no_more_than_a_few_of_them_are_told_of(listener, stranger, monkeypatch):
    monkeypatch.setattr(notify, "TOLD", 1)
    listener.run("for _ in range(3):\n if not os.fork(): send(b'READY=1'); os._exit(0)\n os.wait()", job_pid=stranger)
    assert listener.heard == []
    assert len(listener.told) == 1


def test_nobody_is_heard_before_the_job_is_known(listener):
    listener.run("send(b'READY=1')", job_pid=-1)
    assert listener.heard == []


def test_who_started_the_job_is_not_of_it(stranger):
    assert is_of_job(stranger, stranger)
    assert is_of_job(stranger, os.getpid())
    assert not is_of_job(os.getpid(), stranger)
    assert not is_of_job(0, stranger)
    assert not is_of_job(0, 0)
    assert not is_of_job(1, stranger)


@pytest.mark.root
def test_a_job_of_another_user_is_heard(listener):
    listener.run("os.setuid(65534); send(b'READY=1')")
    assert listener.heard == [Notice(ready=True)]


def test_a_message_that_is_too_long_is_not_heard_in_part(listener):
    listener.run(
        f"start = b'READY=1\\nX='; send(start.ljust({MESSAGE_BYTES}, b'x'), start.ljust({MESSAGE_BYTES} + 1, b'x'), start + bytes(100_000))"
    )
    assert listener.heard == [Notice(ready=True)]
    assert "longer than 4096 bytes" in listener.told[0]


@pytest.mark.parametrize("count", [1, 2, 253])
def test_fds_that_are_sent_are_closed_and_never_ours(listener, count):
    """The barrier of sd_notify_barrier(3): it reads the end of the pipe when all before it has been heard, and every copy of the other end is closed."""
    before = open_fds()
    script = f"reader, writer = os.pipe(); send(b'READY=1'); send(b'BARRIER=1', fds=[writer] * {count}); os.close(writer); wait()"
    listener.run(script + "; sys.exit(not select.select([reader], [], [], 5)[0] or len(os.read(reader, 1)))")
    assert listener.heard == [Notice(ready=True)]
    assert open_fds() == before


def test_a_flood_does_not_keep_the_loop(listener, monkeypatch):
    monkeypatch.setattr(notify, "AT_ONCE", 2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for _ in range(3):
            sender.sendto(b"READY=1", "\0" + listener.socket.address[1:])
    listener.socket.job_pid = os.getpid()
    listener.socket.receive()
    assert len(listener.heard) == 2
    listener.socket.receive()
    assert len(listener.heard) == 3


def test_who_hears_may_close_it(listener):
    listener.socket._hear = lambda notice: listener.socket.close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"READY=1", "\0" + listener.socket.address[1:])
    listener.socket.job_pid = os.getpid()
    listener.socket.receive()


@pytest.mark.skipif(not shutil.which("systemd-notify"), reason="no systemd-notify here")
def test_systemds_own_program_is_heard(listener):
    """It waits at a barrier, and says so if nobody takes it."""
    listener.run(["sh", "-c", "systemd-notify --ready --status='half done' && systemd-notify STOPPING=1 && echo"])
    assert [notice for notice in listener.heard if notice != Notice()] == [Notice(ready=True, status="half done"), Notice(stopping=True)]
    assert listener.told == []


def test_where_nobody_says_who_a_message_is_from_there_is_no_socket(monkeypatch):
    monkeypatch.setattr(platforms, "switched_off", {"credentials"})
    with pytest.raises(SpawnError, match="sd_notify: .* use a probe"):
        NotifySocket(print, print)


@pytest.fixture
def no_more_fds():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_fds()) + 1, hard))
    fillers = []
    with contextlib.suppress(OSError):
        while True:
            fillers.append(os.open(os.devnull, os.O_RDONLY))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for fd in fillers:
        os.close(fd)


@pytest.mark.parametrize("make", [lambda: NotifySocket(print, print), lambda: NotificationPipe(print)])
def test_without_an_fd_it_says_what_failed(no_more_fds, make):
    with pytest.raises(SpawnError, match="(sd_notify|notification_fd): Too many open files"):
        make()


# The notification fd


class Pipe:
    def __init__(self):
        self.ready = 0
        self.pipe = NotificationPipe(self._on_ready)

    def _on_ready(self):
        self.ready += 1

    def run(self, script):
        """Run a script that writes to the fd, to the end of the pipe."""
        with subprocess.Popen([sys.executable, "-I", "-S", "-c", script, str(self.pipe.child_fd)], pass_fds=[self.pipe.child_fd]) as child:
            self.pipe.close_child_fd()
            while self.pipe.receive():
                select.select([self.pipe.fd], [], [])
        assert child.returncode == 0
        return self


@pytest.fixture
def pipe():
    pipe = Pipe()
    yield pipe
    pipe.pipe.close()
    pipe.pipe.close()


WRITE = "import os, sys; fd = int(sys.argv[1]); "


@pytest.mark.parametrize(
    ("script", "ready"),
    [
        ("os.write(fd, b'\\n')", 1),
        ("os.write(fd, b'read'); os.write(fd, b'y\\n')", 1),
        ("os.write(fd, b'\\n\\n'); os.write(fd, b'\\n')", 1),
        ("os.write(fd, b'ready')", 0),
        ("os.close(fd)", 0),
        ("[os.write(fd, b'x' * 1000 + b'\\n') for _ in range(1000)]", 1),
    ],
)
def test_a_newline_says_ready_once_and_the_end_before_it_never(pipe, script, ready):
    assert pipe.run(WRITE + script).ready == ready


def test_nothing_is_said_while_nothing_was_written(pipe):
    assert pipe.pipe.receive()
    assert pipe.ready == 0
