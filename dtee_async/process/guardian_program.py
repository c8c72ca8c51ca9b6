"""Owns the guardian: it answers for commands whose supervisor no longer does, and ends the groups of a supervisor that was killed.

A filtered process asks the holder of its listener before each write to fd 1 or 2, as long as it
lives. Without a holder the write fails with ENOSYS, and one that was asked about and not answered
waits for ever. So this process has a copy of every listener of a supervisor. It only watches it,
until the supervisor releases it or is gone; from then on it says yes to every write, until no
filtered process is left. It is small, has one thread, and runs on its own:

    python -I -S guardian_program.py CONTROL_FD SLOTS_FD SUPERVISOR_PIDFD

CONTROL_FD is a SOCK_SEQPACKET socket; it is at its end when the supervisor lets us go, and when
it is gone. The latter is told by its pidfd as well: what it once forked may have a copy of its end
of the socket, and outlive it. A message is ``kind number pending``:

    W slot             watch the listener that is attached
    R slot pending     serve that listener from now on; first answer this notification, if it is not 0
    G pgid             end this group if the supervisor is gone before it says F
    F pgid             forget it

SLOTS_FD is memory that the supervisor has its notifications received into by the kernel, one slot
a listener. So there is no moment in which one is received and nobody who survives knows its id.

Who starts us blocks SIGINT, SIGTERM and SIGHUP, so that not even our first milliseconds are in danger.
"""

from __future__ import annotations

import fcntl
import os
import resource
import select
import struct
import sys
from _socket import CMSG_SPACE, MSG_DONTWAIT, SCM_RIGHTS, socket  # without the enums of `socket` we are there in half the time
from errno import EINTR, ENOENT

MESSAGE = struct.Struct("=c3xIQ")
WATCH, RELEASE, GUARD, FORGET = b"W", b"R", b"G", b"F"

SLOT_BYTES = 2048
"""More than 1024: up to there CPython receives into a buffer of its own, and copies it to ours a moment later."""

IDENT = struct.Struct("=Q")
"""How a struct seccomp_notif begins, and so a slot. It is 0 before a notification is received and after it was answered."""

FD = struct.Struct("=i")
ANSWER = struct.Struct("=QqiI")
CONTINUE = 1
NOTIFICATION = bytes(80)
RECEIVE = 0xC0502100
SEND = 0xC0182101
SIGKILL = 9

ROUNDS = 64
"""How many writes of one listener are answered before the others have their turn."""


class Guardian:
    """Everything that was entrusted to us, and how we serve it."""

    def __init__(self, control: socket, slots: int, supervisor: int) -> None:
        self._control = control
        self._slots = slots
        self._supervisor = supervisor
        self._watched: dict[int, int] = {}
        """The slot of each listener that the supervisor serves."""
        self._served: dict[int, select.poll] = {}
        """What tells whether this one listener has a notification."""
        self._groups: set[int] = set()
        self._alone = False
        self._poll = select.poll()
        self._poll.register(control.fileno(), select.POLLIN)
        self._poll.register(supervisor, select.POLLIN)

    def run(self) -> None:
        """Serve until the supervisor is gone and no listener is left."""
        theirs = self._control.fileno(), self._supervisor
        while self._served or not self._alone:
            for fd, events in self._poll.poll():
                if fd in theirs:
                    self._listen(gone=fd == self._supervisor)
                elif events & select.POLLHUP:
                    self._drop(fd)
                elif fd in self._served:
                    self._serve(fd)

    def _listen(self, *, gone: bool) -> None:
        """Do what we are told, by a supervisor that may be gone since; many messages may have come while we started."""
        if self._alone:
            return
        try:
            while True:
                message, attached, _, _ = self._control.recvmsg(MESSAGE.size, CMSG_SPACE(FD.size), MSG_DONTWAIT)
                if not message:
                    break
                self._obey(message, [FD.unpack_from(data)[0] for _, kind, data in attached if kind == SCM_RIGHTS])
        except BlockingIOError:
            if not gone:
                return
        self._left_alone()

    def _obey(self, message: bytes, fds: list[int]) -> None:
        kind, number, pending = MESSAGE.unpack(message)
        if kind == WATCH:
            for listener in fds:  # none, if we have too many open already
                self._watched[listener] = number
                self._poll.register(listener, 0)  # tells when no filtered process is left, and is not woken by notifications
        elif kind == RELEASE:
            for listener in [listener for listener, slot in self._watched.items() if slot == number]:
                self._take_over(listener, pending)
        elif kind == GUARD:
            self._groups.add(number)
        elif kind == FORGET:
            self._groups.discard(number)

    def _left_alone(self) -> None:
        self._alone = True
        self._poll.unregister(self._control.fileno())
        self._poll.unregister(self._supervisor)
        self._control.close()
        os.close(self._supervisor)
        let_go = not self._watched and not self._groups
        for pgid in self._groups:
            _end_group(pgid)
        for listener, slot in list(self._watched.items()):
            (pending,) = IDENT.unpack(os.pread(self._slots, IDENT.size, slot * SLOT_BYTES))
            self._take_over(listener, pending)
        if let_go and self._served:
            _part()

    def _take_over(self, listener: int, pending: int) -> None:
        del self._watched[listener]
        if pending:
            _answer(listener, pending)
        self._poll.modify(listener, select.POLLIN)
        self._served[listener] = select.poll()
        self._served[listener].register(listener, select.POLLIN)

    def _serve(self, listener: int) -> None:
        """Answer what is there; who has just been answered is likely to write again at once."""
        for _ in range(ROUNDS):
            # Receiving would wait for a notification if this one went to another copy of the listener.
            if not any(events & select.POLLIN for _, events in self._served[listener].poll(0)):
                return
            try:
                notification = fcntl.ioctl(listener, RECEIVE, NOTIFICATION)
            except OSError as error:
                if error.errno not in (ENOENT, EINTR):  # ENOENT: the writer was killed meanwhile
                    self._drop(listener)  # it is no listener
                return
            _answer(listener, IDENT.unpack_from(notification)[0])

    def _drop(self, listener: int) -> None:
        """No filtered process is left, or it never was a listener."""
        self._poll.unregister(listener)
        self._watched.pop(listener, None)
        self._served.pop(listener, None)
        os.close(listener)


def _answer(listener: int, ident: int) -> None:
    """Let the write happen."""
    try:
        fcntl.ioctl(listener, SEND, ANSWER.pack(ident, 0, 0, CONTINUE))
    except OSError:
        return  # ENOENT: the writer was killed meanwhile, or it was answered already


def _end_group(pgid: int) -> None:
    try:
        os.killpg(pgid, SIGKILL)
    except OSError:
        return  # it ended by itself


def _part() -> None:
    """Go on as a process of init's: our parent lives on, perhaps for months, and waits for us for a moment only."""
    try:
        child = os.fork()
    except OSError:
        return  # then we go on as what we are
    if child:
        os._exit(0)


def _have_many_fds() -> None:
    """As many as we may have: each of the supervisor's listeners is one here, also when its own is closed long since."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (OSError, ValueError):
        return  # fs.nr_open is lower by now


if __name__ == "__main__":
    _have_many_fds()
    Guardian(socket(fileno=int(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])).run()
    os._exit(0)
