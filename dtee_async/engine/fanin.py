"""Owns our own stdout and stderr as many jobs share them: whole lines in, nobody blocked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from errno import ECONNREFUSED, ECONNRESET, EIO, ENOTCONN, EPIPE
from typing import TYPE_CHECKING, Protocol

from ..core.write import Stream
from ..output.fdkind import Kind, kind_of, reopen_nonblocking, same_file
from ..output.fdwrite import NonBlockingWriter, SocketWriter
from .pumps import PumpProcess, open_pipe

if TYPE_CHECKING:
    from ..core.contracts import Loop

HELD_BYTES = 1 << 20
"""A fan-in that holds more than this pauses every job that uses it, not only those that write."""

NOBODY_LISTENS = frozenset({EPIPE, ECONNREFUSED, ECONNRESET, ENOTCONN, EIO})
"""After these nobody will ever read what we write; EIO is a terminal that was hung up."""

DATAGRAM_BYTES = 128 * 1024
"""Lines for a datagram socket go in datagrams of about this size."""


class Writer(Protocol):
    """What a fan-in writes with: output.fdwrite has two."""

    held_bytes: int

    def fileno(self) -> int: ...
    def flush(self) -> bool: ...
    def close(self) -> int: ...


class User(Protocol):
    """Who writes to a fan-in, and is paused while it is stuck."""

    def hold(self) -> None: ...
    def go_on(self) -> None: ...


class FanIn:
    """One of our own standard streams, or both. It takes whole lines, never blocks, and pauses its users while it is stuck."""

    def __init__(self, loop: Loop, name: str, failed: Callable[[OSError], None]) -> None:
        self.name = name
        self.lost_bytes: int = 0
        """What could not be shown: the stream was closed, or stuck to the end."""
        self.merges: bool = True
        """Both streams are the same place: lines need not say which they are for."""
        self._loop = loop
        self._failed = failed
        self._broken = False
        self._failing = False
        self._full = False
        self._pumped = False
        self._waiting: set[User] = set()
        self._users: set[User] = set()
        self._on_end: Callable[[], None] | None = None
        self._writer: Writer | None = None
        self._put: Callable[[bytes, Stream], bool]

    def use_fd(self, fd: int, pumps: PumpProcess) -> FanIn:
        """Write to this fd of ours: by an open file of our own that does not block, or by a pump."""
        kind = kind_of(fd)
        own = os.dup(fd) if kind is Kind.DEVICE else reopen_nonblocking(fd) if kind in (Kind.PIPE, Kind.TTY) else None
        self._pumped = own is None
        if own is None:
            reader, own = open_pipe()
            pumps.attach(self, reader, os.dup(fd), self.name)
        writer = NonBlockingWriter(own)
        self._writer = writer
        self._put = lambda lines, _: writer.write([lines], len(lines))
        return self

    def use_sockets(self, fds: Sequence[int]) -> FanIn:
        """Write to these sockets: stdout's and stderr's, in one order."""
        writer = SocketWriter([os.dup(fd) for fd in fds])
        last = len(fds) - 1
        self.merges = not last
        self._writer = writer
        self._put = lambda lines, stream: writer.write(_datagrams(lines), min(last, stream - Stream.STDOUT))
        return self

    def add(self, user: User) -> None:
        self._users.add(user)

    def discard(self, user: User) -> None:
        self._users.discard(user)
        self._waiting.discard(user)

    def write(self, lines: bytes, stream: Stream, user: User | None = None) -> None:
        """Take whole lines; ``user`` is paused until they are through."""
        if not lines:
            return
        if self._broken or self._writer is None:
            self.lost_bytes += len(lines)
            return
        try:
            through = self._put(lines, stream)
        except OSError as error:
            self._break(error, len(lines))
            return
        if through:
            self._failing = False
            return
        if not self._full:
            self._full = True
            self._loop.add_writer(self._writer.fileno(), self._flush)
        if user is not None:
            self._wait(user)
        if self._writer.held_bytes > HELD_BYTES:
            for other in self._users:
                self._wait(other)

    def _wait(self, user: User) -> None:
        if user not in self._waiting:
            self._waiting.add(user)
            user.hold()

    def _flush(self) -> None:
        if self._writer is None:
            return
        held = self._writer.held_bytes
        try:
            if not self._writer.flush():
                return
        except OSError as error:
            self._break(error, held)
        self._release()

    def _release(self) -> None:
        if self._full and self._writer is not None:
            self._full = False
            self._loop.remove_writer(self._writer.fileno())
        waiting, self._waiting = self._waiting, set()
        for user in waiting:
            user.go_on()
        if self._on_end is not None:
            self._close_writer()

    def _break(self, error: OSError, lost_bytes: int) -> None:
        self.lost_bytes += lost_bytes
        self._broken = error.errno in NOBODY_LISTENS
        self._release()
        if not self._failing:
            self._failing = True
            self._failed(error)

    def failed(self, error: OSError) -> None:
        """The pump could not write."""
        self._failed(error)

    def delivered(self) -> None:
        """The pump wrote everything."""
        done, self._on_end = self._on_end, None
        if done is not None:
            done()

    def gone(self, error: OSError) -> None:
        """The pump was killed."""
        self._broken = True
        self._release()
        self._failed(error)

    def end(self, done: Callable[[], None]) -> None:
        """Nothing more will come: call back when all of it is through."""
        self._on_end = done
        if not self._full:
            self._close_writer()

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
        if not self._pumped or self._broken:
            self.delivered()

    def close(self) -> None:
        """Give up what is still held, and count it."""
        writer, self._writer = self._writer, None
        self._on_end = None
        if writer is not None:
            if self._full:
                self._loop.remove_writer(writer.fileno())
            self.lost_bytes += writer.close()


def open_fans(loop: Loop, pumps: PumpProcess, failed: Callable[[OSError], None]) -> dict[Stream, FanIn]:
    """A fan-in for our stdout and one for our stderr; the same one for both where somebody could see their order."""
    kinds = kind_of(1), kind_of(2)
    sockets = [kind in (Kind.DATAGRAM, Kind.SOCKET) for kind in kinds]
    if same_file(1, 2):
        both = FanIn(loop, "stdout and stderr", failed)
        both = both.use_sockets([1]) if sockets[0] else both.use_fd(1, pumps)
        return {Stream.STDOUT: both, Stream.STDERR: both}
    if kinds == (Kind.DATAGRAM, Kind.DATAGRAM):  # dtee around us: one receiver behind both
        both = FanIn(loop, "stdout and stderr", failed).use_sockets([1, 2])
        return {Stream.STDOUT: both, Stream.STDERR: both}
    fans = {}
    for stream, is_socket in zip(Stream, sockets, strict=True):
        fan = FanIn(loop, stream.name.lower(), failed)
        fans[stream] = fan.use_sockets([stream]) if is_socket else fan.use_fd(stream, pumps)
    return fans


def _datagrams(lines: bytes) -> Iterator[bytes]:
    """Cut between lines, into pieces that every receiver takes."""
    begin = 0
    while begin < len(lines):
        end = begin + DATAGRAM_BYTES
        if end < len(lines):
            end = lines.rfind(b"\n", begin, end) + 1 or end
        yield lines[begin:end]
        begin = end
