"""Owns our side of the guardian: a process that goes on answering when we no longer do (see guardian_program).

It is there only while something is watched or recorded, and is let go then. Not for several threads.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from errno import EBADF, EMFILE, ENOSYS, ETIMEDOUT, ETOOMANYREFS

from ..core.platforms import has
from ..errors import SpawnError
from . import guardian_program as program
from .descendants import GUARDIAN, with_cookie

SLOTS = 32 * 1024
"""How many listeners can be watched at once; the memory of a slot is taken when it is first used."""

PATIENCE_S = 5.0
"""How long it may not take what it is told: it starts in milliseconds, on a busy machine in a second. After that it is stopped or stuck."""

RETRY_S = 0.005

ENDING_S = 0.5
"""How long the process may take to end when it is let go."""

BLOCKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What is sent to everybody at a shutdown, and is not meant for a process that has to outlive others."""


class Watch:
    """A listener that the guardian has a copy of."""

    def __init__(self, listener: int, slot: int, pending: memoryview, release: Callable[[Watch], None]) -> None:
        self.listener = listener
        self.slot = slot
        self.pending = pending
        """What to receive notifications into, one at a time and directly, by fcntl.ioctl(); to be zeroed when one is answered."""
        self._release: Callable[[Watch], None] | None = release

    def release(self) -> None:
        """We stop serving this listener, which is still open: the guardian does, until no filtered process is left. Can be called twice."""
        release, self._release = self._release, None
        if release is not None:
            release(self)


class Guardian:
    """One process that takes over all listeners of a supervisor, and ends the recorded groups if the supervisor is killed.

    There is none until the first ``watch()`` or ``guard_group()``. When nothing is watched or
    recorded any more it is let go, and started anew when it is needed again.
    """

    def __init__(self, *, keep: bool = False) -> None:
        """``keep``: once there, it is not let go before close(): for who runs one job after the other."""
        self._program: _Program | None = None
        self._slots: _Slots | None = None
        self._watches: dict[int, Watch] = {}
        self._groups: set[int] = set()
        self._ending: list[subprocess.Popen[bytes]] = []
        self._kept = keep

    def watch(self, listener: int) -> Watch:
        """Hand over a copy of the listener; ours stays open until ``release()``. SpawnError: there can be no guardian."""
        with self._or_spawn_error():
            slot, pending = self._have_slots().take()
            watch = Watch(listener, slot, pending, self._released)
            try:
                self._tell(program.MESSAGE.pack(program.WATCH, slot, 0), listener)
            except OSError:
                self._have_slots().give_back(slot, pending)
                raise
            self._watches[slot] = watch
            return watch

    def prepare(self) -> None:
        """Have the process, so that guard_group() takes no time. SpawnError: there can be none."""
        with self._or_spawn_error():
            if self._program is None:
                self._program = _Program(self._have_slots().fd)

    def guard_group(self, pgid: int) -> None:
        """Have this group ended if we are killed before we forget it. SpawnError: there can be no guardian."""
        assert pgid > 1, "to the kernel 0 is the guardian's own group, and 1 is everybody"
        with self._or_spawn_error():
            self._tell(program.MESSAGE.pack(program.GUARD, pgid, 0))
            self._groups.add(pgid)

    def guard_helper(self, pgid: int) -> None:
        """guard_group() for what runs beside a job: it runs unguarded where there can be no guardian, of which the job was told."""
        with contextlib.suppress(SpawnError):
            self.guard_group(pgid)

    def forget_group(self, pgid: int) -> None:
        """To be said before the last of the group is reaped: after that the number may be another group's."""
        if pgid not in self._groups:
            return
        self._groups.remove(pgid)
        # Without a process nobody remembers the group.
        with contextlib.suppress(OSError):
            self._tell(program.MESSAGE.pack(program.FORGET, pgid, 0))
        self.let_go_if_idle()

    def close(self) -> None:
        """Release and forget everything. Can be called twice."""
        self._kept = False
        for watch in list(self._watches.values()):
            watch.release()
        for pgid in list(self._groups):
            self.forget_group(pgid)
        self.let_go_if_idle()
        self._reap()
        for process in self._ending:
            process.returncode = 0  # it is stuck, or the machine is: init's to reap
        self._ending.clear()

    def _released(self, watch: Watch) -> None:
        (pending,) = program.IDENT.unpack_from(watch.pending)
        finished = _hung_up(watch.listener)
        # Without a process who writes from now on is told ENOSYS: there is nothing more that could be done about it.
        with contextlib.suppress(OSError):
            self._tell(program.MESSAGE.pack(program.RELEASE, watch.slot, pending))
        if self._program is not None and not finished:
            self._program.serving = True
        del self._watches[watch.slot]
        # The slot can be used again at once: the guardian has what was in it by the message, and looks into no slot that was released.
        self._have_slots().give_back(watch.slot, watch.pending)
        self.let_go_if_idle()

    def _have_slots(self) -> _Slots:
        if self._slots is None:
            self._slots = _Slots()
        return self._slots

    def _tell(self, message: bytes, *listeners: int) -> None:
        """Send a message, to a new process if there is none that takes it. OSError: it is not sent."""
        if self._program is not None:
            try:
                self._program.send(message, *listeners)
            except OSError as error:
                if error.errno == EBADF:  # that is not the process's fault
                    raise
                self._end_program(kill=True)  # somebody killed it already, or stopped it
            else:
                return
        self._program = _Program(self._have_slots().fd)
        try:
            self._tell_everything(self._program)
            self._program.send(message, *listeners)
        except OSError:
            self._end_program(kill=True)  # one that knows only a part would end groups that we forget
            raise

    def _tell_everything(self, started: _Program) -> None:
        for watch in self._watches.values():
            started.send(program.MESSAGE.pack(program.WATCH, watch.slot, 0), watch.listener)
        for pgid in self._groups:
            started.send(program.MESSAGE.pack(program.GUARD, pgid, 0))

    def let_go_if_idle(self) -> None:
        """Have no process while nothing is watched or recorded."""
        if self._watches or self._groups or self._kept:
            return
        if self._program is not None:
            self._end_program(kill=not self._program.serving)  # with nothing to serve, it need not even start up first
        if self._slots is not None:
            self._slots.close()
            self._slots = None

    def _end_program(self, *, kill: bool) -> None:
        assert self._program is not None
        process = self._program.end(kill=kill)
        self._program = None
        try:
            process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self._ending.append(process)
        self._reap()

    def _reap(self) -> None:
        """Of what did not end in time, take what has ended now."""
        self._ending = [process for process in self._ending if process.poll() is None]

    @contextlib.contextmanager
    def _or_spawn_error(self) -> Iterator[None]:
        if not (has("pidfd") and hasattr(os, "memfd_create")):
            raise SpawnError(ENOSYS, "the guardian process: it takes pidfds and memfds, which this system does not have")
        try:
            yield
        except OSError as error:
            self.let_go_if_idle()
            raise SpawnError(error.errno, f"the guardian process: {error.strerror}", error.filename) from error


