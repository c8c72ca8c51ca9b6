"""The guardian: real filters, real processes, real kills."""

import ctypes
import fcntl
import os
import platform
import random
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import traceback
from contextlib import contextmanager
from errno import ENOENT
from pathlib import Path

import pytest

from dtee_async.errors import SpawnError
from dtee_async.process import guardian as client
from dtee_async.process import guardian_program as program
from dtee_async.process.guardian import Guardian
from dtee_async.testing import open_fds

LIBC = ctypes.CDLL(None, use_errno=True)
AUDIT_ARCH, SYS_SECCOMP, SYS_WRITE, SYS_CAPSET = {
    "x86_64": (0xC000003E, 317, 1, 126),
    "aarch64": (0xC00000B7, 277, 64, 91),
}[platform.machine()]
NO_NEW_PRIVS = 38
SUBREAPER = 36
SET_MODE_FILTER = 1
SPEC_ALLOW, NEW_LISTENER, WAIT_KILLABLE_RECV = 4, 8, 32
BOUND_MS = 20_000


# Filters, and what the transport will do with them.


def listener_of_this_thread():
    """Have write(2) to fd 1 or 2 announced, for this thread and all that it starts."""

    def step(code, yes, no, operand):
        return struct.pack("=HBBI", code, yes, no, operand)

    load, equal, end = 0x20, 0x15, 0x06
    steps = [
        step(load, 0, 0, 4),
        step(equal, 0, 6, AUDIT_ARCH),
        step(load, 0, 0, 0),
        step(equal, 0, 4, SYS_WRITE),
        step(load, 0, 0, 16),
        step(equal, 1, 0, 1),
        step(equal, 0, 1, 2),
        step(end, 0, 0, 0x7FC00000),  # SECCOMP_RET_USER_NOTIF
        step(end, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
    ]
    code = ctypes.create_string_buffer(b"".join(steps))
    whole = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
    assert LIBC.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    listener = LIBC.syscall(SYS_SECCOMP, SET_MODE_FILTER, SPEC_ALLOW | NEW_LISTENER | WAIT_KILLABLE_RECV, whole)
    assert listener >= 0, os.strerror(ctypes.get_errno())
    return listener


def filtered(argv, **options):
    """Start a command whose writes are announced: the process and the listener."""
    result = []

    def start():  # a filter is a thread's, and its children's
        listener = listener_of_this_thread()
        result.extend((subprocess.Popen(argv, **options), listener))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    return result


def readable(fd, bound_ms=BOUND_MS):
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(bound_ms))


def receive(listener, pending):
    """Wait for a notification and receive it as the transport does: the kernel writes it into the slot."""
    assert readable(listener)
    fcntl.ioctl(listener, program.RECEIVE, pending, True)


def answer(listener, pending):
    try:
        fcntl.ioctl(listener, program.SEND, program.ANSWER.pack(program.IDENT.unpack_from(pending)[0], 0, 0, program.CONTINUE))
    except OSError as error:
        assert error.errno == ENOENT
    pending[:80] = bytes(80)


def serve(listener, pending):
    """Be a supervisor until no filtered process is left."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        ((_, events),) = poll.poll()
        if not events & select.POLLIN:
            return
        receive(listener, pending)
        answer(listener, pending)


# Processes.


def children():
    return [int(pid) for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()]


def pid_of(guardian):
    return guardian._program and guardian._program._process.pid


def status_of(pid):
    """Wait for the end of a child, not for ever: its status as subprocess has it."""
    pidfd = os.pidfd_open(pid)
    try:
        assert readable(pidfd), f"{pid} does not end"
    finally:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def statuses(but=None):
    """Wait for the end of all children that we have, or adopt: their statuses."""
    found = []
    while pids := set(children()) - {but}:
        found.append(status_of(pids.pop()))
    return sorted(found)


@pytest.fixture
def guardian():
    made = Guardian()
    yield made
    made.close()


@pytest.fixture
def adopting():
    """What our children leave behind becomes ours, not init's."""
    LIBC.prctl(SUBREAPER, 1, 0, 0, 0)
    yield
    LIBC.prctl(SUBREAPER, 0, 0, 0, 0)


