"""Owns the two ways in which a program itself says that it is ready: sd_notify(3), and the notification fd of s6-supervise(8).

For sd_notify there is a datagram socket for each attempt, in the abstract namespace: its name goes
with the socket, it needs no folder that the user of the job could enter, and it is seen in other
mount namespaces (not in other network namespaces). Its name is no secret: whoever finds it can
send. So the kernel says who each message is from, and only the processes of the job are heard.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from errno import ENOTSUP
from typing import NamedTuple

from ..core.platforms import has
from ..errors import SpawnError

MESSAGE_BYTES = 4096
"""What is longer is not heard; systemd's limit too."""

AT_ONCE = 64
"""So many messages are heard before others have their turn: no job starves the loop."""

TOLD = 10
"""Of so many processes that are not heard it is said; anybody could go on for ever."""

_UCRED = struct.Struct("iII")
"""pid, uid, gid: unix(7), SCM_CREDENTIALS."""

_PID_DIGITS = 10


class Notice(NamedTuple):
    """What one message says, as far as we know its words."""

    ready: bool = False
    stopping: bool = False
    alive: bool = False
    """WATCHDOG=1"""
    stuck: bool = False
    """WATCHDOG=trigger: the program itself has seen that it should be ended."""
    status: str | None = None
    main_pid: int | None = None


def read_notice(message: bytes) -> Notice:
    """Lines of NAME=VALUE; what is not known, or not right, is passed over. Of lines with the same name the last counts."""
    lines = message.split(b"\n")
    said = {name: value for name, is_there, value in (line.partition(b"=") for line in lines) if is_there}
    pid, status = said.get(b"MAINPID", b""), said.get(b"STATUS")
    return Notice(
        ready=b"READY=1" in lines,
        stopping=b"STOPPING=1" in lines,
        alive=b"WATCHDOG=1" in lines,
        stuck=b"WATCHDOG=trigger" in lines,
        status=None if status is None else status.decode("utf-8", "backslashreplace"),
        main_pid=int(pid) if pid.isdigit() and len(pid) <= _PID_DIGITS and int(pid) else None,
    )


BARRIER = b"BARRIER=1"


class NotifySocket:
    """The socket of one attempt; ``hear`` is called with each message of the job, ``tell`` with words about what was not heard.

    Raises SpawnError where there is no such socket.
    """

    def __init__(self, hear: Callable[[Notice], None], tell: Callable[[str], None]) -> None:
        if not has("credentials"):
            raise SpawnError(ENOTSUP, "sd_notify: this system does not say who a message is from; use a probe or notification_fd")
        self.job_pid = 0
        """The leader of the job's session; nobody is heard before it is known."""
        self._hear = hear
        self._tell = tell
        self._refused: set[int] = set()
        try:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            raise SpawnError(error.errno, f"sd_notify: {error.strerror}") from error
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self._socket.bind("")  # the kernel chooses a name that is free
        except OSError as error:
            self._socket.close()
            raise SpawnError(error.errno, f"sd_notify: {error.strerror}") from error

    @property
    def fd(self) -> int:
        """To poll for reading."""
        return self._socket.fileno()

    @property
    def address(self) -> str:
        """For NOTIFY_SOCKET: @ stands for the NUL of an abstract name."""
        name: bytes = self._socket.getsockname()
        return "@" + name[1:].decode()

    def receive(self) -> None:
        """Hear what is there. Never blocks.

        The control buffer has room for the credentials and no byte more: descriptors that are sent
        are never ours, the kernel closes them when it drops the message. That is also what a barrier
        (BARRIER=1, sd_notify_barrier(3)) waits for: all that was sent before it has been heard by then.
        """
        for _ in range(AT_ONCE):
            if self.fd < 0:  # closed by who heard the last one
                return
            try:
                message, control, flags, _ = self._socket.recvmsg(MESSAGE_BYTES, socket.CMSG_SPACE(_UCRED.size))
            except BlockingIOError:
                return
            if message.strip() == BARRIER:  # who sent it goes on now, and may have ended before we could look
                continue
            sender = next((_UCRED.unpack(data)[0] for _, kind, data in control if kind == socket.SCM_CREDENTIALS), 0)
            if not is_of_job(sender, self.job_pid):
                self._refuse(sender, "which is no process of this job, or has ended already (sd_notify_barrier(3) prevents that)")
            elif flags & socket.MSG_TRUNC:
                self._refuse(sender, f"which is longer than {MESSAGE_BYTES} bytes")
            else:
                self._hear(read_notice(message))

    def _refuse(self, pid: int, why: str) -> None:
        if pid not in self._refused and len(self._refused) < TOLD:
            self._refused.add(pid)
            self._tell(f"sd_notify: did not take a message of process {pid}, {why}")

    def close(self) -> None:
        """May be called twice."""
        self._socket.close()


class NotificationPipe:
    """The pipe of one attempt; ``on_ready`` is called at the first newline. Raises SpawnError.

    It is read to its end even so, as a program that says more must not be ended by SIGPIPE.
    """

    def __init__(self, on_ready: Callable[[], None]) -> None:
        self._on_ready: Callable[[], None] | None = on_ready
        self.fd: int
        self.child_fd: int
        try:
            self.fd, self.child_fd = os.pipe()
        except OSError as error:
            raise SpawnError(error.errno, f"notification_fd: {error.strerror}") from error
        os.set_blocking(self.fd, False)

    def receive(self) -> bool:
        """Read what is there; False when it has come to its end. Never blocks."""
        try:
            data = os.read(self.fd, MESSAGE_BYTES)
        except BlockingIOError:
            return True
        if b"\n" in data and self._on_ready is not None:
            on_ready, self._on_ready = self._on_ready, None
            on_ready()
        return data != b""

    def close_child_fd(self) -> None:
        """The child has its own now. May be called twice."""
        if self.child_fd >= 0:
            os.close(self.child_fd)
            self.child_fd = -1

    def close(self) -> None:
        """May be called twice."""
        self.close_child_fd()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def is_of_job(pid: int, job_pid: int) -> bool:
    """Whether a process is in the session that the job leads, or descends from it, by living parents. 0 is nobody."""
    if pid <= 0 or job_pid <= 0:
        return False
    with suppress(OSError):  # it has ended, and was reaped
        if job_pid in (pid, os.getsid(pid)):
            return True
    while pid > 1 and pid != job_pid:
        pid = _parent(pid)
    return pid == job_pid


def _parent(pid: int) -> int:
    """0 if nobody knows. proc_pid_stat(5)"""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0
