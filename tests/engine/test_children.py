"""Children that do odd things with their stdout and stderr, in every capture mode: nothing is lost, nobody is disturbed, and all ends."""

import asyncio
import errno
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from textwrap import dedent

import pytest

import dtee_async
from dtee_async.core.capture import LINGER_S, CaptureSpec
from dtee_async.core.write import Stream
from dtee_async.engine.captures import Captures
from dtee_async.engine.command import Command, Phase
from dtee_async.engine.selectloop import SelectLoop
from dtee_async.process.group import members
from dtee_async.process.spawn import SpawnPlan
from dtee_async.testing import RecordingOutput
from dtee_async.transport.pieces import BATCH_BYTES

BIN = Path(sys.executable).parent
OUT, ERR = Stream.STDOUT, Stream.STDERR

PIPES = ("turnstile", "pipe")
"""The modes whose streams can be opened by a path."""

BOUND_S = 20.0


# What the children share: go(FIFO) waits until somebody writes to it, or just opens it.
PRELUDE = """
import ctypes, os, select, signal, socket, struct, sys, threading

def out(text):
    write(1, text)

def err(text):
    write(2, text)

def write(fd, text):
    sent = os.write(fd, text)
    while sent < len(text):  # a signal came
        sent += os.write(fd, text[sent:])

def go(path):
    with open(path) as fifo:
        return fifo.read()

def daemon():
    # Twice forked, in a session of its own: our child has ended, and who goes on is a child of init's.
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
"""


def python(source, *arguments):
    """A child that runs this."""
    return [sys.executable, "-I", "-S", "-c", PRELUDE + dedent(source), *map(str, arguments)]


class Running:
    """A command on a loop, with one output."""

    def __init__(self, loop, transport, command, output):
        self.loop = loop
        self.transport = transport
        self.command = command
        self.output = output
        self.pid = 0
        self.outcome = None

    def until(self, condition):
        self.loop.run_until(lambda: self.outcome is not None or condition())
        assert condition(), f"it ended before: {self.outcome}, {self.output.data()}"

    def until_said(self, text):
        self.until(lambda: text in self.output.data())

    def end(self):
        self.loop.run_until(lambda: self.outcome is not None)
        return self.outcome

    def got(self, *writes):
        """Whether these writes are all that arrived, in their order as far as the mode has one. It has ended then."""
        assert self.end().error is None
        assert self.outcome.exit.returncode == 0, self.output.data(ERR)
        assert_same([(write.stream, write.data) for write in self.output.writes], writes, self.transport)
        return True

    def done(self, outcome):
        self.outcome = outcome


@contextmanager
def running(mode, argv, *, output=None, linger_s=0.0, **wishes):
    """Run a command until the block and the command have ended."""

    def fail(output, error):
        raise AssertionError(f"{output.name}: {error}")

    plan, captures = SpawnPlan(argv), Captures()
    with SelectLoop() as loop:
        capturing = captures.open(CaptureSpec(mode, **wishes), plan, stamped=True)
        assert (capturing.transport.mode, capturing.fell_back) == (mode, False), capturing.reason
        output = output or RecordingOutput()
        run = Running(loop, capturing.transport, None, output)
        run.command = Command(loop, capturing.transport, [output], fail, run.done, linger_s=linger_s)
        run.pid = run.command.start(plan)
        try:
            yield run
            run.end()
        finally:
            if run.outcome is None:
                os.killpg(run.pid, signal.SIGKILL)
                run.command.give_up()
                run.end()
            captures.close()


def assert_same(got, expected, transport):
    if not transport.apart:
        expected = [(OUT, data) for _, data in expected]
    if transport.exact:
        assert runs(got) == runs(expected)
    else:
        for stream in Stream:
            assert runs(each for each in got if each[0] == stream) == runs(each for each in expected if each[0] == stream)


def runs(writes):
    """As far as a pipe tells: writes to one stream in a row are one."""
    grouped = groupby((each for each in writes if each[1]), lambda write: write[0])
    return [(stream, b"".join(data for _, data in run)) for stream, run in grouped]


def eventually(condition):
    """Wait for something that tells nobody when it happens."""
    until_s = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < until_s, "it does not happen"
        select.select([], [], [], 0.001)


