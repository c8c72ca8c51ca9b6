"""Owns the output that never blocks: a pipe, FIFO or terminal, or a file behind a pump."""

from __future__ import annotations

import fcntl
import struct
import termios
from typing import TYPE_CHECKING, Protocol

from ..core.exit import Exit
from .fdwrite import NonBlockingWriter

if TYPE_CHECKING:
    from ..core.batch import Batch
    from ..core.contracts import Flow
    from ..core.write import Stream


class Destination(Protocol):
    """What stands behind a piped output."""

    acknowledges: bool
    """Whether it calls ``delivered`` when everything is written, after the fd was closed."""

    def connect(self, output: PipedOutput) -> int:
        """The non-blocking fd to write to, now the caller's; called once, at the first write."""
        ...

    def close(self) -> None:
        """Release whatever connect() did not hand over."""
        ...


class PipedOutput:
    """Writes one stream (None: both, in order) to a non-blocking fd, and pauses the job while that is full."""

    wants_stamps = False

    def __init__(self, destination: Destination, stream: Stream | None, name: str) -> None:
        self.name = name
        self._destination = destination
        self._stream = stream
        self._writer: NonBlockingWriter | None = None
        self._failing = False
        self._ended = False
        self._gone = False
        self._undelivered_bytes = 0

    def open(self, flow: Flow) -> None:
        self._flow = flow

    def write(self, batch: Batch) -> None:
        chunks, size_bytes = batch.chunks(self._stream)
        if not size_bytes:
            return
        if self._gone:
            self._undelivered_bytes += size_bytes
            return
        try:
            if self._writer is None:
                self._writer = NonBlockingWriter(self._destination.connect(self))
            if not self._writer.write(chunks, size_bytes):
                self._flow.when_writable(self._writer.fileno(), self._flush)
                self._flow.pause()
            self._failing = False
        except OSError as error:
            self._fail(error)

    def _flush(self) -> None:
        writer = self._writer
        assert writer is not None
        try:
            if not writer.flush():
                return
        except OSError as error:
            self._fail(error)
        self._flow.when_writable(writer.fileno(), None)
        if self._ended:
            self._finish(writer)
        else:
            self._flow.resume()

    def _fail(self, error: OSError) -> None:
        if not self._failing:
            self._failing = True
            self._flow.report(error)

    def end(self, exit: Exit) -> None:
        self._ended = True
        if self._writer is not None and not self._writer.held_bytes:
            self._finish(self._writer)

    def _finish(self, writer: NonBlockingWriter) -> None:
        self._writer = None
        if self._destination.acknowledges:
            self._undelivered_bytes = _queued_bytes(writer.fileno())
            self._flow.pause()  # it resumes us when everything is written
        else:
            self._flow.resume()
        writer.close()

    def delivered(self) -> None:
        """The destination says that everything is written."""
        self._undelivered_bytes = 0
        self._flow.resume()

    def gone(self, error: OSError) -> None:
        """The destination was killed: what it had not written is lost, and so is all that follows."""
        self._gone = True
        writer, self._writer = self._writer, None
        if writer is not None:
            self._flow.when_writable(writer.fileno(), None)
            self._undelivered_bytes += _queued_bytes(writer.fileno()) + writer.close()
        self._flow.report(error)
        self._flow.resume()

    def failed(self, error: OSError) -> None:
        """The destination says that a write failed; once per run of failures."""
        self._flow.report(error)

    def close(self) -> int:
        writer, self._writer = self._writer, None
        self._destination.close()
        if writer is None:
            return self._undelivered_bytes
        self._flow.when_writable(writer.fileno(), None)
        queued = _queued_bytes(writer.fileno()) if self._destination.acknowledges else 0
        return queued + writer.close()


def _queued_bytes(pipe: int) -> int:
    """FIONREAD: what the other end has not read yet (pipe(7))."""
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0])
