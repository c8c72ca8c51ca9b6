"""Owns cron mode: silence until the command writes to stderr or fails, then everything, in its order."""

from __future__ import annotations

import os
from errno import EIO
from typing import TYPE_CHECKING

from ..core.batch import Batch
from ..core.exit import Exit
from ..core.write import Stream
from ..errors import OutputError
from .fdwrite import write_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..core.contracts import Flow, Output

REPLAY_BYTES = 64 * 1024


class SpoolOutput:
    """Keeps what comes in an unlinked temporary file, and replays it into the output behind it when there is a reason to.

    Until the first write to stderr only stdout was written, so the file is stdout's bytes and
    nothing else. From the first reason on everything is passed straight through.
    """

    wants_stamps = False

    def __init__(self, inner: Output) -> None:
        self.name: str = inner.name
        self.silent: bool = True
        """Nothing was passed on yet."""
        self._inner = inner
        self._file: int | None = None
        self._size_bytes = 0
        self._replayed_bytes = 0
        self._held: Batch | None = None
        self._exit: Exit | None = None
        self._inner_paused = False

    def open(self, flow: Flow) -> None:
        self._flow = flow
        self._inner.open(_InnerFlow(flow, self))

    def write(self, batch: Batch) -> None:
        if self.silent:
            if not (Stream.STDERR in batch.streams and batch.chunks(Stream.STDERR)[1]) and self._keep(batch):
                return
            self.release()
        if self._replaying:
            self._held = batch.detach()
        else:
            self._inner.write(batch)

    def _keep(self, batch: Batch) -> bool:
        """Append to the file; False when that is not possible, and the batch has to be passed on."""
        try:
            if self._file is None:
                self._file = _temporary_file()
            os.lseek(self._file, self._size_bytes, os.SEEK_SET)
            write_all(self._file, *batch.chunks(None))
        except OSError as error:
            self._flow.report(OutputError(error.errno, f"spool: {error.strerror}", self.name))
            return False
        self._size_bytes += batch.size_bytes
        return True

    def release(self) -> None:
        """There is something to report: replay, and pass through from now on."""
        if self.silent:
            self.silent = False
            self._replay()

    @property
    def _replaying(self) -> bool:
        return not self.silent and self._replayed_bytes < self._size_bytes

    def _replay(self) -> None:
        """Replay as fast as the inner output takes it; we are full as long as that goes on."""
        while self._replaying and not self._inner_paused:
            assert self._file is not None
            data = self._read_back(self._file)
            self._replayed_bytes += len(data)
            self._inner.write(Batch([data], [len(data)], bytes([Stream.STDOUT])))
        if not self._inner_paused and self._held is not None:
            batch, self._held = self._held, None
            self._inner.write(batch)
        if self._exit is not None and not self._replaying and self._held is None:
            exit, self._exit = self._exit, None
            self._inner.end(exit)
        if self._replaying or self._inner_paused:
            self._flow.pause()
        else:
            self._flow.resume()

    def _read_back(self, file: int) -> bytes:
        """The next piece of the file; nothing more if that fails, which is reported."""
        try:
            data = os.pread(file, min(REPLAY_BYTES, self._size_bytes - self._replayed_bytes), self._replayed_bytes)
            if data:
                return data
            raise OSError(EIO, os.strerror(EIO))  # noqa: TRY301 - somebody cut it
        except OSError as error:
            self._replayed_bytes = self._size_bytes
            self._flow.report(OutputError(error.errno, f"spool: {error.strerror}", self.name))
            return b""

    def inner_paused(self) -> None:
        self._inner_paused = True
        self._flow.pause()

    def inner_resumed(self) -> None:
        self._inner_paused = False
        self._replay()

    def end(self, exit: Exit) -> None:
        if self.silent and exit.returncode == 0:
            self._inner.end(exit)
            return
        self._exit = exit
        self.silent = False
        self._replay()

    def close(self) -> int:
        if self._file is not None:
            os.close(self._file)
        left = 0 if self.silent else self._size_bytes - self._replayed_bytes
        self._size_bytes = self._replayed_bytes = 0  # a release that comes now comes too late
        held = self._held.size_bytes if self._held is not None else 0
        return left + held + self._inner.close()


class _InnerFlow:
    """The flow of the output behind the spool: its pauses go through the spool, the rest straight on."""

    def __init__(self, flow: Flow, spool: SpoolOutput) -> None:
        self.report = flow.report
        self.when_writable: Callable[[int, Callable[[], None] | None], None] = flow.when_writable
        self.pause = spool.inner_paused
        self.resume = spool.inner_resumed


def _temporary_file() -> int:
    directory = os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - nameless, or made exclusively and unlinked at once
    try:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except (OSError, AttributeError):  # a filesystem without O_TMPFILE, or a system
        path = os.path.join(directory, f"dtee-async-{os.urandom(6).hex()}")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.unlink(path)
        return fd