def waits_in(pid, *calls):
    """Whether a process waits in one of these system calls."""
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] in map(str, calls)


WRITE = {"x86_64": 1, "aarch64": 64}[os.uname().machine]


def tell(fifo, text=""):
    fifo.write_text(text)


# Signals.


def test_a_child_that_ignores_what_ends_others_goes_on_and_is_captured_to_its_end(capture_mode, fifo):
    source = """
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    out(b"ready\\n")
    err(go(sys.argv[1]).encode())
    out(b"last\\n")
    """
    path = fifo("go")
    with running(capture_mode, python(source, path)) as run:
        run.until_said(b"ready\n")
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.killpg(run.pid, number)
        tell(path, "still here\n")
        assert run.got((OUT, b"ready\n"), (ERR, b"still here\n"), (OUT, b"last\n"))


async def test_what_ignores_signals_is_killed_in_the_end_and_what_it_wrote_is_in_the_file(capture_mode, tmp_path, fifo):
    path, log = fifo("ready"), tmp_path / "log"
    script = f"trap '' TERM HUP INT; echo one; echo two >&2; echo three; echo $$ >{path}; while :; do sleep 1; done"
    task = asyncio.create_task(dtee_async.run(script, combined_append=log, capture=capture_mode, grace_s=0.1))
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(reader, "rb", buffering=0) as ready:
        told = asyncio.Event()
        asyncio.get_running_loop().add_reader(ready, told.set)
        await told.wait()
        asyncio.get_running_loop().remove_reader(ready)
        pid = int(ready.read(100))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert members(pid) == []
    assert sorted(log.read_text().splitlines()) == sorted(["one", "two", "three"])


def test_a_child_that_is_interrupted_all_the_time_loses_and_repeats_nothing(capture_mode):
    source = """
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    for i in range(1000):
        out(b"%d\\n" % i)
        err(b"%d\\n" % i)
    signal.setitimer(signal.ITIMER_REAL, 0)
    """
    with running(capture_mode, python(source)) as run:
        assert run.got(*((stream, b"%d\n" % i) for i in range(1000) for stream in (OUT, ERR)))


def test_a_child_that_is_stopped_is_waited_for_and_goes_on_when_it_is_continued(capture_mode):
    source = """
    out(b"before\\n")
    os.kill(os.getpid(), signal.SIGSTOP)
    err(b"after\\n")
    """
    with running(capture_mode, python(source)) as run:
        run.until_said(b"before\n")
        os.waitid(os.P_PID, run.pid, os.WSTOPPED)
        os.kill(run.pid, signal.SIGCONT)
        assert run.got((OUT, b"before\n"), (ERR, b"after\n"))


class Full(RecordingOutput):
    """Is full after its first batch, until the test makes room."""

    def write(self, batch):
        first = not self.writes
        super().write(batch)
        if first:
            self.flow.pause()


def test_a_child_that_is_stopped_while_its_write_waits_writes_once_when_it_is_continued(capture_mode):
    source = """
    out(b"first\\n")
    for i in range(100):
        err(b"%d" % i + b"x" * 100_000)
    """
    with running(capture_mode, python(source), output=Full()) as run:
        run.until_said(b"first\n")
        eventually(lambda: waits_in(run.pid, WRITE))
        os.kill(run.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, run.pid, os.WSTOPPED)
        run.output.flow.resume()
        os.kill(run.pid, signal.SIGCONT)
        assert run.got((OUT, b"first\n"), *((ERR, b"%d" % i + b"x" * 100_000) for i in range(100)))


def test_a_child_that_is_killed_while_its_write_waits_holds_up_nobody_else(capture_mode):
    source = """
    out(b"first\\n")
    child = os.fork()
    if not child:
        while True:
            err(b"x" * 100_000)
    os.waitpid(child, 0)
    out(b"last\\n")
    """
    with running(capture_mode, python(source), output=Full()) as run:
        run.until_said(b"first\n")
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
        eventually(lambda: children.read_text() and waits_in(int(children.read_text()), WRITE))
        os.kill(int(children.read_text()), signal.SIGKILL)
        run.output.flow.resume()
        run.end()
        assert run.outcome.exit.returncode == 0
        assert (run.output.data()[:6], run.output.data()[-5:]) == (b"first\n", b"last\n") or not run.transport.exact
        assert run.output.data(OUT) == b"first\nlast\n"


