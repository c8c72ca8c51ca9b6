"""Owns the capture mode ``turnstile``: two pipes, and before every write to them the writer waits until we let it pass.

The rule: on every announcement read BOTH pipes empty, then answer. Between two announcements at
most one watched write is running, and when the next is announced, the earlier one has returned and
all its bytes are in a pipe. So the order across the two streams is exact, for writes that do not
overlap in time, and nothing is lost, whatever the size of a write or the kind of the program.
"""

from __future__ import annotations

import contextlib
import os
import select
import time

from ..core.write import Stream
from .pieces import BATCH_BYTES, END, Pieces
from .pipe import LARGE_PIPE_BYTES, Pipes
from .seccomp import Announcement, FilteredThread, Listener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from ..core.batch import Batch
    from ..core.contracts import ChildFds, T
    from .buffer import Buffer

    class Watch(Protocol):
        """A guardian's watch over a listener: it answers in our place when we are gone, or when we have released it."""

        pending: memoryview

        def release(self) -> None: ...

    Guard = Callable[[int], Watch]

ANNOUNCEMENTS = 64
"""Answered in one receive(): a busy writer must not keep the loop for itself."""

_NOBODY = Announcement(0, -1)


class TurnstileTransport:
    """The receiving side of one child's stdout and stderr, each a pipe behind the turnstile."""

    mode = "turnstile"
    exact = True
    apart = True

    def __init__(
        self,
        buffer: Buffer,
        guard: Guard,
        *,
        stamped: bool = False,
        watch_fds: tuple[int, int] = (Stream.STDOUT, Stream.STDERR),
        no_new_privs: bool = False,
        pipe_bytes: int = LARGE_PIPE_BYTES,
    ) -> None:
        """Install the filter and make the pipes. ``watch_fds``: the first and the last fd number whose writes are announced.

        Raises CaptureError, which says why it cannot be had here, and what ``guard`` raises.
        """
        self._buffer = buffer
        self._pieces = Pieces(buffer.memory)
        self._stamped = stamped
        self._last_fd = watch_fds[1]
        self._announced = _NOBODY
        self._announced_ns = 0
        self._split = False
        self._waits = False
        """Somebody was announced and not answered."""
        self._closed = False
        with contextlib.ExitStack() as undo:
            self._pipes = Pipes(pipe_bytes)
            undo.callback(self._pipes.close)
            self._thread = FilteredThread(*watch_fds, no_new_privs=no_new_privs)
            undo.callback(os.close, self._thread.listener)
            undo.callback(self._thread.end)
            self._watch = guard(self._thread.listener)
            undo.pop_all()
        self._listener = Listener(self._thread.listener, self._watch.pending)
        pipes = self._pipes
        self._streams = {fd: (stream, pipes.capacity_bytes[stream]) for stream, fd in pipes.open.items()}
        self.fds: Sequence[int] = (self._listener.fd, *pipes.open.values())
        self._poll = select.poll()
        for fd in self.fds:  # in this order: see receive()
            self._poll.register(fd, select.POLLIN)
        self._look = self._poll.poll

    def _forget(self, fd: int) -> None:
        """A pipe that has come to its end; it stays open until close()."""
        self.fds = tuple(other for other in self.fds if other != fd)
        self._poll.unregister(fd)

    def launch(self, spawn: Callable[[ChildFds], T]) -> T:
        """Spawn the child from the thread that carries the filter, then close our copies of its fds."""
        results: list[T] = []
        failures: list[BaseException] = []

        def call() -> None:
            try:
                results.append(self._pipes.launch(spawn))
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where it belongs
                failures.append(error)

        occupied = self._occupy_watched()
        try:
            self._thread.call(call)
            self._let_thread_pass()
        finally:
            for fd in occupied:
                os.close(fd)
        if failures:
            raise failures.pop()
        return results[0]

    def _occupy_watched(self) -> list[int]:
        """Take the watched fd numbers: nobody could let a child pass that says by a pipe of such a number that its exec failed."""
        occupied: list[int] = []
        while self._last_fd > Stream.STDERR and (not occupied or occupied[-1] <= self._last_fd):
            occupied.append(os.dup(self._thread.returned))
        return occupied

    def _let_thread_pass(self) -> None:
        """Wait for the thread. It could be stopped by its own filter, when a finaliser prints to stderr; a child has to wait."""
        child_waits = False
        poll = select.poll()
        poll.register(self._thread.returned, select.POLLIN)
        poll.register(self._listener.fd, select.POLLIN)
        while self._thread.returned not in dict(poll.poll()):
            if not self._receive_announcement():
                continue
            if self._thread.is_me(self._listener.announcement().pid):
                self._let_pass()
            else:
                child_waits = True
                poll.unregister(self._listener.fd)
        if child_waits:  # for its first write: there is nothing in the pipes yet
            self._let_pass()

    def receive(self) -> Batch | None:
        """Let writers pass one by one, reading both pipes empty before each; what is there when nobody waits."""
        pieces, look, listener_fd = self._pieces, self._look, self._listener.fd
        for _ in range(ANNOUNCEMENTS):
            # poll(2) looks at its fds in the order in which they are given, at the listener first: if somebody waits there, what the
            # writer before wrote is in a pipe already when the pipes are looked at. A read(2) of an empty one would cost more.
            events = look(0)
            announced = bool(events) and events[0][0] == listener_fd
            if announced and not self._waits and not self._receive_announcement():
                continue
            for fd, _ in events[announced:]:
                self._read(fd)
            full = pieces.size_bytes >= BATCH_BYTES
            if not self._waits or (full and self._more()):
                break
            self._let_pass()
            if full:
                break
        return pieces.take()

    def _more(self) -> bool:
        """Whether a pipe is not empty after all: the child has made it larger than it was."""
        return any(fd != self._listener.fd for fd, _ in self._look(0))

    def _receive_announcement(self) -> bool:
        try:
            self._listener.receive()
        except FileNotFoundError:  # the writer was killed, or interrupted by a signal and will come back
            return False
        self._waits = True
        return True

    def _let_pass(self) -> None:
        self._waits = False
        if self._stamped:
            self._announced = self._listener.announcement()
            self._announced_ns = time.time_ns()
            self._split = False
        try:
            self._listener.go_on()
        except FileNotFoundError:  # it was killed while it waited
            return

    def _read(self, fd: int) -> None:
        """Read a pipe empty, or as much as makes the batch full."""
        stream, limit_bytes = self._streams[fd]
        while True:
            count = self._pieces.read(fd, stream, limit_bytes)
            if count == END:
                del self._pipes.open[stream]
                self._forget(fd)
            elif count and self._stamped:
                self._mark(count, rest=count == limit_bytes)
            if count != limit_bytes or self._pieces.size_bytes >= BATCH_BYTES:
                return

    def _mark(self, count: int, *, rest: bool) -> None:
        """The piece is by the writer announced last, and whole if it has the announced size, or is all that a finished write left.

        A write has finished when the next one is announced, or was interrupted; ``rest``: there may be more of it.
        """
        pid, size_bytes = self._announced
        whole = count == size_bytes or (self._waits and not rest and size_bytes < 0 and not self._split and pid != 0)
        self._pieces.mark(self._announced_ns or time.time_ns(), pid, whole=whole)
        self._split = True

    def recycle(self, batch: Batch) -> None:
        """The memory of a large batch goes back to the system."""
        self._buffer.trim()

    def queue_limit(self) -> int:
        """A child that has exited waits for nobody: what it left is in the pipes, and one read takes all of that."""
        return len(Stream)

    def writers_left(self) -> bool:
        """Whether one of the pipes has a writer."""
        return bool(self._pipes.open)

    def close(self) -> None:
        """Close every fd; whoever still carries the filter is left to the guardian."""
        if self._closed:
            return
        self._closed = True
        self._thread.end()
        self._listener.close()
        self._watch.release()
        os.close(self._listener.fd)
        self._pipes.close()
        self._pipes.open.clear()
        self.fds = ()