class _Program:
    """One running guardian, and the socket to it, which is its proof that we live."""

    def __init__(self, slots: int) -> None:
        self.serving = False
        """Whether it may serve a process that was left behind."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        try:
            self._process = self._popen(theirs, slots)
        except BaseException:
            self._control.close()
            raise

    def _popen(self, theirs: socket.socket, slots: int) -> subprocess.Popen[bytes]:
        with _inheritance(theirs.detach()) as control, _inheritance(os.pidfd_open(os.getpid())) as supervisor, _blocked():
            fds = [control, slots, supervisor]
            return subprocess.Popen(  # noqa: S603 - this interpreter, our own file
                [sys.executable, "-I", "-S", program.__file__, *map(str, fds)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=fds,
                cwd="/",
                env=with_cookie(None, GUARDIAN),
                start_new_session=True,
            )

    def send(self, message: bytes, *listeners: int) -> None:
        """Send a message. It waits in the queue while the process starts; for room in the queue we wait, not longer than PATIENCE_S."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.send_fds(self._control, [message], listeners)
            except BlockingIOError:
                self._wait_for_room(deadline)
            except OSError as error:
                if error.errno != ETOOMANYREFS:
                    raise
                time.sleep(RETRY_S)  # more fds on their way than RLIMIT_NOFILE; nothing tells when they have arrived
            else:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(ETIMEDOUT, "it does not take what it is told")

    def _wait_for_room(self, deadline: float) -> None:
        room = select.poll()
        room.register(self._control, select.POLLOUT)
        room.poll(max(0.0, deadline - time.monotonic()) * 1000)

    def end(self, *, kill: bool) -> subprocess.Popen[bytes]:
        """Let it go. It ends within milliseconds: what is left to serve it serves as a child of init's."""
        if kill:
            self._process.kill()
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)  # should anybody have forked us, then he has a copy
        self._control.close()
        return self._process


class _Slots:
    """The memory that we share with the guardian, one slot a listener."""

    def __init__(self) -> None:
        self.fd = _above_streams(os.memfd_create("dtee-async guardian", os.MFD_CLOEXEC))
        try:
            os.truncate(self.fd, SLOTS * program.SLOT_BYTES)
            self._memory = mmap.mmap(self.fd, SLOTS * program.SLOT_BYTES)
        except BaseException:
            os.close(self.fd)
            raise
        self._view = memoryview(self._memory)
        self._free: list[int] = []
        self._used = 0

    def take(self) -> tuple[int, memoryview]:
        """A slot full of zeros; rather one that was used before: its memory is there."""
        if self._free:
            slot = self._free.pop()
        elif self._used < SLOTS:
            slot = self._used
            self._used += 1
        else:
            raise OSError(EMFILE, f"more than {SLOTS} listeners cannot be watched")
        pending = self._view[slot * program.SLOT_BYTES : (slot + 1) * program.SLOT_BYTES]
        pending[:] = bytes(program.SLOT_BYTES)
        return slot, pending

    def give_back(self, slot: int, pending: memoryview) -> None:
        with contextlib.suppress(BufferError):  # somebody has it in use still
            pending.release()
        self._free.append(slot)

    def close(self) -> None:
        self._view.release()
        with contextlib.suppress(BufferError):  # the same: then it goes with the last use
            self._memory.close()
        os.close(self.fd)


def _above_streams(fd: int) -> int:
    """The same with another number: the three lowest are the standard streams of who inherits it, even if ours are closed."""
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _inheritance(fd: int) -> Iterator[int]:
    """For an fd that only the child is to have."""
    fd = _above_streams(fd)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _hung_up(listener: int) -> bool:
    """Whether no filtered process is left."""
    poll = select.poll()
    poll.register(listener, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
