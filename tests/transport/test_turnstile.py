"""The turnstile: its contract, its filter, whose write is whose, what children do to it, and where it cannot be had."""

import fcntl
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtee_async.core.contracts import ChildFds
from dtee_async.core.write import Stream
from dtee_async.errors import CaptureError, SpawnError
from dtee_async.process.child import reap
from dtee_async.process.guardian import Guardian
from dtee_async.process.spawn import SpawnPlan, spawn
from dtee_async.testing import check_transport, open_fds
from dtee_async.transport.recvmmsg import ReceiveBuffer
from dtee_async.transport.seccomp import _linux_version, build_filter
from dtee_async.transport.turnstile import TurnstileTransport

PYTHON = (sys.executable, "-I", "-S", "-c")
OUT, ERR = Stream
BOUND_MS = 20_000
MIB = 1 << 20


@pytest.fixture(scope="module")
def buffer():
    return ReceiveBuffer()


@pytest.fixture
def guardian():
    guardian = Guardian()
    yield guardian
    guardian.close()


@pytest.fixture
def make(buffer, guardian):
    """Make a turnstile, whoever we are; it is closed after the test."""
    made = []

    def make(**options):
        made.append(TurnstileTransport(buffer, guardian.watch, no_new_privs=True, **options))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


@pytest.fixture
def start(make):
    """Start a command behind a turnstile; one that is left at the end of the test is killed."""
    started = []

    def start(*argv, stamped=True, **options):
        started.append(Running(make(stamped=stamped, **options), [str(word) for word in argv]))
        return started[-1]

    yield start
    for running in started:
        if running.exit is None:
            os.kill(running.pid, signal.SIGKILL)
            running.end()


@pytest.fixture
def start_late(start, fifo):
    """The same for a command that begins only when it is launched, so that the launch lets nothing pass."""

    def start_late(*argv, **options):
        go = fifo("begin")
        running = start("sh", "-c", 'read -r line <"$0"; exec "$@"', go, *argv, **options)
        go.write_text("\n")
        return running

    return start_late


class Running:
    """A command behind a turnstile, and what it has written."""

    def __init__(self, transport, argv):
        self.transport = transport
        self.writes = []
        self.batches = []
        self.exit = None
        self._child = transport.launch(partial(spawn, SpawnPlan(argv)))
        self.pid = self._child.pid

    def receive(self):
        """What is there now, and whether anything was."""
        batch = self.transport.receive()
        if batch is not None:
            self.batches.append((len(batch), batch.size_bytes))
            self.writes += [write._replace(data=bytes(write.data)) for write in batch]
        return batch is not None

    def until(self, condition):
        """Serve until this is so."""
        while not condition():
            assert readable(*self.transport.fds, self._child.exit_fd), "nothing happens"
            assert self.receive() or not readable(self._child.exit_fd, bound_ms=0), "it has ended before"

    def end(self):
        """Serve until it has ended, and everything that it left is received; its status."""
        while self.exit is None:
            ready = readable(*self.transport.fds, self._child.exit_fd)
            assert ready, "nothing happens"
            received = self.receive()
            if not received and self._child.exit_fd in ready:
                self.exit = reap(self._child)
        while self.receive():
            pass
        return self.exit.returncode

    def announced(self):
        """Wait until it has announced a write, and leave it there."""
        assert readable(self.transport._listener.fd), "nothing is announced"

    def let_pass(self):
        """Let the announced write be made, and look at nothing else."""
        assert self.transport._receive_announcement()
        self.transport._let_pass()

    def data(self, stream=None):
        return b"".join(write.data for write in self.writes if stream in (None, write.stream))

    def runs(self):
        """Stream and bytes; what came in pieces is one."""
        runs = []
        for write in self.writes:
            if runs and runs[-1][0] is write.stream:
                runs[-1] = (write.stream, runs[-1][1] + write.data)
            else:
                runs.append((write.stream, write.data))
        return runs


def readable(*fds, bound_ms=BOUND_MS):
    """Wait until one is: which are."""
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(bound_ms)]


def children():
    return [int(pid) for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()]


@pytest.mark.parametrize("options", [{}, {"stamped": True}, {"watch_fds": (1, 9)}, {"stamped": True, "watch_fds": (1, 9), "pipe_bytes": 0}])
def test_it_keeps_the_contract(buffer, guardian, options):
    check_transport(lambda: TurnstileTransport(buffer, guardian.watch, no_new_privs=True, **options))


# The filter.

