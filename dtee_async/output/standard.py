"""Owns our own stdout and stderr as one command has them, all to itself: written in order, blocking."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

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

    Both are the same place: one writev(2) a batch. Two regular files: one each, for nobody can see
    which was first. Else: one for each run of equal stream. A datagram socket (dtee around us):
    one for each write of the child, since each call makes one datagram.
    """

    name = "standard output"
    wants_stamps = False

    def __init__(self, stdout: int = 1, stderr: int = 2) -> None:
        self._fds = {Stream.STDOUT: stdout, Stream.STDERR: stderr}
        self._failing: set[Stream] = set()
        kinds = kind_of(stdout), kind_of(stderr)
        self.write: Callable[[Batch], None] = self._write_runs
        self._datagrams = {stream for stream, kind in zip(Stream, kinds, strict=True) if kind is Kind.DATAGRAM}
        if same_file(stdout, stderr) and Kind.DATAGRAM not in kinds:
            self.write = self._write_merged
        elif kinds == (Kind.FILE, Kind.FILE):
            self.write = self._write_apart

    def open(self, flow: Flow) -> None:
        self._flow = flow

    def _write_merged(self, batch: Batch) -> None:
        self._write(Stream.STDOUT, batch.views, batch.size_bytes)

    def _write_apart(self, batch: Batch) -> None:
        for stream in Stream:
            views, size_bytes = batch.of(stream)
            self._write(stream, views, size_bytes)

    def _write_runs(self, batch: Batch) -> None:
        for stream, views in batch.runs():
            self._write(stream, views, sum(map(len, views)))

    def _write(self, stream: Stream, views: list[Chunk], size_bytes: int) -> None:
        if not views:
            return
        fd = self._fds[stream]
        try:
            if stream in self._datagrams:
                send_each(fd, views)
            elif size_bytes:
                written = os.writev(fd, views)
                if written != size_bytes:
                    write_all(fd, views, written)
        except OSError as error:
            if stream not in self._failing:
                self._failing.add(stream)
                self._flow.report(OutputError(error.errno, f"write: {error.strerror}", stream.name.lower()))
        else:
            self._failing.discard(stream)

    def end(self, exit: Exit) -> None:
        """Nothing is held."""

    def close(self) -> int:
        return 0
