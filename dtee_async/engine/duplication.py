"""Owns the duplication of one source to many sinks on a loop, by tee(2): nothing passes through this process that need not.

The source is a pipe, and its bytes stay in it until every sink has them: that is the bound for how
far one sink gets ahead of another. A sink is a pipe too: one that is something else has a pipe of
ours in front of it, and a thread behind that (``copiers``). So there is one kind of move, from
pipe to pipe, which never blocks: SPLICE_F_NONBLOCK is said with each call, so that the fds of
others stay as they are. Only the null device needs no bytes at all (``_NullSink``).

tee(2) has no offset. A sink that took only a part of what is there is ``ahead`` of the source by
that part; for the rest of it, all is duplicated into a pipe aside, the part is thrown away there,
and the rest goes on. The sink for which all others have waited takes by splice(2), which consumes.

All fds are polled by one epoll fd, edge-triggered, and the loop polls only that: a source in which
bytes are waiting for a slow sink would be readable for ever, and uvloop makes non-blocking what it polls.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
import struct
import termios
from collections.abc import Callable, Sequence
from errno import EBADF, ENOSYS, EPIPE
from typing import NamedTuple

from ..core.contracts import Loop, Timer
from ..core.platforms import has
from ..transport.zerocopy import SpliceFlag, splice, tee
from .copiers import Copier, Emptier, Filler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

PIPE_BYTES = 1 << 20
CHUNK_BYTES = 1 << 30
"""As much as there is."""
ROUNDS = 16
"""How often in one callback all sinks are tried, before others on the loop have their turn."""

_F_SETPIPE_SZ = 1031
_F_GETPIPE_SZ = 1032
_INT = struct.Struct("i")


class Sunk(NamedTuple):
    """What one sink got."""

    way: Literal["tee", "splice", "copy"]
    """``tee``: a pipe, duplicated to or spliced to; ``splice``: spliced to from a pipe of ours; ``copy``: read and written."""
    size_bytes: int
    error: OSError | None
    """Why it was left out; None: it has everything."""


class Duplicated(NamedTuple):
    """What was duplicated. ``size_bytes``: how much was taken from the source; the sinks in the order in which they were given."""

    size_bytes: int
    sinks: tuple[Sunk, ...]


class _Sink:
    """A pipe to duplicate to: the sink itself, or one of ours in front of it."""

    def __init__(self, fd: int, emptier: Emptier | None) -> None:
        self.fd = fd
        self.emptier = emptier
        self.ahead = 0
        """How many of the bytes at the front of the source it already has."""
        self.ready = True
        """Whether it may have room: it has not said EAGAIN since it was last said to have."""
        self.size_bytes = 0
        self.error: OSError | None = None

    def result(self) -> Sunk:
        if self.emptier is None:
            return Sunk("tee", self.size_bytes, self.error)
        return Sunk("splice" if self.emptier.spliced else "copy", self.emptier.size_bytes, self.emptier.error or self.error)


class _NullSink(_Sink):
    """The null device: always has room, and has all that is there without being given it."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, None)

    def result(self) -> Sunk:
        return Sunk("splice", self.size_bytes, self.error)