NOTIFY, ALLOW = 0x7FC00000, 0x7FFF0000
ARCHES = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028, "riscv64": 0xC00000F3}
ANNOUNCED = {  # from the kernel's tables: the number of each call that writes, and the place of its fd
    "x86_64": {1: 0, 20: 0, 328: 0, 40: 0, 278: 0, 276: 1, 275: 2},  # write writev pwritev2 sendfile vmsplice tee splice
    "i386": {4: 0, 146: 0, 379: 0, 187: 0, 239: 0, 316: 0, 315: 1, 313: 2},  # the same, and sendfile64
    "aarch64": {64: 0, 66: 0, 287: 0, 71: 0, 75: 0, 77: 1, 76: 2},
}
RUNS_ON = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64",)}
LOAD, EQUAL, GREATER_EQUAL, GREATER, RETURN = 0x20, 0x15, 0x35, 0x25, 0x06
TESTS = {EQUAL: int.__eq__, GREATER_EQUAL: int.__ge__, GREATER: int.__gt__}


def verdict(program, arch, number, arguments):
    """What the kernel would do: BPF, as far as filters use it, over struct seccomp_data."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *arguments)
    at, accumulator = 0, 0
    while True:
        code, if_true, if_false, value = struct.unpack_from("=HBBI", program, 8 * at)
        at += 1
        if code == RETURN:
            return value
        if code == LOAD:
            (accumulator,) = struct.unpack_from("=I", data, value)
        else:
            at += if_true if TESTS[code](accumulator, value) else if_false


def announces(machine, last_fd, arch, number, arguments):
    """What is to be announced, as one would say it."""
    place = ANNOUNCED[arch].get(number) if arch in RUNS_ON[machine] else None
    return place is not None and 1 <= arguments[place] & 0xFFFFFFFF <= last_fd


@pytest.mark.parametrize("last_fd", [2, 9])
@pytest.mark.parametrize("machine", RUNS_ON)
def test_the_filter_announces_every_call_that_writes_to_a_watched_fd_and_no_other_one(machine, last_fd):
    program = build_filter(machine, 1, last_fd)
    seen = {NOTIFY: 0, ALLOW: 0}
    for arch, audit in ARCHES.items():
        for number in range(500):
            for arguments in ((0, 0, 0, 0, 0, 0), (1, 0, 0, 1, 1, 1), (0, 1, 0, 1, 1, 1), (0, 0, 1, 1, 1, 1), (1,) * 6):
                said = verdict(program, audit, number, arguments)
                assert (said == NOTIFY) == announces(machine, last_fd, arch, number, arguments), (arch, number, arguments)
                seen[said] += 1
    assert seen[NOTIFY] == sum(2 * len(ANNOUNCED[arch]) for arch in RUNS_ON[machine])


FDS = st.one_of(st.integers(0, 12), st.integers(0, 12).map(lambda fd: fd + (1 << 32)), st.integers(0, (1 << 64) - 1))


@given(
    st.sampled_from([*RUNS_ON]),
    st.sampled_from([2, 9]),
    st.sampled_from([*ARCHES]),
    st.one_of(st.sampled_from([*{number for calls in ANNOUNCED.values() for number in calls}]), st.integers(0, (1 << 32) - 1)),
    st.tuples(*[FDS] * 6),
)
def test_the_filter_looks_at_the_fd_alone_whatever_the_arguments(machine, last_fd, arch, number, arguments):
    said = verdict(build_filter(machine, 1, last_fd), ARCHES[arch], number, arguments)
    assert said == (NOTIFY if announces(machine, last_fd, arch, number, arguments) else ALLOW)


# Whose write it was, when, and whether it is whole.


def test_each_write_has_its_writer_and_its_time(start, fifo):
    go = fifo("go")
    running = start("sh", "-c", 'echo $$; sh -c "echo \\$\\$ >&2; exit"; read -r line <"$0"; echo $$', go)
    before_ns = time.time_ns()
    running.until(lambda: len(running.writes) == 2)
    between_ns = time.time_ns()
    go.write_text("\n")
    assert running.end() == 0
    assert [write.stream for write in running.writes] == [OUT, ERR, OUT]
    assert [b"%d\n" % write.pid for write in running.writes] == [write.data for write in running.writes]
    assert [write.pid == running.pid for write in running.writes] == [True, False, True]
    first, second, third = (write.time_ns for write in running.writes)
    assert before_ns - 10**9 < first < second < between_ns < third < time.time_ns()
    assert all(write.whole for write in running.writes)


def test_the_time_is_that_of_the_write_and_not_of_the_reading(start_late):
    running = start_late("sh", "-c", "echo one; echo two")
    running.announced()
    running.let_pass()
    running.announced()
    read_ns = time.time_ns()
    assert running.end() == 0
    assert running.writes[0].time_ns < read_ns < running.writes[1].time_ns


def test_what_nobody_asks_for_is_not_stamped(start):
    running = start("echo", "x", stamped=False)
    assert running.end() == 0
    assert [(write.time_ns, write.pid) for write in running.writes] == [(0, 0)]


@pytest.mark.parametrize("size", [1, 4096, 65_536, 3_000_000])
def test_a_write_is_whole_if_the_pipe_can_hold_it(start, size):
    running = start(*PYTHON, f"import os; os.write(1, b'x' * {size}); os.write(2, b'end')")
    room = running.transport._pipes.capacity_bytes[OUT]
    assert running.end() == 0
    assert running.runs() == [(OUT, b"x" * size), (ERR, b"end")]
    assert len(running.writes) == 2 or size > room
    assert [write.whole for write in running.writes] == [size <= room] * (len(running.writes) - 1) + [True]
    assert {write.pid for write in running.writes} == {running.pid}


def test_a_writev_that_was_made_before_the_next_write_was_announced_is_whole(start_late):
    running = start_late(*PYTHON, "import os; os.writev(1, [b'a', b'b', b'c']); os.write(2, b'end')")
    running.announced()
    running.let_pass()
    running.announced()
    running.receive()
    assert running.end() == 0
    assert [(write.stream, write.data, write.whole) for write in running.writes] == [(OUT, b"abc", True), (ERR, b"end", True)]


def test_a_writev_that_came_in_pieces_is_not_whole(start):
    running = start(*PYTHON, "import os; os.writev(1, [b'a' * 2000000, b'b' * 1000000]); os.write(2, b'end')")
    assert running.end() == 0
    assert running.runs()[0] == (OUT, b"a" * 2_000_000 + b"b" * 1_000_000)
    assert [write.whole for write in running.writes] == [False] * (len(running.writes) - 1) + [True]


def test_a_piece_that_fills_a_small_pipe_is_not_said_to_be_whole(start_late):
    """The pipe is larger by then than we take it for, so there may be more of the same write."""
    script = "import fcntl, os; fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20); os.writev(1, [b'x' * 150_000]); os.write(2, b'end')"
    running = start_late(sys.executable, "-c", script, pipe_bytes=0)
    room = running.transport._pipes.capacity_bytes[OUT]
    running.announced()
    running.let_pass()
    running.announced()
    running.receive()
    assert running.end() == 0
    assert running.runs() == [(OUT, b"x" * 150_000), (ERR, b"end")]
    assert [len(write.data) for write in running.writes[:-1]] == [room, room, 150_000 - 2 * room]
    assert [write.whole for write in running.writes] == [False, False, False, True]


def test_a_write_of_nothing_leaves_no_trace_and_takes_nobody_elses_place(start):
    running = start(*PYTHON, "import os; os.write(1, b''); os.write(2, b'one'); os.write(1, b''); os.write(1, b'two')")
    assert running.end() == 0
    assert [(write.stream, write.data, write.whole) for write in running.writes] == [(ERR, b"one", True), (OUT, b"two", True)]


# The order.


def test_nothing_is_written_before_we_let_it_pass(start_late):
    running = start_late("sh", "-c", "echo a; echo b >&2", stamped=False)
    pipes = running.transport._pipes.readers
    running.announced()
    assert readable(*pipes.values(), bound_ms=20) == []
    running.let_pass()
    running.announced()
    assert readable(*pipes.values(), bound_ms=20) == [pipes[OUT]]
    running.let_pass()
    assert readable(pipes[ERR])
    assert running.end() == 0
    assert running.runs() == [(OUT, b"a\n"), (ERR, b"b\n")]


def test_the_order_is_exact_for_20000_alternating_writes(start, programs):
    running = start(programs / "writes", 20_000, 64, 2)
    assert running.end() == 0
    assert [write.stream for write in running.writes] == [ERR, OUT] * 10_000
    assert all(write.whole for write in running.writes)


COPIES = """
import os
os.dup2(1, 5)
for i in range(300):
    os.write((2, 5)[i % 2], b"%d\\n" % i)
