"""Owns the receive buffer for Linux: recvmmsg(2) through ctypes, up to 64 datagrams a call, which makes no object for any of them."""

from __future__ import annotations

import ctypes
import os
import struct
from ctypes import c_int, c_size_t, c_uint32, c_void_p
from errno import EAGAIN, EINTR
from operator import getitem

from ..errors import CaptureError
from .buffer import SLOT_BYTES, STAGGER_BYTES, Buffer, cut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..core.batch import Stamps

NAME_BYTES = 128
CONTROL_BYTES = 64
"""Exactly SCM_TIMESTAMPNS (32) and SCM_CREDENTIALS (32): no room for a child to hand us fds by SCM_RIGHTS."""

_STAMP = struct.Struct("@16xqq16xiii4x")  # cmsghdr, timespec, cmsghdr, ucred, padding: 64 bytes
_MSG_TRUNC = 0x20
_MSG_DONTWAIT = 0x40


class _IoVec(ctypes.Structure):
    _fields_ = [("base", c_void_p), ("len", c_size_t)]


class _MsgHdr(ctypes.Structure):
    _fields_ = [
        ("name", c_void_p),
        ("namelen", c_uint32),
        ("iov", c_void_p),
        ("iovlen", c_size_t),
        ("control", c_void_p),
        ("controllen", c_size_t),
        ("flags", c_int),
    ]


class _MMsgHdr(ctypes.Structure):
    _fields_ = [("hdr", _MsgHdr), ("len", c_uint32)]


class _Headers:
    """One mmsghdr vector over the slots, with or without room for control data."""

    def __init__(self, slots: int, slot_bytes: int, data: int, names: int, control: int | None) -> None:
        self.vector = (_MMsgHdr * slots)()
        self._iov = (_IoVec * slots)()
        for i in range(slots):
            self._iov[i].base = data + i * (slot_bytes + STAGGER_BYTES)
            self._iov[i].len = slot_bytes
            header = self.vector[i].hdr
            header.iov = ctypes.addressof(self._iov[i])
            header.iovlen = 1
            header.name = names + i * NAME_BYTES
            header.namelen = NAME_BYTES
            if control is not None:
                header.control = control + i * CONTROL_BYTES
                header.controllen = CONTROL_BYTES
        self.address = c_void_p(ctypes.addressof(self.vector))
        words = memoryview(self.vector).cast("B").cast("I")
        stride = ctypes.sizeof(_MMsgHdr) // 4
        length, namelen = _MMsgHdr.len.offset // 4, _MsgHdr.namelen.offset // 4
        # One view for each possible count, made once: slicing is a good part of what a small batch costs.
        self.lengths = [words[length : k * stride : stride] for k in range(slots + 1)]
        self.name_lengths = [words[namelen : k * stride : stride] for k in range(slots + 1)]

    def reset(self) -> None:
        """The kernel writes sizes back into the headers; for our own senders they are always the same."""
        for message in self.vector:
            message.hdr.namelen = NAME_BYTES
            if message.hdr.control:
                message.hdr.controllen = CONTROL_BYTES


class ReceiveBuffer(Buffer):
    """A buffer that one call fills."""

    def __init__(self, slot_bytes: int = SLOT_BYTES) -> None:
        super().__init__(slot_bytes)
        self._names = ctypes.create_string_buffer(NAME_BYTES * self.slots)
        self._control = ctypes.create_string_buffer(CONTROL_BYTES * self.slots)
        data = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        names, control = ctypes.addressof(self._names), ctypes.addressof(self._control)
        self._plain = _Headers(self.slots, slot_bytes, data, names, None)
        self._stamped = _Headers(self.slots, slot_bytes, data, names, control)
        self._current = self._plain
        self._name_bytes = 0
        self._names_view = memoryview(self._names).cast("B")
        self._name_words = self._names_view.cast("Q")
        self._control_view = memoryview(self._control).cast("B")
        libc = ctypes.CDLL(None, use_errno=True)
        self._recvmmsg = libc.recvmmsg  # called with ready-made C values: argtypes would convert each, each time

    def receive(self, fd: int, limit: int, name_bytes: int, *, stamped: bool) -> int:
        headers = self._current = self._stamped if stamped else self._plain
        if name_bytes != self._name_bytes:
            self._name_bytes = name_bytes
            self.reset()
        received: int = self._recvmmsg(fd, headers.address, limit, _MSG_DONTWAIT, None)
        if received >= 0:
            return received
        error = ctypes.get_errno()
        if error in (EAGAIN, EINTR):
            return 0
        raise OSError(error, os.strerror(error))

    def take(self, count: int) -> tuple[list[bytes | memoryview], list[int]]:
        lengths = self._current.lengths[count].tolist()
        views: list[bytes | memoryview] = list(map(getitem, self._views, map(slice, lengths)))  # type: ignore[arg-type]  # one overload
        return views, lengths

    def senders(self, count: int, letter: int, tail: int) -> tuple[bytes, bool]:
        # The length is looked at because a sender without an address leaves in its slot what an earlier one wrote there.
        end = count * NAME_BYTES
        tails = self._name_words[letter // 8 - 1 : end // 8 : NAME_BYTES // 8].tolist()
        lengths = self._current.name_lengths[count].tolist()
        known = tails.count(tail) == count == lengths.count(self._name_bytes)
        return bytes(self._names_view[letter:end:NAME_BYTES]), known

    def name(self, index: int) -> bytes:
        length = self._current.name_lengths[index + 1].tolist()[index]
        return bytes(self._names_view[index * NAME_BYTES + 2 : index * NAME_BYTES + max(length, 2)])

    def stamps(self, count: int) -> Stamps:
        seconds, nanoseconds, pids, _, _ = zip(*_STAMP.iter_unpack(self._control_view[: count * CONTROL_BYTES]), strict=True)
        return tuple(s * 1_000_000_000 + ns for s, ns in zip(seconds, nanoseconds, strict=True)), pids

    def trouble(self, count: int) -> CaptureError | None:
        return cut() if any(message.hdr.flags & _MSG_TRUNC for message in self._current.vector[:count]) else None

    def reset(self) -> None:
        """Give every header its full room again."""
        self._plain.reset()
        self._stamped.reset()