class Duplication:
    """One duplication: ``start()``, then ``on_done()`` is called once, also after ``close()``; then there are ``result`` and ``failure``.

    ``on_done`` comes when no thread and no fd of ours is left; ``on_lost(index, error)`` whenever a
    sink is left out. A pipe that nobody reads any more is left out at once, or, ``lazy``, only
    when there is something for it, as a write would find out. SIGPIPE has to be ignored: a pipe of ours may break, too.
    """

    def __init__(
        self,
        loop: Loop,
        source: int,
        sinks: Sequence[int],
        on_done: Callable[[], object],
        *,
        pipe_bytes: int = PIPE_BYTES,
        enlarge: bool = False,
        lazy: bool = False,
        on_lost: Callable[[int, OSError], object] | None = None,
    ) -> None:
        """``pipe_bytes``: the size of our pipes, where the system allows; ``enlarge``: also of pipes that are given to us.

        Raises OSError: an fd is not open; no more fds, threads or memory; ENOSYS: this system has no tee(2).
        """
        if not (has("splice") and hasattr(select, "epoll")):
            raise OSError(ENOSYS, os.strerror(ENOSYS))
        self._loop = loop
        self._on_done = on_done
        self._pipe_bytes = pipe_bytes
        self._enlarge = enlarge
        self._lazy = lazy
        self._on_lost = on_lost
        self._told: set[_Sink] = set()
        self._remaining: int | None = None
        self.failure: OSError | None = None
        """The source could not be read."""
        self._size_bytes = 0
        self._ended = False
        self._closed = False
        self._again: Timer | None = None
        self._fds: set[int] = set()
        self._idle: list[Copier] = []
        self._running: set[Copier] = set()
        self._filler: Filler | None = None
        self._epoll = select.epoll()
        try:
            self._stopped, self._stop = self._own_pipe(0)
            self._side, self._aside = self._own_pipe(pipe_bytes)
            self._nowhere = self._own(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
            self._source = self._open_source(source)
            self._sinks = [self._open_sink(fd) for fd in sinks]
        except BaseException:
            self._release()
            raise
        self._alive = list(self._sinks)
        self._sink_of = {sink.fd: sink for sink in self._sinks if not isinstance(sink, _NullSink)}

    @property
    def result(self) -> Duplicated:
        """What was duplicated so far; after ``on_done``, everything."""
        return Duplicated(self._size_bytes, tuple(sink.result() for sink in self._sinks))

    def start(self) -> None:
        """Begin; what goes wrong from now on is told in the result or by ``failure``."""
        self._epoll.register(self._source, select.EPOLLIN | select.EPOLLET)
        for fd in self._sink_of:
            self._epoll.register(fd, select.EPOLLOUT | select.EPOLLET)
        self._loop.add_reader(self._epoll.fileno(), self._serve)
        try:
            while self._idle:
                copier = self._idle.pop()
                copier.start(self._copier_ended)
                self._running.add(copier)
        except OSError as error:
            self._fail(error)

    def finish(self) -> None:
        """End when what is in the source now has been moved: a writer that is left may go on for ever. After ``start()``, once."""
        if not self._ended:
            self._remaining = self._size_bytes + self._available()
            self._serve()

    def close(self) -> None:
        """Stop at once; threads may still have to finish a write, and ``on_done`` says when they have. May be called twice."""
        if self._closed:
            return
        self._closed = True
        for copier in self._running:
            copier.stop()
        self._close(self._stop)
        if not self._ended:
            self._end()

    # What is given to us, and what is ours

    def _open_source(self, fd: int) -> int:
        is_pipe = _is_pipe(fd)
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:  # epoll_wait(2) would never say that there is something
            raise OSError(EBADF, f"{os.strerror(EBADF)}: the source is not open for reading")
        if is_pipe:
            return self._own_copy(fd)
        reader, writer = self._own_pipe(self._pipe_bytes)
        self._filler = Filler(writer, fd, self._stopped)
        self._fds.remove(writer)
        self._idle.append(self._filler)
        return reader

    def _open_sink(self, fd: int) -> _Sink:
        if _is_pipe(fd):
            return _Sink(self._own_copy(fd), None)
        if is_null(fd):
            return _NullSink(self._own(os.dup(fd)))
        reader, writer = self._own_pipe(self._pipe_bytes)
        inner = self._own_pipe(self._pipe_bytes)
        emptier = Emptier(reader, fd, self._stopped, inner)
        self._fds -= {reader, *inner}
        self._idle.append(emptier)
        return _Sink(writer, emptier)

    def _own_copy(self, fd: int) -> int:
        """The same open pipe under a number that nobody else closes."""
        if self._enlarge:
            _enlarge(fd, self._pipe_bytes)
        return self._own(os.dup(fd))

    def _own_pipe(self, size_bytes: int) -> tuple[int, int]:
        reader, writer = os.pipe()
        _enlarge(reader, size_bytes)
        return self._own(reader), self._own(writer)

    def _own(self, fd: int) -> int:
        self._fds.add(fd)
        return fd

    def _close(self, fd: int) -> None:
        if fd in self._fds:
            self._fds.remove(fd)
            os.close(fd)

    def _release(self) -> None:
        while self._idle:
            self._idle.pop().close()
        self._epoll.close()
        while self._fds:
            os.close(self._fds.pop())

    # On the loop

    def _serve(self) -> None:
        if self._ended:
            return
        try:
            for fd, events in self._epoll.poll(0):
                self._heard(fd, events)
            self._advance()
        except OSError as error:
            self._fail(error)

    def _heard(self, fd: int, events: int) -> None:
        sink = self._sink_of.get(fd)
        if self._ended or sink is None:  # ended: by who was told of a lost sink just now
            return
        if events & select.EPOLLERR and not self._lazy:  # nobody has it open for reading
            self._lose(sink, OSError(EPIPE, os.strerror(EPIPE)))
        else:
            sink.ready = True

    def _advance(self) -> None:
        """Give whom has room what there is. Edge-triggered: only when nothing moves any more, the next event is sure to come."""
        for _ in range(ROUNDS):
            if self._ended:
                return
            if self._remaining is not None and self._size_bytes >= self._remaining:
                self._end()
                return
            if not self._round():
                if not self._ended and not self._available() and self._at_end():
                    self._end()
                return
        self._again = self._loop.call_later(0, self._serve)

    def _round(self) -> bool:
        """Try all sinks; whether anything moved. Those that are ahead cost more, and wait for the others to come up with them."""
        level = [sink for sink in self._alive if not sink.ahead]
        ahead = [sink for sink in self._alive if sink.ahead]
        return (sum(map(self._move, level)) or sum(map(self._move, ahead))) > 0

    def _move(self, sink: _Sink) -> bool:
        if self._ended or not sink.ready or sink not in self._alive:
            return False
        try:
            count = self._give(sink)
        except BlockingIOError:
            # It is full, or the source is empty. To ask the source would be to wait for its lock, which a busy writer holds most of the
            # time; should the sink be emptied just now, there is an event for that.
            sink.ready = _has_room(sink.fd)
            return False
        except OSError as error:
            if self._lazy and error.errno == EPIPE and not self._available():
                return False  # the kernel says so before it looks whether there is anything to write
            self._lose(sink, error)
            return True
        sink.size_bytes += count
        return count > 0

    def _give(self, sink: _Sink) -> int:
        if sink.ahead:
            available = self._available()
            if available <= sink.ahead:
                return 0
            count = available - sink.ahead if isinstance(sink, _NullSink) else self._give_the_rest(sink)
            sink.ahead += count
            return count
        others = [other for other in self._alive if other is not sink]
        if behind := min((other.ahead for other in others), default=CHUNK_BYTES):
            count = splice(self._source, sink.fd, behind, flags=SpliceFlag.NONBLOCK)
            self._consumed(count, others)
            return count
        sink.ahead = self._available() if isinstance(sink, _NullSink) else tee(self._source, sink.fd, CHUNK_BYTES, SpliceFlag.NONBLOCK)
        return sink.ahead

    def _give_the_rest(self, sink: _Sink) -> int:
        """Give what is there beyond what the sink already has. The pipe aside is empty before and after."""
        held = tee(self._source, self._aside, CHUNK_BYTES, SpliceFlag.NONBLOCK)
        try:
            if held <= sink.ahead:  # our pipe is smaller than the source: the others have to come first
                return 0
            self._throw_away(self._side, sink.ahead)
            held -= sink.ahead
            count = splice(self._side, sink.fd, held, flags=SpliceFlag.NONBLOCK)
            held -= count
            return count
        finally:
            self._throw_away(self._side, held)

    def _consumed(self, count: int, sinks: Sequence[_Sink]) -> None:
        self._size_bytes += count
        for sink in sinks:
            sink.ahead -= count

    def _throw_away(self, pipe: int, count: int) -> None:
        while count:
            count -= splice(pipe, self._nowhere, count)

    def _available(self) -> int:
        return int(_INT.unpack(fcntl.ioctl(self._source, termios.FIONREAD, bytes(_INT.size)))[0])

    def _at_end(self) -> bool:
        """Whether the source is empty and has no writer: into a pipe with room, or else tee(2) would say EAGAIN for that."""
        try:
            count = tee(self._source, self._aside, 1, SpliceFlag.NONBLOCK)
        except BlockingIOError:
            return False
        self._throw_away(self._side, count)
        return not count

    # The end

    def _lose(self, sink: _Sink, error: OSError) -> None:
        """Go on without it. Its error is why its thread ended, if it has one."""
        if sink not in self._alive:
            return
        sink.error = error
        self._alive.remove(sink)
        if sink.fd in self._sink_of:
            self._epoll.unregister(sink.fd)
        self._close(sink.fd)
        self._tell(sink)
        if self._ended:  # who was told has closed us
            return
        if not self._alive:
            self._end()
        elif behind := min(other.ahead for other in self._alive):
            self._throw_away(self._source, behind)
            self._consumed(behind, self._alive)

    def _tell(self, sink: _Sink) -> None:
        error = sink.result().error
        if error is not None and sink not in self._told and self._on_lost is not None:
            self._told.add(sink)
            self._on_lost(self._sinks.index(sink), error)

    def _fail(self, error: OSError) -> None:
        self.failure = self.failure or error
        self.close()

    def _end(self) -> None:
        """No more moves: what the threads have, they write."""
        self._ended = True
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._epoll.fileno())
        if self._filler in self._running:  # nobody wants more of it
            self._filler.stop()
            self._close(self._stop)
        for fd in (self._source, *self._sink_of):
            self._close(fd)
        self._release_when_done()

    def _copier_ended(self, copier: Copier) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._joined, copier)

    def _joined(self, copier: Copier) -> None:
        copier.join()
        self._running.discard(copier)
        if copier is self._filler:
            self.failure = self.failure or copier.error
        for sink in self._sinks:
            if sink.emptier is copier:
                self._tell(sink)  # what it had was not written when the source had ended already
        self._release_when_done()

    def _release_when_done(self) -> None:
        if self._ended and not self._running:
            self._release()
            self._on_done()


def _is_pipe(fd: int) -> bool:
    return stat.S_ISFIFO(os.fstat(fd).st_mode)


def is_null(fd: int) -> bool:
    """Whether it is the null device, open for writing."""
    status = os.fstat(fd)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev and not _is_read_only(fd)


def _is_read_only(fd: int) -> bool:
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


def _has_room(pipe: int) -> bool:
    """By poll(2), which takes no lock."""
    poll = select.poll()
    poll.register(pipe, select.POLLOUT)
    return bool(poll.poll(0))


def _enlarge(pipe: int, size_bytes: int) -> None:
    with contextlib.suppress(OSError):  # EPERM: beyond the limits of this user; EBUSY
        if fcntl.fcntl(pipe, _F_GETPIPE_SZ) < size_bytes:
            fcntl.fcntl(pipe, _F_SETPIPE_SZ, size_bytes)