"""


def test_writes_through_copies_of_the_fds_are_in_order_if_those_are_watched(start):
    running = start(*PYTHON, COPIES, watch_fds=(1, 9))
    assert running.end() == 0
    assert running.runs() == [((ERR, OUT)[i % 2], b"%d\n" % i) for i in range(300)]


@pytest.mark.parametrize(("watch_fds", "before", "after"), [((1, 2), b"ab", b"c"), ((1, 9), b"a", b"bc")])
def test_only_writes_to_watched_fds_wait(start_late, watch_fds, before, after):
    script = "import os; os.dup2(1, 9); os.dup2(1, 10); os.write(10, b'a'); os.write(9, b'b'); os.write(1, b'c')"
    running = start_late(*PYTHON, script, watch_fds=watch_fds)
    running.announced()
    assert os.read(running.transport._pipes.readers[OUT], 10) == before
    assert running.end() == 0
    assert running.data() == after


LARGER = """
import fcntl, os
os.dup2(1, 10)
os.dup2(2, 11)
fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20)
fcntl.fcntl(2, fcntl.F_SETPIPE_SZ, 1 << 20)
os.write(10, b"o" * 500_000)
os.write(11, b"e" * (1 << 20))
os.write(1, b"next")
"""


def test_a_pipe_that_the_child_made_larger_is_read_empty_before_the_next_write_passes(start_late):
    """The batch is full before: what is left in the pipe has to be in front of the next write all the same."""
    running = start_late(sys.executable, "-c", LARGER, pipe_bytes=0)
    running.announced()
    running.receive()
    assert readable(running.transport._pipes.readers[OUT], bound_ms=100) == []
    assert running.end() == 0
    assert running.runs() == [(OUT, b"o" * 500_000), (ERR, b"e" * MIB), (OUT, b"next")]


THREADS = """
import os, threading
def write(letter):
    for i in range(200):
        os.write(1 + i % 2, b"%s%d\\n" % (letter, i))