# Daemons.


def test_a_daemon_that_writes_later_is_waited_for_and_everything_arrives(capture_mode, fifo):
    source = """
    out(b"now\\n")
    daemon()
    go(sys.argv[1])
    for i in range(100):
        out(b"%d\\n" % i)
        err(b"%d\\n" % i)
    """
    path = fifo("go")
    with running(capture_mode, python(source, path), linger_s=LINGER_S["writers"]) as run:
        run.until(lambda: run.command.phase is Phase.LINGERING)
        tell(path)
        assert run.got((OUT, b"now\n"), *((stream, b"%d\n" % i) for i in range(100) for stream in (OUT, ERR)))
        assert not run.outcome.writers_left
        assert run.outcome.duration_s < BOUND_S


OWN_LOG = """
daemon()
with open(sys.argv[2], "wb") as log:
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
go(sys.argv[1])
for i in range(100):
    out(b"%d\\n" % i)
    err(b"%d\\n" % i)
with open(sys.argv[3], "w") as said:
    said.write("all of it")
"""
LOGGED = b"".join(b"%d\n%d\n" % (i, i) for i in range(100))


def test_a_daemon_with_a_log_of_its_own_is_neither_waited_for_nor_disturbed(capture_mode, fifo, tmp_path):
    path, said = fifo("go"), fifo("said")
    with running(capture_mode, python(OWN_LOG, path, tmp_path / "log", said)) as run:
        run.end()
    tell(path)
    assert said.read_text() == "all of it"
    assert (tmp_path / "log").read_bytes() == LOGGED


def test_a_daemon_with_a_log_of_its_own_goes_on_when_our_process_is_gone(capture_mode, fifo, tmp_path, cli):
    path, said = fifo("go"), fifo("said")
    done = cli(
        "--capture", capture_mode, *python(OWN_LOG, path, tmp_path / "log", said), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert done.returncode == 0
    tell(path)
    assert said.read_text() == "all of it"
    assert (tmp_path / "log").read_bytes() == LOGGED


def test_a_daemon_that_writes_where_nobody_reads_any_more_is_told_so(capture_mode, fifo, cli):
    source = """
    daemon()
    go(sys.argv[1])
    try:
        out(b"late")
    except OSError as error:
        with open(sys.argv[2], "w") as said:
            said.write(str(error.errno))
    """
    path, said = fifo("go"), fifo("said")
    cli("--capture", capture_mode, *python(source, path, said), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    tell(path)
    assert int(said.read_text()) in (errno.EPIPE, errno.ECONNREFUSED, errno.ENOTCONN, errno.EIO)


def test_a_grandchild_that_holds_the_streams_is_not_waited_for_longer_than_agreed(capture_mode, fifo):
    source = """
    out(b"parent\\n")
    if not os.fork():
        go(sys.argv[1])
    """
    path = fifo("go")
    with running(capture_mode, python(source, path), linger_s=0.02) as run:
        assert run.got((OUT, b"parent\n"))
        assert run.outcome.writers_left
    tell(path)


def test_a_child_that_leads_a_session_of_its_own_is_captured(capture_mode):
    source = """
    if not os.fork():
        os.setsid()
        out(b"session\\n")
        err(b"%d\\n" % (os.getpid() == os.getsid(0)))
        os._exit(0)
    os.wait()
    out(b"parent\\n")
    """
    with running(capture_mode, python(source)) as run:
        assert run.got((OUT, b"session\n"), (ERR, b"1\n"), (OUT, b"parent\n"))


# Closing, opening, exchanging.


@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2)], ids=["stdout", "stderr", "both"])
def test_a_stream_that_is_closed_early_ends_nothing_and_keeps_nobody_busy(capture_mode, closed, fifo):
    source = """
    closed = eval(sys.argv[2])
    out(b"a")
    err(b"b")
    for fd in closed:
        os.close(fd)
    go(sys.argv[1])
    for fd in {1, 2}.difference(closed):
        os.write(fd, b"c")
    os._exit(0)
    """
    path, rounds = fifo("go"), []
    with running(capture_mode, python(source, path, closed)) as run:
        run.until_said(b"b")
        timer = []
        run.loop.call_later(0.1, timer.append, True)
        run.until(lambda: rounds.append(1) or timer)
        tell(path)
        assert run.got((OUT, b"a"), (ERR, b"b"), *((stream, b"c") for stream in Stream if stream not in closed))
    assert len(rounds) < 50  # were it called again and again, there would be thousands


