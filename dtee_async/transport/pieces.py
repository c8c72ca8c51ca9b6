"""Owns the reads of one receive() from pipes and terminals: side by side in the loop's receive buffer, and a batch in the end.

A pipe keeps no borders between writes: a piece is what one read(2) found. Whether it is one whole
write is for the transport to know.
"""

from __future__ import annotations

import time
from errno import EIO
from os import readv

from ..core.batch import Batch
from ..errors import CaptureError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..core.batch import Chunk
    from ..core.write import Stream

BATCH_BYTES = 1 << 20
"""A batch is closed when it has reached this size; a last read can exceed it."""

END = -1


class Pieces:
    """Reads pipes into memory until somebody takes the batch. Nothing is copied: its views are good until the next read."""

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._new()

    def _new(self) -> None:
        self.size_bytes: int = 0
        self._views: list[Chunk] = []
        self._lengths: list[int] = []
        self._streams = bytearray()
        self._wholes = bytearray()
        self._times_ns: list[int] = []
        self._pids: list[int] = []

    def read(self, fd: int, stream: Stream, limit_bytes: int) -> int:
        """Read once what is there: its size in bytes, 0 when nothing is, END when no writer is left. Mark each with ``mark``, or none.

        Raises CaptureError.
        """
        begin = self.size_bytes
        room = self._memory[begin : begin + limit_bytes]
        try:
            count = readv(fd, [room])
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno == EIO:  # a terminal whose last user has closed it
                return END
            raise CaptureError(error.errno, f"input: {error.strerror}") from error
        if not count:
            return END
        self.size_bytes = begin + count
        self._views.append(room[:count])
        self._lengths.append(count)
        self._streams.append(stream)
        return count

    def mark(self, time_ns: int, pid: int, *, whole: bool) -> None:
        """Time, writer and wholeness of the piece read last."""
        self._times_ns.append(time_ns)
        self._pids.append(pid)
        self._wholes.append(whole)

    def mark_read(self) -> None:
        """The piece read last is just that: something that was read now, from somebody."""
        self.mark(time.time_ns(), 0, whole=False)

    @property
    def full(self) -> bool:
        """Whether the batch is large enough to be handed on."""
        return self.size_bytes >= BATCH_BYTES

    def take(self) -> Batch | None:
        """All pieces read so far; None when there are none."""
        if not self._views:
            return None
        if self._pids:
            stamps = self._times_ns, self._pids
            batch = Batch(self._views, self._lengths, bytes(self._streams), lambda: stamps, bytes(self._wholes))
        else:
            batch = Batch(self._views, self._lengths, bytes(self._streams))
        self._new()
        return batch