threads = [threading.Thread(target=write, args=(letter.encode(),)) for letter in "abcdefgh"]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_threads_that_write_at_once_lose_nothing_and_each_keeps_its_order(start):
    running = start(*PYTHON, THREADS)
    assert running.end() == 0
    lines = running.data().split()
    for letter in b"abcdefgh":
        assert [line for line in lines if line[0] == letter] == [b"%c%d" % (letter, i) for i in range(200)]
    assert all((int(line[1:]) % 2 == 0) == (write.stream is OUT) for write in running.writes for line in write.data.split())


def test_two_share_a_buffer_without_mixing(start):
    script = "for i in 1 2 3 4 5; do echo $0$i; echo $0$i >&2; done"
    both = [start("sh", "-c", script, name) for name in ("one", "other")]
    for count in range(1, 11):
        for running in both:
            running.until(lambda running=running, count=count: len(running.writes) >= count)
    for running, name in zip(both, (b"one", b"other"), strict=True):
        assert running.end() == 0
        assert running.runs() == [(stream, b"%s%d\n" % (name, i)) for i in range(1, 6) for stream in Stream]


MANY = """
import os, sys
for i in range(100):
    if not os.fork():
        os.write(1 + i % 2, bytes(int(sys.argv[1])))
        os._exit(0)
for i in range(100):
    os.wait()
"""
WRITE = str(next(iter(ANNOUNCED[os.uname().machine])))


def wait_until_all_wait(running, count):
    """Until so many children of it are in a write."""
    while True:
        pids = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
        calls = [Path(f"/proc/{pid}/syscall").read_text().split()[0] for pid in pids]
        if calls.count(WRITE) == count:
            return


def test_so_many_writers_at_once_do_not_keep_us(start):
    running = start(*PYTHON, MANY, 0)
    wait_until_all_wait(running, 100)
    assert not running.receive()
    assert readable(running.transport._listener.fd, bound_ms=0), "all were let pass before anybody else had his turn"
    assert running.end() == 0
    assert running.writes == []


def test_a_batch_is_bounded_when_many_large_writes_are_waiting(start):
    running = start(*PYTHON, MANY, MIB)
    wait_until_all_wait(running, 100)
    assert running.end() == 0
    assert (len(running.data(OUT)), len(running.data(ERR))) == (50 * MIB, 50 * MIB)
    assert max(size_bytes for _, size_bytes in running.batches) <= 3 * MIB


@pytest.mark.parametrize(("options", "size"), [({}, MIB), ({"pipe_bytes": 0}, 65_536)])
def test_the_pipes_are_large_if_that_is_wanted(make, options, size):
    _, *pipes = make(**options).fds
    assert [fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) for fd in pipes] == [size, size]


# The start.


