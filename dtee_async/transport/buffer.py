"""Owns the memory that a loop receives into: slots for one batch of datagrams; and the choice of the call that fills them here.

One buffer serves every job of one loop, because each batch is used up before the next is received.
Two threads must not share one. The slots lie in one anonymous mapping without reserved swap, so
that only the pages that were really written to cost memory.
"""

from __future__ import annotations

import mmap
from errno import EMSGSIZE, ENOMEM

from ..core.platforms import HERE, LINUX, has
from ..errors import CaptureError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..core.batch import Stamps

SLOTS = 64
"""Datagrams a call, at most."""

LARGEST_BYTES = 4_263_616
"""No datagram is larger, whatever the buffer sizes: above, send(2) gives ENOBUFS."""

SLOT_BYTES = LARGEST_BYTES + 4416  # whole pages

STAGGER_BYTES = 3 * 64
"""More than a slot from one to the next: page-aligned slots would all compete for the same few cache lines."""

_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if HERE is LINUX else 0)  # mmap has it by name since Python 3.12


class Buffer:
    """Room for one batch of datagrams, with what was said of each by the receive call."""

    def __init__(self, slot_bytes: int = SLOT_BYTES) -> None:
        self.slot_bytes = slot_bytes
        self.slots: int
        self.slots, self._map = _map_slots(slot_bytes + STAGGER_BYTES)
        self.memory: memoryview = memoryview(self._map)
        """All of it, for who reads from pipes: each receive is used up before the next, whatever it is from."""
        begins = range(0, len(self.memory), slot_bytes + STAGGER_BYTES)
        self._views = [self.memory[begin : begin + slot_bytes] for begin in begins]

    def receive(self, fd: int, limit: int, name_bytes: int, *, stamped: bool) -> int:
        """Receive up to ``limit`` datagrams without waiting; how many came (0: none is there).

        ``name_bytes`` is the length of the senders' addresses: one for all senders of a socket.
        Raises OSError for anything but EAGAIN and EINTR.
        """
        raise NotImplementedError

    def take(self, count: int) -> tuple[list[bytes | memoryview], list[int]]:
        """The views of the datagrams just received and their lengths in bytes."""
        raise NotImplementedError

    def senders(self, count: int, letter: int, tail: int) -> tuple[bytes, bool]:
        """The byte at offset ``letter`` of each sender's address, and whether nothing about the batch is unusual.

        That is so when each address has the agreed length, and the eight bytes before the letter are ``tail``.
        """
        raise NotImplementedError

    def name(self, index: int) -> bytes:
        """The address of one sender: the path, as far as it goes, with its closing NUL."""
        raise NotImplementedError

    def stamps(self, count: int) -> Stamps:
        """The time in ns and the writer's pid of each datagram just received."""
        raise NotImplementedError

    def trouble(self, count: int) -> CaptureError | None:
        """What else is to be said of the datagrams just received: that one was cut, or that an error ended the batch early."""
        raise NotImplementedError

    def reset(self) -> None:
        """To be called after a datagram that was not from one of our senders."""

    def trim(self) -> None:
        """Give the memory of the slots back to the system."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def receive_buffer() -> Buffer:
    """The buffer of a loop, with the best receive call that there is here."""
    # Without times and writers the control data of recvmmsg(2) would have room for fds that a child hands us.
    if has("recvmmsg") and has("timestamps") and has("credentials"):
        from .recvmmsg import ReceiveBuffer

        return ReceiveBuffer()
    from .recvmsg import PlainBuffer

    return PlainBuffer()


def cut() -> CaptureError:
    """What is to be said when a datagram was larger than its slot: a part of it is gone."""
    return CaptureError(EMSGSIZE, "input socket: a write was cut: it was larger than can be received")


def _map_slots(stride_bytes: int) -> tuple[int, mmap.mmap]:
    """As many slots as the address space allows (``ulimit -v``), at least one."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    for slots in (SLOTS, 16, 4):
        try:
            return slots, mmap.mmap(-1, slots * stride_bytes, flags=flags)
        except OSError as error:
            if error.errno != ENOMEM:
                raise
    return 1, mmap.mmap(-1, stride_bytes, flags=flags)
