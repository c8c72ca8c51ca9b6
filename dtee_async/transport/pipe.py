"""Owns the capture mode ``pipe``: two ordinary pipes.

Nothing is lost, whatever the program is; the order across the two is that of our reading.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from ..core.contracts import ChildFds
from ..core.write import Stream
from ..errors import CaptureError
from .pieces import END, Pieces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..core.batch import Batch
    from ..core.contracts import T
    from .buffer import Buffer

LARGE_PIPE_BYTES = 1 << 20
"""What any user may ask for (fs.pipe-max-size), as long as all pipes of that user stay below fs.pipe-user-pages-soft."""

_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", None)
_GETPIPE_SZ = getattr(fcntl, "F_GETPIPE_SZ", None)
_DEFAULT_PIPE_BYTES = 64 * 1024


class Pipes:
    """Two pipes: their read ends are ours, their write ends a child's."""

    def __init__(self, size_bytes: int) -> None:
        """Raises CaptureError. ``size_bytes``: 0 for what the system gives."""
        self.readers: dict[Stream, int] = {}
        self._writers: dict[Stream, int] = {}
        self.capacity_bytes: dict[Stream, int] = {}
        try:
            for stream in Stream:
                self.readers[stream], self._writers[stream] = _pipe()
                self.capacity_bytes[stream] = _grow(self.readers[stream], size_bytes)
        except OSError as error:
            self.close()
            raise CaptureError(error.errno, f"pipe: {error.strerror}") from error
        self.open: dict[Stream, int] = dict(self.readers)
        """Those that have not come to their end."""

    def launch(self, spawn: Callable[[ChildFds], T]) -> T:
        """Call ``spawn`` with the write ends, then close ours."""
        try:
            return spawn(ChildFds(self._writers[Stream.STDOUT], self._writers[Stream.STDERR]))
        finally:
            self.close_writers()

    def close_writers(self) -> None:
        """Close our copies of what the child writes to."""
        for fd in self._writers.values():
            os.close(fd)
        self._writers.clear()

    def close(self) -> None:
        """Close everything; may be called twice."""
        self.close_writers()
        for fd in self.readers.values():
            os.close(fd)
        self.readers.clear()


def _pipe() -> tuple[int, int]:
    """A pipe, both ends closed at an exec (pipe2(2)), its read end not blocking."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    return reader, writer


def _grow(fd: int, size_bytes: int) -> int:
    """Make a pipe larger if the system allows it; its capacity in bytes."""
    if _SETPIPE_SZ is None or _GETPIPE_SZ is None:
        return _DEFAULT_PIPE_BYTES
    if size_bytes:
        with contextlib.suppress(OSError):  # EPERM: the user has too many large pipes; EINVAL: fs.pipe-max-size
            return fcntl.fcntl(fd, _SETPIPE_SZ, size_bytes)
    return fcntl.fcntl(fd, _GETPIPE_SZ)


class PipeTransport:
    """The receiving side of one child's stdout and stderr, each a pipe."""

    mode = "pipe"
    exact = False
    apart = True

    def __init__(self, buffer: Buffer, *, pipe_bytes: int = LARGE_PIPE_BYTES) -> None:
        """Make the pipes. Raises CaptureError."""
        self._buffer = buffer
        self._pieces = Pieces(buffer.memory)
        self._pipes = Pipes(pipe_bytes)
        self.fds: Sequence[int] = tuple(self._pipes.open.values())

    @property
    def open(self) -> Mapping[Stream, int]:
        """The read ends of the streams that have not come to their end."""
        return self._pipes.open

    def ended(self, stream: Stream) -> None:
        """Who reads the pipe in our place has seen its end."""
        del self._pipes.open[stream]
        self.fds = tuple(self._pipes.open.values())

    def launch(self, spawn: Callable[[ChildFds], T]) -> T:
        """Spawn the child with the write ends, then close ours."""
        return self._pipes.launch(spawn)

    def receive(self) -> Batch | None:
        """One read(2) of each pipe."""
        pipes, pieces = self._pipes, self._pieces
        for stream, fd in list(pipes.open.items()):
            count = pieces.read(fd, stream, pipes.capacity_bytes[stream])
            if count > 0:
                pieces.mark_read()
            elif count == END:
                self.ended(stream)
        return pieces.take()

    def recycle(self, batch: Batch) -> None:
        """The memory of a large batch goes back to the system."""
        self._buffer.trim()

    def queue_limit(self) -> int:
        """One receive() takes all that a pipe holds: one piece each."""
        return len(Stream)

    def writers_left(self) -> bool:
        """Whether one of the pipes has a writer."""
        return bool(self._pipes.open)

    def close(self) -> None:
        """Close every fd."""
        self._pipes.close()
        self._pipes.open.clear()
        self.fds = ()
