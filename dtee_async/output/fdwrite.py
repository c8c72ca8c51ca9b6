"""Owns writing buffers to an fd: blocking to the end, or non-blocking as far as it goes."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Iterable
from errno import EMSGSIZE
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..core.batch import Chunk

IOV_MAX = 1024
"""Buffers a writev(2) takes."""

PIECE_BYTES = 64 * 1024
"""A datagram that our receiver refuses as too large goes in pieces of this size: its borders are lost, its bytes are not."""


def write_all(fd: int, views: Iterable[Chunk], skip_bytes: int = 0) -> None:
    """Write what is left of the buffers after ``skip_bytes``, blocking; raises OSError, with the rest unwritten."""
    for view in views:
        if skip_bytes >= len(view):
            skip_bytes -= len(view)
            continue
        rest = memoryview(view)[skip_bytes:]
        skip_bytes = 0
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


class NonBlockingWriter:
    """Writes to an fd that it owns and that does not block, and holds what did not fit.

    What is held was copied; what is given is used only during the call. A datagram socket gets one
    datagram a buffer (of at least one byte), sent with MSG_DONTWAIT, because its O_NONBLOCK flag is
    shared with other programs.
    """

    def __init__(self, fd: int, *, datagrams: bool = False, is_socket: bool = False) -> None:
        self._fd = fd
        self._socket = socket.socket(fileno=fd) if datagrams or is_socket else None
        self._datagrams = datagrams
        self._held: deque[memoryview] = deque()
        self.held_bytes = 0

    def fileno(self) -> int:
        return self._fd

    def write(self, views: list[Chunk], size_bytes: int) -> bool:
        """Take the buffers, all of them. True when nothing is held afterwards; raises OSError (what it held is dropped then)."""
        if self._held:
            self._hold(views, 0)
            return False
        sent = 0
        try:
            if self._socket is None and len(views) <= IOV_MAX:
                sent = os.writev(self._fd, views)
            else:
                for view in views:
                    count = self._send(view)
                    sent += count
                    if count != len(view):
                        break
        except BlockingIOError:
            pass
        if sent == size_bytes:
            return True
        self._hold(views, sent)
        return self.flush()

    def flush(self) -> bool:
        """Write what is held, as far as it goes. True when nothing is held any more; raises OSError and drops it."""
        held = self._held
        try:
            while held:
                count = self._send(held[0])
                self.held_bytes -= count
                if count == len(held[0]):
                    held.popleft()
                else:
                    held[0] = held[0][count:]
        except BlockingIOError:
            return False
        except OSError:
            held.clear()
            self.held_bytes = 0
            raise
        return True

    def _hold(self, views: list[Chunk], skip_bytes: int) -> None:
        if self._datagrams:  # the borders count: one entry a datagram
            for view in views:
                if skip_bytes >= len(view):
                    skip_bytes -= len(view)
                    continue
                self._held.append(memoryview(bytes(memoryview(view)[skip_bytes:])))
                self.held_bytes += len(view) - skip_bytes
                skip_bytes = 0
        else:
            rest = memoryview(b"".join(views))[skip_bytes:]
            if rest:
                self._held.append(rest)
                self.held_bytes += len(rest)

    def _send(self, view: Chunk) -> int:
        """Bytes that went; a datagram goes whole or, if it is too large for the receiver, its first piece."""
        if self._socket is None:
            return os.write(self._fd, view)
        try:
            return self._socket.send(view, socket.MSG_DONTWAIT)
        except OSError as error:
            if error.errno != EMSGSIZE:
                raise
            return self._socket.send(memoryview(view)[:PIECE_BYTES], socket.MSG_DONTWAIT)

    def close(self) -> int:
        """Close the fd; the bytes that were still held."""
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self._fd)
        self._held.clear()
        return self.held_bytes