def test_the_spawned_child_is_returned_and_what_the_spawn_raises_is_raised(make):
    assert make().launch(lambda fds: "child") == "child"
    with pytest.raises(KeyError, match="of mine"):
        make().launch(lambda fds: {}["of mine"])


def test_what_our_own_thread_writes_is_let_pass(make):
    """It could be that a finaliser of the application runs there, and prints to stderr."""
    for watch_fds in ((1, 2), (1, 9)):
        assert make(watch_fds=watch_fds).launch(lambda fds: [os.write(2, b"") for _ in range(3)]) == [0, 0, 0]


SEEN = ("grep", "^Sig\\|^NoNewPrivs", "/proc/self/status")


def seen_without():
    """What a child sees that has no turnstile."""
    reader, writer = os.pipe()
    child = spawn(SpawnPlan(SEEN), ChildFds(writer, writer))
    os.close(writer)
    with open(reader, "rb") as file:
        seen = file.read()
    assert reap(child).returncode == 0
    return seen


def signal_masks(lines):
    """Without SigQ, which counts what is queued for the whole user, and without 32 and 33, which the C library has for its threads."""
    return {name: int(value, 16) & ~(0b11 << 31) for name, value in (line.split(b":") for line in lines) if name != b"SigQ"}


def test_a_child_has_the_signals_that_it_would_have_had_without(start):
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN), signal.signal(signal.SIGUSR1, lambda *_: None)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN, signal.SIGWINCH])
    try:
        running = start(*SEEN)
        assert running.end() == 0
        plain = seen_without().splitlines()
        seen = signal_masks(plain[:-1])
        assert signal_masks(running.data().splitlines()[:-1]) == seen
        assert seen[b"SigBlk"] == 1 << (signal.SIGRTMIN - 1) | 1 << (signal.SIGWINCH - 1)
        assert seen[b"SigIgn"] & 1 << (signal.SIGUSR2 - 1)
        assert not seen[b"SigIgn"] & 1 << (signal.SIGUSR1 - 1)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGUSR2, before[0])
        signal.signal(signal.SIGUSR1, before[1])


