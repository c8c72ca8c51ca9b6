"""Owns the receive buffer: recvmmsg(2) through ctypes, up to 64 datagrams a call, with no object made per datagram by the call.

One buffer serves every job of one loop, because each batch is used up before the next is received.
Two threads must not share one. The slots lie in one anonymous mapping without reserved swap, so
that only the pages that were really written to cost memory.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from ctypes import c_int, c_size_t, c_uint32, c_void_p
from errno import EAGAIN, EINTR, ENOMEM
from operator import getitem

SLOTS = 64
"""Datagrams a call, at most."""

LARGEST_BYTES = 4_263_616
"""No datagram is larger, whatever the buffer sizes: above, send(2) gives ENOBUFS."""

SLOT_BYTES = LARGEST_BYTES + 4416  # whole pages

STRIDE_BYTES = SLOT_BYTES + 3 * 64
"""From slot to slot: page-aligned slots would all compete for the same few cache lines."""

NAME_BYTES = 128
CONTROL_BYTES = 64
"""Exactly SCM_TIMESTAMPNS (32) and SCM_CREDENTIALS (32): no room for a child to hand us fds by SCM_RIGHTS."""

_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)
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

    def __init__(self, slots: int, data: int, names: int, control: int | None) -> None:
        self.vector = (_MMsgHdr * slots)()
        self._iov = (_IoVec * slots)()
        for i in range(slots):
            self._iov[i].base = data + i * STRIDE_BYTES
            self._iov[i].len = SLOT_BYTES
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


class ReceiveBuffer:
    """Room for one batch of datagrams, their senders' addresses and their control data."""

    def __init__(self) -> None:
        self.slots, self._map = _map_slots()
        self._names = ctypes.create_string_buffer(NAME_BYTES * self.slots)
        self._control = ctypes.create_string_buffer(CONTROL_BYTES * self.slots)
        data = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        names, control = ctypes.addressof(self._names), ctypes.addressof(self._control)
        self._plain = _Headers(self.slots, data, names, None)
        self._stamped = _Headers(self.slots, data, names, control)
        self._current = self._plain
        self._name_bytes = 0
        self._names_view = memoryview(self._names).cast("B")
        self._name_words = self._names_view.cast("Q")
        self.control = memoryview(self._control).cast("B")
        whole = memoryview(self._map)
        self._views = [whole[i * STRIDE_BYTES : i * STRIDE_BYTES + SLOT_BYTES] for i in range(self.slots)]
        libc = ctypes.CDLL(None, use_errno=True)
        self._recvmmsg = libc.recvmmsg  # called with ready-made C values: argtypes would convert each, each time

    def receive(self, fd: int, limit: int, name_bytes: int, *, stamped: bool) -> int:
        """Receive up to ``limit`` datagrams without waiting; how many came (0: none is there).

        ``name_bytes`` is the length of the senders' addresses: one for all senders of a socket.
        Raises OSError for anything but EAGAIN and EINTR.
        """
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
        """The views of the datagrams just received and their lengths in bytes."""
        lengths = self._current.lengths[count].tolist()
        views: list[bytes | memoryview] = list(map(getitem, self._views, map(slice, lengths)))  # type: ignore[arg-type]  # one overload
        return views, lengths

    def senders(self, count: int, letter: int, tail: int) -> tuple[bytes, bool]:
        """The byte at offset ``letter`` of each sender's address, and whether all of them are addresses of the agreed kind.

        They are when all have the agreed length and the eight bytes before the letter are ``tail``.
        The length is looked at because a sender without an address leaves in its slot what an
        earlier one wrote there.
        """
        end = count * NAME_BYTES
        tails = self._name_words[letter // 8 - 1 : end // 8 : NAME_BYTES // 8].tolist()
        lengths = self._current.name_lengths[count].tolist()
        known = tails.count(tail) == count == lengths.count(self._name_bytes)
        return bytes(self._names_view[letter:end:NAME_BYTES]), known

    def name(self, index: int) -> bytes:
        """The address of one sender: the path, as far as it goes."""
        length = self._current.name_lengths[index + 1].tolist()[index]
        return bytes(self._names_view[index * NAME_BYTES + 2 : index * NAME_BYTES + max(length, 2)])

    def reset(self) -> None:
        """Give every header its full room again; needed after a datagram that was not from one of our senders."""
        self._plain.reset()
        self._stamped.reset()

    def trim(self) -> None:
        """Give the memory of the slots back to the system."""
        self._map.madvise(mmap.MADV_DONTNEED)


def _map_slots() -> tuple[int, mmap.mmap]:
    """As many slots as the address space allows (``ulimit -v``), at least one."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    for slots in (SLOTS, 16, 4):
        try:
            return slots, mmap.mmap(-1, slots * STRIDE_BYTES, flags=flags)
        except OSError as error:
            if error.errno != ENOMEM:
                raise
    return 1, mmap.mmap(-1, STRIDE_BYTES, flags=flags)