def test_a_child_that_closes_everything_ends_as_it_wants(capture_mode):
    source = """
    out(b"a")
    err(b"b")
    os.closerange(0, 100)
    os._exit(7)
    """
    with running(capture_mode, python(source)) as run:
        assert run.end().exit.returncode == 7
        assert (run.output.data(OUT), run.output.data(ERR)) == (b"a", b"b")


def test_what_is_written_elsewhere_in_between_is_not_ours(capture_mode, tmp_path):
    source = """
    out(b"before\\n")
    saved = os.dup(1), os.dup(2)
    for fd in (1, 2):
        os.close(fd)
        assert os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT) == fd
    out(b"one\\n")
    err(b"two\\n")
    for old, fd in zip(saved, (1, 2)):
        os.dup2(old, fd)
        os.close(old)
    err(b"after\\n")
    out(b"last\\n")
    """
    with running(capture_mode, python(source, tmp_path / "elsewhere")) as run:
        assert run.got((OUT, b"before\n"), (ERR, b"after\n"), (OUT, b"last\n"))
    assert (tmp_path / "elsewhere").read_bytes() == b"one\ntwo\n"


def test_a_child_that_exchanges_its_streams_is_believed(capture_mode):
    source = """
    out(b"a")
    err(b"b")
    saved = os.dup(1)
    os.dup2(2, 1)
    os.dup2(saved, 2)
    out(b"c")
    err(b"d")
    out(b"e")
    """
    with running(capture_mode, python(source)) as run:
        assert run.got((OUT, b"a"), (ERR, b"b"), (ERR, b"c"), (OUT, b"d"), (ERR, b"e"))


def test_a_child_that_is_duplicated_to_other_numbers_is_in_order_where_they_are_watched():
    source = """
    os.dup2(1, 8)
    os.dup2(2, 9)
    for i in range(200):
        os.write(8, b"%d\\n" % i)
        os.write(9, b"%d\\n" % i)
    """
    with running("turnstile", python(source), watch_fds="1-9") as run:
        assert run.got(*((stream, b"%d\n" % i) for i in range(200) for stream in (OUT, ERR)))


# Other programs.


def test_a_child_that_becomes_other_programs_is_still_captured(capture_mode):
    script = 'echo 1; exec sh -c \'echo 2 >&2; exec env sh -c "echo 3; exec sh -c \\"echo 4 >&2\\""\''
    with running(capture_mode, ["sh", "-c", script]) as run:
        assert run.got((OUT, b"1\n"), (ERR, b"2\n"), (OUT, b"3\n"), (ERR, b"4\n"))


def test_what_vforked_programs_write_is_captured(capture_mode):
    source = """
    def run(script):
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", script], os.environ)  # vfork(2), or clone(2) with CLONE_VFORK
        os.waitpid(pid, 0)

    for i in range(20):
        run("echo %d" % i)
        run("echo %d >&2" % i)
    """
    with running(capture_mode, python(source)) as run:
        assert run.got(*((stream, b"%d\n" % i) for i in range(20) for stream in (OUT, ERR)))


def test_a_child_with_a_system_call_filter_of_its_own_is_captured(capture_mode):
    source = """
    libc = ctypes.CDLL(None, use_errno=True)
    allow = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000))
    program = ctypes.create_string_buffer(struct.pack("@HP", 1, ctypes.addressof(allow)))
    out(b"before\\n")
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, program) == 0, ctypes.get_errno()  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    err(b"after\\n")
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "echo grandchild"], os.environ)
    os.waitpid(pid, 0)
    err(b"last\\n")
    """
    with running(capture_mode, python(source)) as run:
        assert run.got((OUT, b"before\n"), (ERR, b"after\n"), (OUT, b"grandchild\n"), (ERR, b"last\n"))


