"""Owns files as outputs: opening them, and writing to them where blocking is right (one command, its own loop)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..core.exit import Exit
from ..errors import OutputError
from .fdwrite import write_all

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..core.batch import Batch
    from ..core.contracts import Flow
    from ..core.write import Stream


def open_file(path: str, *, append: bool) -> int:
    """Open a file for writing, made with 0666 less the umask. Nothing is truncated yet: see truncate_file.

    Raises OutputError with the path.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | (os.O_APPEND if append else 0)
    try:
        return os.open(path, flags, 0o666)
    except OSError as error:
        raise OutputError(error.errno, error.strerror, path) from error


def truncate_file(fd: int, path: str) -> None:
    """Empty a file that is to be overwritten: once every file could be opened, so that a run that never starts loses nothing."""
    import stat

    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.ftruncate(fd, 0)
    except OSError as error:
        raise OutputError(error.errno, error.strerror, path) from error


def append_where_shared(files: Iterable[tuple[int, Stream | None, bool]]) -> None:
    """Have outputs (fd, stream, append) that are one regular file append to it: with offsets of their own they would overwrite each other.

    Those that all overwrite it with the same stream write the same bytes to the same places, and may.
    """
    import fcntl
    import stat

    same: dict[tuple[int, int], dict[int, tuple[Stream | None, bool]]] = {}
    for fd, stream, append in files:
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            same.setdefault((status.st_dev, status.st_ino), {})[fd] = stream, append
    for shared in same.values():
        if len({*shared.values()}) > 1:
            for fd in shared:
                fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)


class FileOutput:
    """Writes one stream (None: both, in order) to an fd that it owns, and blocks as long as that takes."""

    wants_stamps = False

    def __init__(self, fd: int, stream: Stream | None, name: str) -> None:
        self.name = name
        self._fd = fd
        self._stream = stream
        self._failing = False
        self._flow: Flow | None = None

    def plain_fds(self) -> dict[Stream, int] | None:
        """Where a stream goes, byte for byte; None where the two are joined in their order."""
        return None if self._stream is None else {self._stream: self._fd}

    def open(self, flow: Flow) -> None:
        self._flow = flow

    def write(self, batch: Batch) -> None:
        chunks, size_bytes = batch.chunks(self._stream)
        if not size_bytes:
            return
        try:
            write_all(self._fd, chunks, size_bytes)
            self._failing = False
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        if not self._failing and self._flow is not None:
            self._failing = True
            self._flow.report(error)

    def end(self, exit: Exit) -> None:
        """Nothing is held."""

    def close(self) -> int:
        try:
            os.close(self._fd)
        except OSError as error:  # where a network filesystem tells of writes that failed
            self._fail(error)
        return 0
