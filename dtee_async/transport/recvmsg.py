"""Owns the receive buffer for every system: recvmsg(2), one datagram a call, through the socket module."""

from __future__ import annotations

import os
import socket
import struct
import sys
import time

from ..core.platforms import has
from ..errors import CaptureError
from .buffer import SLOT_BYTES, Buffer, cut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..core.batch import Stamps

_FAMILY_BYTES = 2
_TIME = struct.Struct("@ll")
_CREDENTIALS = struct.Struct("@iII")  # pid, uid, gid
_SCM_TIMESTAMPNS = getattr(socket, "SO_TIMESTAMPNS", 35)
_SCM_CREDENTIALS = getattr(socket, "SCM_CREDENTIALS", 2)


class PlainBuffer(Buffer):
    """A buffer that is filled call by call. Where the system does not tell times and pids, times are ours, at the receive, and pids 0."""

    def __init__(self, slot_bytes: int = SLOT_BYTES) -> None:
        super().__init__(slot_bytes)
        # Exactly what the system tells: a child could hand us fds by SCM_RIGHTS if there were more room.
        told = [_TIME.size] * has("timestamps") + [_CREDENTIALS.size] * has("credentials")
        self._room = sum(map(socket.CMSG_SPACE, told))
        self._name_bytes = 0
        self._clear()

    def _clear(self) -> None:
        self._lengths: list[int] = []
        self._names: list[bytes] = []
        self._times_ns: list[int] = []
        self._pids: list[int] = []
        self._trouble: CaptureError | None = None

    def receive(self, fd: int, limit: int, name_bytes: int, *, stamped: bool) -> int:
        self._name_bytes = name_bytes
        self._clear()
        room = self._room if stamped else 0
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM, 0, fd)
        receiver.setblocking(False)  # the host may have set a default timeout
        try:
            for slot in self._views[:limit]:
                length, control, flags, name = receiver.recvmsg_into([slot], room)
                self._lengths.append(length)
                self._names.append(_path(name))
                if flags & socket.MSG_TRUNC:
                    self._trouble = cut()
                if stamped:
                    self._stamp(control)
        except BlockingIOError:
            pass
        except OSError as error:
            if not self._lengths:
                raise
            self._trouble = CaptureError(error.errno, f"input socket: {error.strerror}")
        finally:
            receiver.detach()
        return len(self._lengths)

    def _stamp(self, control: list[tuple[int, int, bytes]]) -> None:
        time_ns, pid = 0, 0
        for _, kind, data in control:
            if kind == _SCM_TIMESTAMPNS:
                seconds, nanoseconds = _TIME.unpack(data)
                time_ns = seconds * 1_000_000_000 + nanoseconds
            elif kind == _SCM_CREDENTIALS:
                pid = _CREDENTIALS.unpack(data)[0]
        self._times_ns.append(time_ns or time.time_ns())
        self._pids.append(pid)

    def take(self, count: int) -> tuple[list[bytes | memoryview], list[int]]:
        return [slot[:length] for slot, length in zip(self._views, self._lengths, strict=False)], self._lengths

    def senders(self, count: int, letter: int, tail: int) -> tuple[bytes, bool]:
        at = letter - _FAMILY_BYTES
        ours = {(self._name_bytes - _FAMILY_BYTES, tail)}
        found = {(len(name), int.from_bytes(name[at - 8 : at], sys.byteorder)) for name in self._names}
        letters = bytes(name[at] if at < len(name) else 0 for name in self._names)
        return letters, found == ours and self._trouble is None

    def name(self, index: int) -> bytes:
        return self._names[index]

    def stamps(self, count: int) -> Stamps:
        return self._times_ns, self._pids

    def trouble(self, count: int) -> CaptureError | None:
        return self._trouble


def _path(name: object) -> bytes:
    """An address as the socket module gives it, with the NUL at its end: a str is a path, bytes are an abstract name, None is none."""
    return os.fsencode(name) + b"\0" if isinstance(name, str | bytes) else b""
