"""Owns our own stdout and stderr as one command has them, all to itself: written in order, blocking."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core.batch import join_small
from ..core.exit import Exit
from ..core.write import Stream
from ..errors import OutputError
from .fdkind import Kind, kind_of, same_file
from .fdwrite import send_each, write_all

if TYPE_CHECKING:
    from ..core.batch import Batch, Chunk
    from ..core.contracts import Flow


class StandardOutput:
    """Passes each stream on to our own, with as few calls as keep the order that somebody could see.

    Both are the same place: one call a batch. Two regular files: one each, for nobody can see
    which was first. Else: one for each run of equal stream. A datagram socket (dtee around us):
    one for each write of the child, since each call makes one datagram.
    """

    name = "standard output"
    wants_stamps = False

    def __init__(self, stdout: int = 1, stderr: int = 2) -> None:
        self._out, self._err = _OwnStream(stdout, "stdout"), _OwnStream(stderr, "stderr")
        kinds = self._out.kind, self._err.kind
        self.write: Callable[[Batch], None] = self._write_runs
        if same_file(stdout, stderr) and Kind.DATAGRAM not in kinds:
            self.write = self._write_merged
        elif kinds == (Kind.FILE, Kind.FILE):
            self.write = self._write_apart

    def plain_fds(self) -> dict[Stream, int]:
        """Where a stream goes, byte for byte."""
        return {Stream.STDOUT: self._out.fd, Stream.STDERR: self._err.fd}

    def open(self, flow: Flow) -> None:
        self._out.flow = self._err.flow = flow

    def _write_merged(self, batch: Batch) -> None:
        self._out.put(*batch.chunks(None))

    def _write_apart(self, batch: Batch) -> None:
        self._out.put(*batch.chunks(Stream.STDOUT))
        self._err.put(*batch.chunks(Stream.STDERR))

    def _write_runs(self, batch: Batch) -> None:
        for stream, views in batch.runs():
            (self._out if stream == Stream.STDOUT else self._err).put_writes(views)

    def end(self, exit: Exit) -> None:
        """Nothing is held."""

    def close(self) -> int:
        return 0


class _OwnStream:
    """One of our own two streams, and whether the last write to it failed."""

    def __init__(self, fd: int, name: str) -> None:
        self.kind = kind_of(fd)
        self.flow: Flow
        self.fd = fd
        self._name = name
        self._failing = False

    def put_writes(self, views: list[Chunk]) -> None:
        """Write these writes of the child, their borders kept where they count."""
        size_bytes = sum(map(len, views))
        self.put(views if self.kind is Kind.DATAGRAM else join_small(views, size_bytes), size_bytes)

    def put(self, chunks: list[Chunk], size_bytes: int) -> None:
        try:
            if self.kind is Kind.DATAGRAM:
                send_each(self.fd, chunks)
            elif size_bytes:
                write_all(self.fd, chunks, size_bytes)
            self._failing = False
        except OSError as error:
            if not self._failing:
                self._failing = True
                self.flow.report(OutputError(error.errno, f"write: {error.strerror}", self._name))
