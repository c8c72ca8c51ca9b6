"""Owns writing buffers to an fd: blocking to the end, or non-blocking as far as it goes."""

from __future__ import annotations

import contextlib
import os
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Sequence
from errno import EMSGSIZE
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..core.batch import Chunk

IOV_MAX = 1024
"""Buffers a writev(2) takes."""

PIECE_BYTES = 64 * 1024
"""A datagram that our receiver refuses as too large goes in pieces of this size: its borders are lost, its bytes are not."""


def write_all(fd: int, chunks: list[Chunk], size_bytes: int) -> None:
    """Write the buffers (at most IOV_MAX) to the end, blocking; raises OSError, with the rest unwritten."""
    # A vector of one is no vector: it costs twice as much in the interpreter.
    written = os.write(fd, chunks[0]) if len(chunks) == 1 else os.writev(fd, chunks)
    if written != size_bytes:
        _write_rest(fd, chunks, written)


def _write_rest(fd: int, chunks: list[Chunk], written: int) -> None:
    """After a signal, a full disk, a limit: the next call goes on, or tells."""
    for chunk in chunks:
        if written >= len(chunk):
            written -= len(chunk)
            continue
        rest = memoryview(chunk)[written:]
        written = 0
        while rest:
            rest = rest[os.write(fd, rest) :]


def send_each(fd: int, views: Iterable[Chunk]) -> None:
    """One datagram for each buffer, blocking: joined in one writev(2) they would be one datagram, and too large."""
    for view in views:
        try:
            os.write(fd, view)
        except OSError as error:
            if error.errno != EMSGSIZE:
                raise
            whole = memoryview(view)
            for begin in range(0, len(whole), PIECE_BYTES):
                os.write(fd, whole[begin : begin + PIECE_BYTES])


class _Holder(ABC):
    """Holds what an fd does not take now, in order; each entry for one of the owner's fds."""

    def __init__(self) -> None:
        self._held: deque[tuple[int, memoryview]] = deque()
        self.held_bytes: int = 0

    @abstractmethod
    def _send(self, index: int, view: memoryview) -> int:
        """Bytes that went; raises BlockingIOError when none did."""

    def _hold(self, index: int, data: Chunk) -> None:
        self._held.append((index, memoryview(data)))
        self.held_bytes += len(data)

    def flush(self) -> bool:
        """Write what is held, as far as it goes. True when nothing is held any more; raises OSError and drops it."""
        held = self._held
        try:
            while held:
                index, view = held[0]
                count = self._send(index, view)
                self.held_bytes -= count
                if count == len(view):
                    held.popleft()
                else:
                    held[0] = index, view[count:]
        except BlockingIOError:
            return False
        except OSError:
            held.clear()
            self.held_bytes = 0
            raise
        return True


class NonBlockingWriter(_Holder):
    """Writes to an fd that it owns and that does not block, and holds what did not fit.

    What is held was copied; what is given is used only during the call.
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def write(self, views: list[Chunk], size_bytes: int) -> bool:
        """Take the buffers (at most IOV_MAX), all of them. True when nothing is held afterwards.

        Raises OSError; what it held or could not write is dropped then.
        """
        written = 0
        if not self._held:
            with contextlib.suppress(BlockingIOError):
                written = os.writev(self._fd, views)
            if written == size_bytes:
                return True
        self._hold(0, memoryview(b"".join(views))[written:])
        return self.flush()

    def _send(self, index: int, view: memoryview) -> int:
        return os.write(self._fd, view)

    def close(self) -> int:
        """Close the fd; the bytes that were still held."""
        os.close(self._fd)
        return self.held_bytes


class SocketWriter(_Holder):
    """Sends buffers on sockets that it owns, in one order over all of them, and holds what did not fit.

    With MSG_DONTWAIT, because a socket's O_NONBLOCK flag is shared with other programs, and cannot
    be had apart by opening it again. On a datagram socket each buffer is one datagram.
    """

    def __init__(self, fds: Sequence[int]) -> None:
        super().__init__()
        self._sockets = [socket.socket(fileno=fd) for fd in fds]

    def fileno(self) -> int:
        """What to poll: who waits for one of them waits for the same receiver."""
        return self._sockets[0].fileno()

    def write(self, views: Iterable[Chunk], index: int) -> bool:
        """Take the buffers, none of them empty, for the socket of this index. True when nothing is held afterwards.

        Raises OSError; what it held is dropped then.
        """
        for view in views:
            self._hold(index, view)
        return self.flush()

    def _send(self, index: int, view: memoryview) -> int:
        """A datagram goes whole or, if it is too large for its receiver, its first piece."""
        to = self._sockets[index]
        try:
            return to.send(view, socket.MSG_DONTWAIT)
        except OSError as error:
            if error.errno != EMSGSIZE:
                raise
            return to.send(view[:PIECE_BYTES], socket.MSG_DONTWAIT)

    def close(self) -> int:
        """Close the sockets; the bytes that were still held."""
        for each in self._sockets:
            each.close()
        return self.held_bytes