def test_a_stranger_that_was_sent_the_streams_writes_to_them_and_is_waited_for(capture_mode, tmp_path):
    source = """
    out(b"child\\n")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1])
        socket.send_fds(connection, [b"x"], [1, 2])
        assert connection.recv(1) == b"y"
    """
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        accepted = []
        with running(capture_mode, python(source, tmp_path / "socket"), linger_s=LINGER_S["writers"]) as run:
            run.loop.add_reader(listener.fileno(), lambda: accepted.append(listener.accept()[0]))
            run.until(lambda: accepted)
            run.loop.remove_reader(listener.fileno())
            _, fds, _, _ = socket.recv_fds(accepted[0], 1, 2)
            os.write(fds[0], b"stranger\n")
            run.until_said(b"stranger\n")
            accepted[0].send(b"y")
            accepted[0].close()
            run.until(lambda: run.command.phase is Phase.LINGERING)
            os.write(fds[1], b"late\n")
            for fd in fds:
                os.close(fd)
            assert run.got((OUT, b"child\nstranger\n"), (ERR, b"late\n"))
            assert not run.outcome.writers_left


@pytest.mark.parametrize("capture_mode", PIPES)
def test_a_stranger_that_opens_the_streams_by_their_path_writes_to_them(capture_mode, fifo):
    source = """
    out(b"child\\n")
    go(sys.argv[1])
    with open("/dev/stderr", "wb", buffering=0) as stderr:
        stderr.write(b"by its path\\n")
    out(b"last\\n")
    """
    path = fifo("go")
    with running(capture_mode, python(source, path)) as run:
        run.until_said(b"child\n")
        with open(f"/proc/{run.pid}/fd/1", "wb", buffering=0) as stdout:
            stdout.write(b"stranger\n")
        run.until_said(b"stranger\n")
        tell(path)
        assert run.got((OUT, b"child\nstranger\n"), (ERR, b"by its path\n"), (OUT, b"last\n"))


# Many at once, and unusual writes.

RECORD_BYTES, RECORDS, WRITERS = 200, 300, 8
RECORDS_OF_ONE = """
def records(writer):
    for i in range(%d):
        os.write(1 + i %% 2, b"%%d %%d " %% (writer, i) + b"x" * %d + b"\\n")
""" % (RECORDS, RECORD_BYTES)