def supervisor(life):
    """A supervisor with a guardian of its own, as a process: what ``life(guardian)`` does; its pid."""
    pid = os.fork()
    if not pid:
        try:
            life(Guardian())
        finally:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(99)  # nobody was to come here
    return pid


def die():
    os.kill(os.getpid(), signal.SIGKILL)


class Talker:
    """A filtered process that writes the lines it is told to; it ends with status 1 if it cannot."""

    def __init__(self):
        self.process, self.listener = filtered(
            ["sh", "-c", 'while read -r line; do echo "$line" || exit 1; done'],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )

    def told(self, line):
        self.process.stdin.write(line + b"\n")

    def said(self):
        assert readable(self.process.stdout), "the write does not happen"
        return self.process.stdout.readline()

    def says(self, line):
        self.told(line)
        return self.said() == line + b"\n"

    def quiet(self):
        """Whether it waits in its write."""
        return not readable(self.process.stdout, 20)

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        return status_of(self.process.pid) if self.process.returncode is None else self.process.returncode


@contextmanager
def talker():
    made = Talker()
    try:
        yield made
    finally:
        os.close(made.listener)
        made.process.kill()
        made.process.stdin.close()
        made.process.stdout.close()
        made.process.wait()


def wait_until_started(guardian):
    """A listener that is released is served only when the process is there."""
    with talker() as probe:
        guardian.watch(probe.listener).release()
        assert probe.says(b"are you there")


@pytest.fixture
def group():
    """A process that leads a group, and does nothing."""
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as process:
        yield process
        process.kill()


@pytest.fixture
def pipe():
    """Something to watch that has nothing to say."""
    fds = os.pipe()
    yield fds[0]
    for fd in fds:
        os.close(fd)


# When there is one.


def test_no_process_before_it_is_needed_and_none_after(guardian, pipe, group):
    assert children() == [group.pid]
    watch = guardian.watch(pipe)
    pid = pid_of(guardian)
    assert set(children()) == {group.pid, pid}
    other = guardian.watch(pipe)
    guardian.guard_group(group.pid)
    watch.release()
    watch.release()
    guardian.forget_group(group.pid)
    guardian.forget_group(group.pid)
    assert set(children()) == {group.pid, pid}
    other.release()
    assert children() == [group.pid]
    guardian.guard_group(group.pid)
    assert pid_of(guardian) not in (None, pid)
    assert set(children()) == {group.pid, pid_of(guardian)}
    guardian.close()
    guardian.close()
    assert children() == [group.pid]
    assert group.poll() is None


def test_it_has_nothing_of_ours_but_what_it_needs(guardian, pipe, tmp_path):
    extra = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(extra, True)
    guardian.watch(pipe)
    wait_until_started(guardian)
    os.close(extra)
    pid = pid_of(guardian)
    fds = sorted(os.readlink(f"/proc/{pid}/fd/{fd}").partition(":")[0] for fd in os.listdir(f"/proc/{pid}/fd"))
    # The listener of wait_until_started() may just be gone.
    assert [fd for fd in fds if fd != "anon_inode"] == ["/dev/null"] * 3 + ["/memfd", "pipe", "socket"]
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.getsid(pid) == pid
    assert os.listdir(f"/proc/{pid}/task") == [str(pid)]


def test_it_is_small(guardian, pipe):
    guardian.watch(pipe)
    wait_until_started(guardian)
    pid = pid_of(guardian)
    own = sum(
        int(line.split()[1]) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if line.startswith("Private_Dirty")
    )
    assert own < 6000, "kB"