def test_our_thread_takes_no_signals(make):
    make()
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "dtee-async turnstile"]
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    blocked = int(status.partition("SigBlk:")[2].split()[0], 16)
    assert all(blocked & 1 << (number - 1) for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


@pytest.mark.root
@pytest.mark.parametrize("allowed", [False, True])
def test_root_gives_the_child_no_restriction(buffer, guardian, allowed):
    """Also if it may: it is not needed."""
    transport = TurnstileTransport(buffer, guardian.watch, no_new_privs=allowed)
    running = Running(transport, SEEN)
    assert running.end() == 0
    transport.close()
    assert running.data().splitlines()[-1] == b"NoNewPrivs:\t0"


PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
os.write(int(sys.argv[1]), b"x")
os.read(int(sys.argv[2]), 1)
os.write(1, b"alive")
"""


def test_a_child_that_ends_with_its_parent_lives_as_long_as_we_do(make):
    """PR_SET_PDEATHSIG: to the kernel the parent is the thread that spawned it."""
    ready, tell = os.pipe()
    wait, go = os.pipe()

    def launch(fds):
        words = [*PYTHON, PARENT, str(tell), str(wait)]
        child = subprocess.Popen(words, stdout=fds.stdout, stderr=fds.stderr, pass_fds=[tell, wait])
        os.read(ready, 1)
        return child

    transport = make()
    child = transport.launch(launch)
    os.write(go, b"x")
    data = b""
    while not data:
        assert readable(*transport.fds)
        batch = transport.receive()
        data = b"".join(map(bytes, batch.views)) if batch else b""
    assert data == b"alive"
    assert child.wait() == 0
    for fd in (ready, tell, wait, go):
        os.close(fd)


# What runs in a process of its own, whose lowest fds are free.


def alone(code, *words, **options):
    """Run this with nothing open but the standard streams; what it prints."""
    whole = f"from dtee_async.process.guardian import Guardian\n{COMMON}\n{code}\nguardian.close()\n"
    return subprocess.run([sys.executable, "-c", whole, *map(str, words)], capture_output=True, text=True, timeout=50, **options)


COMMON = """
import ctypes, os, resource, select, signal, subprocess, sys
from functools import partial
from dtee_async.process.child import reap
from dtee_async.process.spawn import SpawnPlan, spawn
from dtee_async.testing import open_fds
from dtee_async.transport.recvmmsg import ReceiveBuffer
from dtee_async.transport.turnstile import TurnstileTransport
LIBC = ctypes.CDLL(None, use_errno=True)
buffer, guardian = ReceiveBuffer(), Guardian()

def drop():
    "Be nobody, and no more than that: this Python may be out of reach then, so the guardian is there already."
    guardian.watch(os.pipe()[0])
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    LIBC.prctl(4, 1, 0, 0, 0)  # /proc/self is ours again

def leave():
    sys.stdout.flush()
    os._exit(0)  # a guardian of another user ends when we are gone

def make(**options):
    return TurnstileTransport(buffer, guardian.watch, **options)

def say(*argv, spawn=spawn, **options):
    "What a command says behind a turnstile, and its status; its launch finds all low numbers free."
    low = [os.open(os.devnull, os.O_RDONLY) for _ in range(10)]
    transport = make(**options)
    for fd in low:
        os.close(fd)
    child = transport.launch(partial(spawn, SpawnPlan(argv)))
    data = b""
    while len(transport.fds) > 1:
        select.select(transport.fds, [], [])
        if batch := transport.receive():
            data += b"".join(bytes(view) for view in batch.views)
    transport.close()
    return reap(child).returncode, data

def refused(**options):
    "Why there can be none; nothing is left of the trial."
    before = open_fds()
    try:
        make(**options).close()
    except OSError as error:
        assert open_fds() == before
        return f"{type(error).__name__} {error.errno}: {error.strerror}"
"""


def said(done):
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("watch_fds", [(1, 2), (1, 9)])
def test_a_command_that_cannot_be_executed_says_so_at_once(watch_fds, tmp_path):
    """What tells of the failure is a write of the child, to a pipe that can have any number."""
    for name, text in (("plain", "echo from the shell"), ("bad", "#!/nonexistent/interpreter\n"), ("closed", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    code = f"""if True:
    for name in sys.argv[1:]:
        before = open_fds()
        try:
            print(*say(name, watch_fds={watch_fds}, no_new_privs=True))
        except OSError as error:
            print(type(error).__name__, error.strerror)
        print(open_fds().keys() - before.keys())
    """
    words = [tmp_path / "plain", tmp_path / "missing", tmp_path / "bad", tmp_path, "nonexistent-command"]
    lines = said(alone(code, *words))
    assert lines[0::2] == [
        "0 b'from the shell\\n'",
        "CommandNotFoundError No such file or directory",
        "CommandNotFoundError No such file or directory",
        "SpawnError Permission denied",
        "CommandNotFoundError No such file or directory",
    ]


def test_one_that_is_closed_before_its_launch_does_not_wait_for_ever(make):
    for watch_fds in ((1, 2), (1, 9)):
        transport = make(watch_fds=watch_fds)
        transport.close()
        assert transport.fds == ()
    assert said(alone("make(watch_fds=(1, 9), no_new_privs=True).close(); print('closed')")) == ["closed"]


EARLY = """
def early(watch_fds):
    def slow(plan, fds):
        child = spawn(plan, fds)
        while not transport._waits:  # until the other thread knows of the child
            pass
        return child
    transport = make(watch_fds=watch_fds, no_new_privs=True)
    child = transport.launch(partial(slow, SpawnPlan(["sh", "-c", "echo early"])))
    data = b""
    while len(transport.fds) > 1:
        select.select(transport.fds, [], [])
        if batch := transport.receive():
            data += bytes(batch.views[0])
    transport.close()
    print(reap(child).returncode, data)
early((1, 2))
early((1, 9))
"""


def test_a_child_that_writes_before_its_spawn_has_returned_waits_and_nobody_else():
    """Its first write is announced while the thread that carries the filter has something to do still."""
    assert said(alone(EARLY)) == ["0 b'early\\n'"] * 2


# Where it cannot be had.


def test_there_is_none_within_another_one():
    inner = f"from dtee_async.process.guardian import Guardian\n{COMMON}\nprint(refused(no_new_privs=True))\n"
    lines = said(alone("print(say(sys.executable, '-c', sys.argv[1], no_new_privs=True))", inner))
    assert lines == ["(0, b'CaptureError 16: a turnstile is around this process already\\n')"]


@pytest.mark.root
def test_without_privileges_it_takes_no_new_privs_and_says_so():
    lines = said(
        alone("""if True:
    drop()
    print(refused())
    print(say("sh", "-c", "echo a; echo b >&2; grep NoNewPrivs /proc/self/status", no_new_privs=True))
    print(say("sh", "-c", "kill -9 $$", no_new_privs=True))
    print(LIBC.prctl(39, 0, 0, 0, 0))
    leave()
    """)
    )
    assert lines == [
        "CaptureError 13: it takes CAP_SYS_ADMIN, or no_new_privs, with which sudo, su and ping do not work in the command",
        "(0, b'a\\nb\\nNoNewPrivs:\\t1\\n')",
        "(-9, b'')",
        "0",
    ]


@pytest.mark.root
def test_without_room_for_a_thread_there_is_none():
    lines = said(
        alone("""if True:
    drop()
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    print(refused(no_new_privs=True))
    leave()
    """)
    )
    assert lines == ["CaptureError 11: can't start new thread"]


def test_without_room_for_fds_there_is_none_and_nothing_is_left(make):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    for room in range(7):
        before = open_fds()
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free(room), limits[1]))
        try:
            with pytest.raises((CaptureError, SpawnError), match="Too many open files|Invalid argument"):
                make()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert open_fds() == before


def first_free(room):
    """The limit that leaves room for so many fds."""
    free = [fd for fd in range(10_000) if not Path(f"/proc/self/fd/{fd}").exists()]
    return free[room]


def test_without_a_guardian_there_is_none_and_nothing_is_left(buffer):
    def guard(listener):
        raise SpawnError(11, "no process")

    before = open_fds()
    with pytest.raises(SpawnError, match="no process"):
        TurnstileTransport(buffer, guard, no_new_privs=True)
    assert open_fds() == before


@pytest.mark.parametrize(
    ("persona", "reason"),
    [(0x0020000, r"it takes Linux 5\.5, this is 2\.6\."), (0x0008, r"there is no filter for i686")],
)
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the personality of another machine")
def test_on_another_system_it_says_what_it_takes(persona, reason):
    (line,) = said(alone(f"LIBC.personality({persona}); print(refused())"))
    assert line.startswith("CaptureError 38: " + reason.replace("\\", ""))


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.18.44-fc-v669", (6, 18)),
        ("5.10.0-38-amd64", (5, 10)),
        ("6.12.9+bpo-amd64", (6, 12)),
        ("7.0-rc1", (7, 0)),
        ("6.6+", (6, 6)),
        ("5.15-custom", (5, 15)),
        ("4.4.0", (4, 4)),
        ("6", (6, 0)),
    ],
)
def test_the_version_of_a_kernel(release, version):
    assert _linux_version(release) == version


# What children do.


def kill(pid):
    """Kill it, and wait until it is dead: only then its write is announced no more."""
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert readable(pidfd)
    os.close(pidfd)


def test_a_child_that_is_killed_while_it_waits_is_no_trouble(start_late):
    running = start_late("sh", "-c", "echo a; echo b")
    running.announced()
    kill(running.pid)
    assert not running.transport._receive_announcement()
    assert running.end() == -signal.SIGKILL
    assert running.writes == []


def test_a_child_that_is_killed_when_we_know_of_it_is_no_trouble(start_late):
    running = start_late("sh", "-c", "echo a; echo b")
    running.announced()
    assert running.transport._receive_announcement()
    kill(running.pid)
    running.transport._let_pass()
    assert running.end() == -signal.SIGKILL
    assert running.writes == []


def test_of_a_child_that_is_killed_among_others_the_others_go_on(start, fifo):
    go, go_on = fifo("go"), fifo("go on")
    inner = 'echo $$; read -r line <"$0"; echo never; exit'
    running = start("bash", "-c", 'sh -c "$0" "$1" & wait; read -r line <"$2"; echo after >&2', inner, go, go_on)
    running.until(lambda: running.writes)
    go.write_text("\n")
    running.announced()
    kill(int(running.data()))
    both_ends = os.open(go_on, os.O_RDWR)  # does not wait for the shell, which may have to say first that somebody was killed
    os.write(both_ends, b"\n")
    assert running.end() == 0
    os.close(both_ends)
    assert b"never" not in running.data(OUT)
    assert running.data(ERR).endswith(b"after\n")


ALARMED = """
import os, signal, sys
ticks = 0
def tick(*_):
    global ticks
    ticks += 1
def put(stream, data):
    while data:
        data = data[os.write(stream, data):]
signal.signal(signal.SIGALRM, tick)
signal.siginterrupt(signal.SIGALRM, sys.argv[1] == "interrupts")
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for i in range(1500):
    put(1 + i % 2, b"%d:%s\\n" % (i, b"x" * (200_000 if i % 100 == 50 else i)))
signal.setitimer(signal.ITIMER_REAL, 0)
put(1, b"%d ticks\\n" % ticks)
"""


@pytest.mark.parametrize("how", ["interrupts", "restarts"])
def test_signals_every_millisecond_lose_nothing_and_repeat_nothing(start, how):
    running = start(*PYTHON, ALARMED, how)
    assert running.end() == 0
    expected = [((OUT, ERR)[i % 2], b"%d:%s\n" % (i, b"x" * (200_000 if i % 100 == 50 else i))) for i in range(1500)]
    runs = running.runs()
    assert runs[:-1] == expected
    assert int(runs[-1][1].split()[0]) > 5


def wait_until_stopped(pid):
    status = os.waitid(os.P_PID, pid, os.WSTOPPED)
    assert status.si_code == os.CLD_STOPPED


def test_a_child_that_is_stopped_before_we_know_of_its_write_makes_it_later(start_late):
    running = start_late("sh", "-c", "echo a; echo b >&2")
    running.announced()
    os.kill(running.pid, signal.SIGSTOP)
    wait_until_stopped(running.pid)
    assert not running.receive()
    assert readable(running.transport._listener.fd, bound_ms=20) == []
    os.kill(running.pid, signal.SIGCONT)
    assert running.end() == 0
    assert running.runs() == [(OUT, b"a\n"), (ERR, b"b\n")]


def test_a_child_that_is_stopped_when_we_know_of_its_write_makes_it_once(start_late):
    running = start_late("sh", "-c", "echo a; echo b >&2")
    running.announced()
    assert running.transport._receive_announcement()
    os.kill(running.pid, signal.SIGSTOP)
    running.transport._let_pass()
    wait_until_stopped(running.pid)
    os.kill(running.pid, signal.SIGCONT)
    assert running.end() == 0
    assert running.runs() == [(OUT, b"a\n"), (ERR, b"b\n")]


NON_BLOCKING = """
import os, select
for fd in (1, 2): os.set_blocking(fd, False)
short = 0
for i in range(12):
    data = b"%d:%s\\n" % (i, b"x" * 2_000_000)
    while data:
        try:
            count = os.write(1 + i % 2, data)
            data = data[count:]
            short += bool(data)
        except BlockingIOError:
            select.select([], [1 + i % 2], [])
assert short
"""


def test_a_child_that_does_not_block_is_exact_too(start):
    running = start(*PYTHON, NON_BLOCKING)
    assert running.end() == 0
    assert running.runs() == [((OUT, ERR)[i % 2], b"%d:%s\n" % (i, b"x" * 2_000_000)) for i in range(12)]


# The end.


def test_a_pipe_that_has_come_to_its_end_is_polled_no_more_and_the_listener_stays_quiet(start, fifo):
    go = fifo("go")
    running = start("sh", "-c", 'echo a; exec >/dev/null; echo to the file; echo b >&2; exec 2>&1; read -r line <"$0"; echo last', go)
    listener, out, err = running.transport.fds
    before = running.transport.fds
    running.until(lambda: running.transport.fds != before)
    assert running.transport.fds == (listener, err)
    assert before == (listener, out, err)
    assert running.transport.writers_left()
    running.until(lambda: len(running.transport.fds) == 1)
    assert not running.transport.writers_left()
    assert running.transport.fds == (listener,)
    go.write_text("\n")
    assert running.end() == 0
    assert readable(listener, bound_ms=0) == []
    assert running.transport.fds == (listener,)
    assert running.runs() == [(OUT, b"a\n"), (ERR, b"b\n")]
    running.transport.close()
    assert running.transport.fds == ()


def test_when_it_is_closed_no_guardian_and_no_thread_is_left(make):
    one, other = make(), make()
    assert len(children()) == 1
    assert len([thread for thread in threading.enumerate() if thread.name == "dtee-async turnstile"]) == 2
    one.close()
    one.close()
    assert len(children()) == 1
    other.close()
    assert children() == []
    assert [thread for thread in threading.enumerate() if thread.name == "dtee-async turnstile"] == []


def test_what_is_left_behind_goes_on_when_it_is_closed(start, tmp_path, fifo):
    go, done = fifo("go"), fifo("done")
    script = '(trap "" PIPE; read -r line <"$0"; echo to nobody; echo also >&2; exec >"$2"; echo to a file; echo x >"$1") & echo now'
    running = start("bash", "-c", script, go, done, tmp_path / "file")
    assert running.end() == 0
    running.transport.close()
    assert running.transport.fds == ()
    assert children() == []
    go.write_text("\n")
    assert done.read_text() == "x\n"
    assert (tmp_path / "file").read_text() == "to a file\n"
    assert running.data() == b"now\n"
