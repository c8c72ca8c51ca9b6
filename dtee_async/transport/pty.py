"""Owns the capture mode ``pty``: a terminal of its own for the child, as stdout and stderr or as stdout alone.

For programs that behave differently on a terminal: colours, line buffering, progress bars, job
control. One terminal carries both streams in exact order and does not tell them apart; with a pipe
for stderr they are apart, and the order is that of our reading.
"""

from __future__ import annotations

import os
import select
import termios
from contextlib import suppress

from ..core.contracts import ChildFds
from ..core.write import Stream
from ..errors import CaptureError
from .pieces import END, Pieces
from .pipe import LARGE_PIPE_BYTES, _grow, _pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..core.batch import Batch
    from ..core.contracts import T
    from .buffer import Buffer

READS = 64
"""Of one fd in one receive(): a terminal gives up to 4 KiB a read(2), but a byte at a time if it is written so and we are fast enough."""

READ_BYTES = 64 * 1024

QUEUE_LIMIT = 128
"""Reads: 12 KiB in a terminal, in buffers of 256 bytes or more (drivers/tty/tty_buffer.c), and a pipe."""

ROWS, COLUMNS = 24, 80

_OUTPUT_FLAGS, _LOCAL_FLAGS, _CHARACTERS = 1, 3, 6


class PtyTransport:
    """The receiving side of one child's terminal, and of its stderr if that is apart."""

    mode = "pty"

    def __init__(
        self, buffer: Buffer, *, stderr_apart: bool = False, interactive: bool = False, size: tuple[int, int] | None = None
    ) -> None:
        """Make the terminal. ``interactive``: it is the child's stdin, too. ``size``: rows and columns. Raises CaptureError."""
        self.exact: bool = not stderr_apart
        self.apart = stderr_apart
        self._buffer = buffer
        self._pieces = Pieces(buffer.memory)
        self._interactive = interactive
        self._readers: dict[Stream, int] = {}
        self._writers: dict[Stream, int] = {}
        try:
            self._open_terminal(size or (ROWS, COLUMNS))
            if stderr_apart:
                self._open_pipe()
        except BaseException:
            self.close()
            raise
        self._open = dict(self._readers)
        """Those that have not come to their end."""
        self.fds: Sequence[int] = tuple(self._open.values())

    def _open_terminal(self, size: tuple[int, int]) -> None:
        try:
            master, slave = self._readers[Stream.STDOUT], self._writers[Stream.STDOUT] = os.openpty()
            os.set_blocking(master, False)
            termios.tcsetwinsize(master, size)
            if not self._interactive:
                _set_for_files(slave)
        except (OSError, termios.error) as error:
            number, reason = error.args[:2]
            raise CaptureError(number, f"terminal: {reason}") from error

    def _open_pipe(self) -> None:
        try:
            self._readers[Stream.STDERR], self._writers[Stream.STDERR] = _pipe()
            _grow(self._readers[Stream.STDERR], LARGE_PIPE_BYTES)
        except OSError as error:
            raise CaptureError(error.errno, f"pipe: {error.strerror}") from error

    @property
    def terminal_fd(self) -> int:
        """Our side of the terminal: what is written to it has been typed. It does not block."""
        return self._readers[Stream.STDOUT]

    def launch(self, spawn: Callable[[ChildFds], T]) -> T:
        """Spawn the child with the terminal.

        Our copy of the child's side stays open. Without it the terminal would come to its end while the
        child lives, as soon as nobody has it open, though ``/dev/tty`` can be opened again: ssh and sudo do that.
        """
        terminal = self._writers[Stream.STDOUT]
        errors = self._writers.get(Stream.STDERR, terminal)
        try:
            return spawn(ChildFds(terminal, errors, terminal if self._interactive else None, terminal=True))
        finally:
            self._close_writer(Stream.STDERR)

    def _close_writer(self, stream: Stream) -> None:
        fd = self._writers.pop(stream, None)
        if fd is not None:
            os.close(fd)

    def receive(self) -> Batch | None:
        """What is in the terminal now, and in the pipe.

        After the child's exit that is all it wrote: before the kernel says that nothing is there, it has
        taken everything out of its own buffers (n_tty_read() in drivers/tty/n_tty.c).
        """
        for stream, fd in list(self._open.items()):
            self._read(stream, fd)
        return self._pieces.take()

    def _read(self, stream: Stream, fd: int) -> None:
        pieces = self._pieces
        for _ in range(READS):
            count = pieces.read(fd, stream, READ_BYTES)
            if count == END:
                del self._open[stream]
                self.fds = tuple(self._open.values())
            if count <= 0:
                return
            pieces.mark_read()
            if pieces.full:
                return

    def recycle(self, batch: Batch) -> None:
        """The memory of a large batch goes back to the system."""
        self._buffer.trim()

    def queue_limit(self) -> int:
        """How many reads it takes at most to have what a child has left."""
        return QUEUE_LIMIT

    def writers_left(self) -> bool:
        """Whether anybody has the terminal open, or the pipe. To be asked after the child's exit: our own copy is closed first."""
        self._close_writer(Stream.STDOUT)
        return any(not _has_hung_up(fd) for fd in self._open.values())

    def resize(self, rows: int, columns: int) -> None:
        """Tell the terminal its size; the kernel sends SIGWINCH to its foreground group if that is news."""
        if self._readers:
            termios.tcsetwinsize(self.terminal_fd, (rows, columns))

    def interrupt(self) -> None:
        """Type Ctrl-C, or what the terminal has instead: its foreground group gets SIGINT, unless a program has switched that off."""
        if self._readers:
            with suppress(OSError):  # EAGAIN: nobody reads what is typed; EIO: nobody has the terminal open
                os.write(self.terminal_fd, termios.tcgetattr(self.terminal_fd)[_CHARACTERS][termios.VINTR])

    def close(self) -> None:
        """Close every fd."""
        for fd in (*self._writers.values(), *self._readers.values()):
            os.close(fd)
        self._writers.clear()
        self._readers.clear()
        self._open = {}
        self.fds = ()


def _set_for_files(slave: int) -> None:
    """What is written arrives as it is, no newline becomes two characters; and nothing but that: an interrupt that we type is not shown."""
    attributes = termios.tcgetattr(slave)
    attributes[_OUTPUT_FLAGS] &= ~termios.ONLCR
    attributes[_LOCAL_FLAGS] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, attributes)


def _has_hung_up(fd: int) -> bool:
    """Whether nobody can write any more, by poll(2)."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