def test_a_program_that_cannot_be_started_is_an_error_and_leaves_nothing(guardian, pipe, monkeypatch, group):
    before = open_fds()
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(SpawnError, match="guardian"):
        guardian.watch(pipe)
    with pytest.raises(SpawnError, match="guardian"):
        guardian.guard_group(group.pid)
    assert open_fds() == before
    monkeypatch.undo()
    guardian.watch(pipe).release()


def test_an_fd_that_is_not_open_is_an_error_and_harms_nobody_else(guardian, pipe):
    guardian.watch(pipe)
    before = pid_of(guardian)
    with pytest.raises(SpawnError, match="Bad file descriptor"):
        guardian.watch(1_000_000)
    assert pid_of(guardian) == before
    assert children() == [before]


def test_more_listeners_than_slots_are_an_error(guardian, pipe, monkeypatch):
    monkeypatch.setattr(client, "SLOTS", 3)
    watches = [guardian.watch(pipe) for _ in range(3)]
    with pytest.raises(SpawnError, match="more than 3"):
        guardian.watch(pipe)
    watches[1].release()
    with pytest.raises(SpawnError, match="Bad file descriptor"):
        guardian.watch(1_000_000)
    guardian.watch(pipe)


def test_our_own_streams_may_be_closed():
    """What the process inherits must not be where its own /dev/null goes."""

    def life(guardian):
        for fd in (0, 1, 2):
            os.close(fd)
        _, listener = filtered(["sh", "-c", "echo said >&2"], stderr=writer)
        receive(listener, guardian.watch(listener).pending)
        die()

    reader, writer = os.pipe()
    assert status_of(supervisor(life)) == -signal.SIGKILL
    os.close(writer)
    assert readable(reader)
    assert os.read(reader, 10) == b"said\n"
    os.close(reader)


# What is left behind goes on.


def test_a_process_that_is_left_behind_goes_on_writing_and_the_guardian_ends_with_it(guardian, adopting):
    with talker() as daemon:
        watch = guardian.watch(daemon.listener)
        daemon.told(b"served by us")
        receive(daemon.listener, watch.pending)
        assert daemon.quiet()
        answer(daemon.listener, watch.pending)
        assert daemon.said() == b"served by us\n"
        watch.release()
        assert all(daemon.says(b"%d" % i) for i in range(100))
        (left,) = set(children()) - {daemon.process.pid}  # it parted from its parent, whom we have waited for already
        guardian.close()
        assert daemon.says(b"still")
        assert daemon.end() == 0
        assert status_of(left) == 0


def test_a_guardian_that_serves_on_is_no_child_of_ours(guardian):
    with talker() as daemon:
        guardian.watch(daemon.listener).release()
        assert children() == [daemon.process.pid]
        assert daemon.says(b"hello")


def test_what_was_received_and_not_answered_is_answered_after_release(guardian):
    with talker() as daemon:
        watch = guardian.watch(daemon.listener)
        daemon.told(b"half done")
        receive(daemon.listener, watch.pending)
        watch.release()
        assert daemon.said() == b"half done\n"
        assert daemon.says(b"more")


def test_closing_releases_all(guardian):
    with talker() as one, talker() as other:
        watch, _ = guardian.watch(one.listener), guardian.watch(other.listener)
        one.told(b"half done")
        receive(one.listener, watch.pending)
        guardian.close()
        assert one.said() == b"half done\n"
        for _ in range(10):
            assert other.says(b"hello")
            assert one.says(b"hello")


def test_what_is_released_is_served_while_others_are_watched(guardian):
    with talker() as watched, talker() as left:
        watch = guardian.watch(watched.listener)
        guardian.watch(left.listener).release()
        assert left.says(b"hello")
        watched.told(b"ours")
        receive(watched.listener, watch.pending)
        assert left.says(b"hello again")
        assert watched.quiet()
        assert left.end() == 0
        answer(watched.listener, watch.pending)
        assert watched.said() == b"ours\n"