THREADS = (
    """
threads = [threading.Thread(target=records, args=(writer,)) for writer in range(%d)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
    % WRITERS
)

PROCESSES = """
for writer in range(%d):
    if not os.fork():
        records(writer)
        os._exit(0)
for _ in range(%d):
    os.wait()
""" % (WRITERS, WRITERS)


def whole_records(writes):
    """The records in the order in which they became complete, each with its stream."""
    rest = defaultdict(bytes)
    for write in writes:
        *lines, rest[write.stream] = (rest[write.stream] + write.data).split(b"\n")
        yield from ((write.stream, line) for line in lines)
    assert not any(rest.values())


@pytest.mark.parametrize("how", [THREADS, PROCESSES], ids=["threads", "processes"])
def test_what_many_write_at_once_is_complete_and_whole_and_of_each_in_its_order(capture_mode, how):
    with running(capture_mode, python(RECORDS_OF_ONE + how)) as run:
        assert run.end().exit.returncode == 0
        of_each = defaultdict(list)
        for stream, line in whole_records(run.output.writes):
            writer, i, filler = line.split()
            assert filler == b"x" * RECORD_BYTES
            assert stream == 1 + int(i) % 2 or not run.transport.apart
            of_each[int(writer)].append(int(i))
    assert sorted(of_each) == list(range(WRITERS))
    for numbers in of_each.values():
        expected = list(range(RECORDS))
        if run.transport.exact:
            assert numbers == expected
        else:
            assert [[i for i in numbers if i % 2 == odd] for odd in (0, 1)] == [expected[0::2], expected[1::2]]


def test_a_write_of_nothing_is_no_end(capture_mode):
    source = """
    out(b"")
    out(b"a")
    err(b"")
    os.writev(1, [b"", b""])
    err(b"b")
    out(b"")
    """
    with running(capture_mode, python(source)) as run:
        assert run.got((OUT, b"a"), (ERR, b"b"))


def test_a_child_that_fills_its_stdout_while_we_are_busy_waits_and_loses_nothing(capture_mode):
    source = """
    out(b"first\\n")
    for i in range(200):
        out(b"%c" % (97 + i % 26) * 100_000)
        err(b"%d\\n" % i)
    """
    with running(capture_mode, python(source), output=Full()) as run:
        run.until_said(b"first\n")
        eventually(lambda: waits_in(run.pid, WRITE))
        held = len(run.output.data())
        run.loop.run_until(lambda: True)
        assert len(run.output.data()) == held
        run.output.flow.resume()
        expected = [
            (OUT, b"%c" % (97 + i % 26) * 100_000) if stream == OUT else (ERR, b"%d\n" % i) for i in range(200) for stream in Stream
        ]
        assert run.got((OUT, b"first\n"), *expected)


def test_a_child_that_does_not_want_to_wait_loses_nothing(capture_mode):
    source = """
    os.set_blocking(1, False)
    poll = select.poll()
    poll.register(1, select.POLLOUT)
    data = b"".join(b"%d\\n" % i for i in range(200_000))
    sent = refused = 0
    while sent < len(data):
        try:
            sent += os.write(1, data[sent : sent + 50_000])
        except BlockingIOError:
            refused += 1
            poll.poll()
    """
    with running(capture_mode, python(source)) as run:
        assert run.got((OUT, b"".join(b"%d\n" % i for i in range(200_000))))


@pytest.mark.parametrize("capture_mode", PIPES)
def test_every_call_that_writes_is_in_order(capture_mode, tmp_path):
    source = """
    libc = ctypes.CDLL(None, use_errno=True)
    file = os.open(sys.argv[1], os.O_RDONLY)
    reader, writer = os.pipe()
    data = ctypes.create_string_buffer(b"vmsplice\\n", 9)
    vector = ctypes.create_string_buffer(struct.pack("@PN", ctypes.addressof(data), 9))
    for i in range(50):
        out(b"write\\n")
        assert os.writev(2, [b"wri", b"tev\\n"]) == 7
        assert libc.pwritev2(1, ctypes.create_string_buffer(struct.pack("@PN", ctypes.addressof(data), 9)), 1, ctypes.c_long(-1), 0) == 9
        assert os.sendfile(2, file, 0, 5) == 5
        os.write(writer, b"splice\\n")
        assert libc.tee(reader, 1, 7, 0) == 7
        assert libc.splice(reader, None, 2, None, 7, 0) == 7
        assert libc.vmsplice(1, vector, 1, 0) == 9
    """
    (tmp_path / "file").write_bytes(b"file\nrest")
    once = [(OUT, b"write\n"), (ERR, b"writev\n"), (OUT, b"vmsplice\n"), (ERR, b"file\n"), (OUT, b"splice\n"), (ERR, b"splice\n")]
    with running(capture_mode, python(source, tmp_path / "file")) as run:
        assert run.got(*[*once, (OUT, b"vmsplice\n")] * 50)


def test_what_was_written_before_an_announcement_is_before_what_was_announced():
    """However much it is: here a whole batch is in one pipe, and something in the other."""
    source = """
    os.dup2(1, 5)  # whose writes are not announced
    os.dup2(2, 6)
    write(5, b"x" * int(sys.argv[1]))
    write(6, b"before\\n")
    out(b"after\\n")
    """
    with running("turnstile", python(source, BATCH_BYTES), output=Full()) as run:
        listener, stdout, _ = run.transport.fds
        assert fcntl.fcntl(stdout, fcntl.F_GETPIPE_SZ) == BATCH_BYTES
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        assert poll.poll(BOUND_S * 1000)
        run.until(lambda: run.output.writes)
        ended = os.pidfd_open(run.pid)
        select.select([ended], [], [], 0.1)  # time in which it would come first, if it were let pass
        os.close(ended)
        run.output.flow.resume()
        assert run.got((OUT, b"x" * BATCH_BYTES), (ERR, b"before\n"), (OUT, b"after\n"))