def test_it_sleeps_while_we_serve(guardian, programs):
    def sleeps():
        return Path(f"/proc/{pid}/status").read_text().partition("voluntary_ctxt_switches:")[2].split()[0]

    process, listener = filtered([programs / "writes", "1000", "10", "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    watch = guardian.watch(listener)
    wait_until_started(guardian)
    pid = pid_of(guardian)
    for _ in range(900):
        receive(listener, watch.pending)
        answer(listener, watch.pending)
    # The probe of wait_until_started() ended, for which it woke, perhaps only by now.
    assert int(sleeps()) < 50
    serve(listener, watch.pending)
    assert process.wait() == 0
    watch.release()
    os.close(listener)


def test_a_slot_is_clean_whoever_had_it(guardian, pipe):
    guardian.watch(pipe)
    watch = guardian.watch(pipe)
    assert len(watch.pending) > 1024
    assert not any(watch.pending)
    watch.pending[:] = b"x" * len(watch.pending)
    part = watch.pending[:80]
    watch.release()
    assert not any(guardian.watch(pipe).pending)
    del part


def test_a_slot_that_is_used_again_is_not_taken_for_the_former_users(guardian):
    """The guardian starts after all of this was said: it finds in memory what the last user left."""
    with talker() as one, talker() as other:
        first = guardian.watch(one.listener)
        one.told(b"one")
        receive(one.listener, first.pending)
        keeping = guardian.watch(other.listener)
        first.release()
        second = guardian.watch(other.listener)
        assert second.slot == first.slot
        other.told(b"other")
        receive(other.listener, second.pending)
        assert one.said() == b"one\n"
        second.release()
        assert other.said() == b"other\n"
        keeping.release()


# We are killed.


@pytest.mark.parametrize("started", [False, True])
def test_a_write_that_we_had_received_when_we_were_killed_happens(adopting, started):
    def life(guardian):
        _, listener = filtered(["sh", "-c", "echo one && echo two && echo three"], stdout=writer)
        watch = guardian.watch(listener)
        if started:
            wait_until_started(guardian)
        receive(listener, watch.pending)
        answer(listener, watch.pending)
        receive(listener, watch.pending)
        die()

    reader, writer = os.pipe()
    assert status_of(supervisor(life)) == -signal.SIGKILL
    os.close(writer)
    assert statuses() == [0, 0]
    with open(reader, "rb") as said:
        assert said.read() == b"one\ntwo\nthree\n"


def test_no_write_is_lost_at_whatever_moment_we_are_killed(adopting, programs, tmp_path):
    def life(guardian):
        os.close(reader)
        _, listener = filtered([programs / "writes", "2000", "10", "3"], stdout=writer, stderr=writer)
        serve(listener, guardian.watch(listener).pending)
        die()

    for seed in range(20):
        chance = random.Random(seed)
        reader, writer = os.pipe()
        pid = supervisor(life)
        os.close(writer)
        with open(reader, "rb", buffering=0) as said:
            got = b""
            while len(got) < chance.randrange(20, 15_000):
                assert readable(said)
                got += said.read(chance.randrange(1, 2000))
            for _ in range(chance.randrange(3000)):  # some microseconds
                pass
            os.kill(pid, signal.SIGKILL)
            assert status_of(pid) == -signal.SIGKILL
            while data := said.read(65536) if readable(said) else pytest.fail(f"seed {seed}: the writer waits"):
                got += data
        assert got.count(b"\n") == 2000
        assert statuses() == [0, 0]


def test_being_killed_with_many_at_once(adopting, programs):
    def life(guardian):
        poll, watches = select.poll(), {}
        for _ in range(50):
            _, listener = filtered([programs / "writes", "200", "10", "3"], stdout=writer, stderr=writer)
            watches[listener] = guardian.watch(listener)
            poll.register(listener, select.POLLIN)
        for last in [False] * 90 + [True]:
            for listener, _ in poll.poll():
                receive(listener, watches[listener].pending)
                if not last:
                    answer(listener, watches[listener].pending)
        die()

    reader, writer = os.pipe()
    pid = supervisor(life)
    os.close(writer)
    got = b""
    with open(reader, "rb", buffering=0) as said:
        while data := said.read(65536) if readable(said) else pytest.fail("a writer waits"):
            got += data
    assert status_of(pid) == -signal.SIGKILL
    assert got.count(b"\n") == 50 * 200
    assert statuses() == [0] * 51


def test_a_copy_of_us_that_lives_on_does_not_hide_our_end(adopting):
    reader, writer = os.pipe()
    copies, tell = os.pipe()

    def life(guardian):
        _, listener = filtered(["sh", "-c", "echo hello"], stdout=writer)
        watch = guardian.watch(listener)
        if not os.fork():  # as multiprocessing does it; it has a copy of everything
            os.close(writer)
            os.write(tell, b"%d" % os.getpid())
            signal.pause()
        receive(listener, watch.pending)
        die()

    assert status_of(supervisor(life)) == -signal.SIGKILL
    os.close(writer)
    assert readable(reader)
    assert os.read(reader, 10) == b"hello\n"
    os.close(reader)
    os.close(tell)
    assert readable(copies)
    (copy,) = os.read(copies, 100).split()
    os.kill(int(copy), signal.SIGKILL)
    assert statuses() == [-signal.SIGKILL, 0, 0]
    os.close(copies)


def test_a_copy_of_us_does_not_keep_it_from_ending(guardian):
    with talker() as daemon:
        guardian.watch(daemon.listener)
        copy = os.fork()
        if not copy:
            signal.pause()
        guardian.close()
        assert set(children()) == {daemon.process.pid, copy}
        assert daemon.says(b"hello")
        os.kill(copy, signal.SIGKILL)
        assert status_of(copy) == -signal.SIGKILL


# Groups.


def test_groups_are_ended_if_we_are_killed_and_only_those_that_we_had_not_forgotten(adopting, group):
    def life(guardian):
        with subprocess.Popen(["sh", "-c", "sleep 1000 & echo; wait"], start_new_session=True, stdout=writer) as other:
            os.read(reader, 1)
            os.close(writer)
            guardian.guard_group(other.pid)
            guardian.guard_group(group.pid)
            guardian.forget_group(group.pid)
            die()

    reader, writer = os.pipe()
    assert status_of(supervisor(life)) == -signal.SIGKILL
    os.close(writer)
    assert readable(reader), "a member of the group lives"
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert statuses(but=group.pid) == [-signal.SIGKILL, -signal.SIGKILL, 0]
    assert group.poll() is None


@pytest.mark.parametrize("serving", [False, True])
def test_groups_are_not_ended_if_we_end_properly(adopting, group, serving):
    def life(guardian):
        guardian.guard_group(group.pid)
        with talker() as daemon:
            if serving:
                guardian.watch(daemon.listener).release()
            guardian.close()
        os._exit(0)

    assert status_of(supervisor(life)) == 0
    assert statuses(but=group.pid) == [0] * serving
    assert group.poll() is None


def test_a_group_that_is_gone_already_is_no_trouble(adopting):
    def life(guardian):
        with subprocess.Popen(["true"], start_new_session=True) as gone:
            guardian.guard_group(gone.pid)
        _, listener = filtered(["sh", "-c", "echo hello"], stdout=writer)
        receive(listener, guardian.watch(listener).pending)
        die()

    reader, writer = os.pipe()
    assert status_of(supervisor(life)) == -signal.SIGKILL
    os.close(writer)
    assert readable(reader)
    assert os.read(reader, 10) == b"hello\n"
    os.close(reader)
    assert statuses() == [0, 0]


# It is attacked.


def test_signals_of_a_shutdown_do_nothing_to_it_not_even_at_its_birth(guardian, pipe):
    for started in (False, True):
        watch = guardian.watch(pipe)
        if started:
            wait_until_started(guardian)
        pid = pid_of(guardian)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, *[signal.SIGPIPE] * started):
            os.kill(pid, number)
        wait_until_started(guardian)
        assert pid_of(guardian) == pid
        watch.release()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def kill(guardian):
    pid = pid_of(guardian)
    os.kill(pid, signal.SIGKILL)
    pidfd = os.pidfd_open(pid)
    assert readable(pidfd)
    os.close(pidfd)
    return pid


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("noticed_by", ["watch", "guard_group", "release"])
def test_a_killed_guardian_is_replaced_by_one_that_knows_everything(guardian, pipe, noticed_by, started, group):
    with talker() as daemon:
        watch = guardian.watch(daemon.listener)
        if started:
            wait_until_started(guardian)
        daemon.told(b"half done")
        receive(daemon.listener, watch.pending)
        killed = kill(guardian)
        if noticed_by == "watch":
            guardian.watch(pipe)
        elif noticed_by == "guard_group":
            guardian.guard_group(group.pid)
        if noticed_by != "release":
            assert pid_of(guardian) != killed
            assert killed not in children()
        watch.release()
        assert daemon.said() == b"half done\n"
        assert daemon.says(b"more")


def test_a_replacement_knows_the_groups(adopting, group):
    def life(guardian):
        guardian.guard_group(group.pid)
        kill(guardian)
        guardian.guard_group(1_000_000_000)
        guardian.forget_group(1_000_000_000)
        die()

    assert status_of(supervisor(life)) == -signal.SIGKILL
    assert status_of(group.pid) == -signal.SIGKILL
    group.returncode = 0
    assert statuses() == [0]


def test_a_killed_guardian_is_missed_by_nobody_at_the_end(guardian, pipe, group):
    watch = guardian.watch(pipe)
    guardian.guard_group(group.pid)
    kill(guardian)
    watch.release()
    kill(guardian)
    guardian.forget_group(group.pid)
    assert children() == [group.pid]


def test_a_stopped_guardian_is_replaced(guardian, pipe, monkeypatch, group):
    monkeypatch.setattr(client, "PATIENCE_S", 0.5)
    with talker() as daemon:
        watch = guardian.watch(daemon.listener)
        wait_until_started(guardian)
        stopped = pid_of(guardian)
        os.kill(stopped, signal.SIGSTOP)
        for _ in range(1000):  # more than the queue takes
            guardian.guard_group(group.pid)
        assert stopped not in children()
        watch.release()
        assert daemon.says(b"hello")


# Very many.


def test_a_thousand_watches_in_a_row(guardian):
    with talker() as daemon:
        watches = [guardian.watch(daemon.listener) for _ in range(1000)]
        assert len({watch.slot for watch in watches}) == 1000
        daemon.told(b"half done")
        receive(daemon.listener, watches[700].pending)
        kill(guardian)
        guardian.watch(daemon.listener)
        guardian.close()
        assert daemon.said() == b"half done\n"
        assert all(daemon.says(b"%d" % i) for i in range(100))


def test_a_thousand_watches_with_few_fds_and_no_privileges(adopting):
    """As an ordinary user no more fds may be on their way than one may have open (ETOOMANYREFS)."""

    def life(guardian):
        assert LIBC.syscall(SYS_CAPSET, struct.pack("=Ii", 0x20080522, 0), bytes(24)) == 0
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))
        _, listener = filtered(["sh", "-c", "echo hello"], stdout=writer)
        watches = [guardian.watch(listener) for _ in range(1000)]
        receive(listener, watches[700].pending)
        die()

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    reader, writer = os.pipe()
    assert status_of(supervisor(life)) == -signal.SIGKILL
    os.close(writer)
    assert readable(reader)
    assert os.read(reader, 10) == b"hello\n"
    os.close(reader)
    assert statuses() == [0, 0]
