"""Owns the threads at the ends of a duplication that are no pipes: one fills a pipe from a source, one empties a pipe into a sink.

A write to a regular file may wait in the kernel, so the loop makes none; and O_NONBLOCK belongs to
the open file, which others share, so it is set on nothing that was given to us. A thread that only
ever waits for what can be polled looks at a second fd, too, by which it is told to stop; one in a
write to a file ends after that write. Each thread owns its fds and closes them.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import stat
import threading
from collections.abc import Callable
from errno import EAGAIN, EINVAL

from ..output.fdkind import reopen_nonblocking
from ..transport.zerocopy import splice

CHUNK_BYTES = 1 << 20
COPY_BYTES = 128 * 1024


class StoppedError(Exception):
    """The duplication was cancelled."""


class Copier:
    """A thread between ``fd``, which is somebody else's, and ``pipe``, which becomes its own."""

    def __init__(self, pipe: int, fd: int, stop: int, events: int) -> None:
        """Raises OSError when there are no more fds."""
        self.error: OSError | None = None
        self.size_bytes = 0
        self.spliced: bool = True
        self._stopping = False
        self._pipe = pipe
        self._events = events
        self._socket: socket.socket | None = None
        with contextlib.ExitStack() as undo:
            self._fd = self._open(fd)
            undo.callback(os.close, self._fd)
            self._stop = os.dup(stop)
            undo.callback(os.close, self._stop)
            self._polled = self._can_poll()
            if stat.S_ISSOCK(os.fstat(self._fd).st_mode):
                self._socket = socket.socket(fileno=self._fd)
            undo.pop_all()
        self._thread: threading.Thread | None = None

    def _open(self, fd: int) -> int:
        return os.dup(fd)

    def _can_poll(self) -> bool:
        """Whether waiting for it means anything: a regular file is always ready, and epoll_ctl(2) says EPERM."""
        with select.epoll() as epoll:
            try:
                epoll.register(self._fd, 0)
            except PermissionError:
                return False
        return True

    def start(self, ended: Callable[[Copier], None]) -> None:
        """Start; ``ended`` is called in the thread, last. Raises OSError EAGAIN when there can be no thread."""
        self._thread = threading.Thread(target=self._run, args=(ended,), name="dtee-async duplicate", daemon=True)
        # A signal that it took would not wake the loop, which waits in the main thread.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()
        except RuntimeError as error:
            self._thread = None
            self.close()
            raise OSError(EAGAIN, str(error)) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def stop(self) -> None:
        """Copy no more. The caller also closes what the thread may wait for."""
        self._stopping = True

    def join(self) -> None:
        """Wait for the thread, which has called ``ended``."""
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Close its fds; only for a thread that did not start."""
        os.close(self._stop)
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self._fd)
        os.close(self._pipe)

    def _run(self, ended: Callable[[Copier], None]) -> None:
        try:
            self._copy_all()
        except StoppedError:
            pass
        except OSError as error:
            self.error = error
        finally:
            self.close()  # the error is there before the pipe's end is: who sees the end finds it
            ended(self)

    def _copy_all(self) -> None:
        while not self._stopping:
            try:
                count = self._splice() if self.spliced else self._copy()
            except OSError as error:
                if error.errno != EINVAL or not self.spliced:
                    raise
                self.spliced = False  # opened O_APPEND, or a filesystem or device that cannot splice
                continue
            if not count:
                return

    def _wait(self) -> None:
        """Wait for the fd, if it can be waited for, or the word to stop."""
        if self._polled:
            poll = select.poll()
            poll.register(self._fd, self._events)
            poll.register(self._stop, 0)  # POLLHUP, which is always told
            poll.poll()
        if self._stopping:
            raise StoppedError

    def _splice(self) -> int:
        raise NotImplementedError

    def _copy(self) -> int:
        raise NotImplementedError


class Emptier(Copier):
    """Writes to a sink whatever comes through the pipe, until nobody writes to the pipe any more.

    A splice(2) holds the lock of its pipe as long as the file takes, and the loop would wait for that
    lock in its next move. So what is there is first taken into a pipe of this thread's own, which is a
    matter of pointers.
    """

    def __init__(self, pipe: int, fd: int, stop: int, inner: tuple[int, int]) -> None:
        """``inner``: a pipe as large as the other, which becomes its own."""
        super().__init__(pipe, fd, stop, select.POLLOUT)
        self.spliced: bool = not self._polled  # splice(2) to a socket or terminal may wait, whatever was asked
        self._inner, self._into = inner
        self._held = 0
        """Bytes in the inner pipe."""

    def _open(self, fd: int) -> int:
        if os.isatty(fd) and (ours := reopen_nonblocking(fd)) is not None:
            return ours
        return os.dup(fd)

    def _splice(self) -> int:
        if not self._held:
            self._held = splice(self._pipe, self._into, CHUNK_BYTES)
            if not self._held:
                return 0
        count = splice(self._inner, self._fd, self._held)
        self._held -= count
        self.size_bytes += count
        return count

    def _copy(self) -> int:
        data = os.read(self._inner if self._held else self._pipe, COPY_BYTES)
        self._held -= min(self._held, len(data))
        rest = memoryview(data)
        while rest:
            self._wait()
            with contextlib.suppress(BlockingIOError):
                count = self._write(rest)
                self.size_bytes += count
                rest = rest[count:]
        return len(data)

    def close(self) -> None:
        super().close()
        os.close(self._inner)
        os.close(self._into)

    def _write(self, data: memoryview) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        return os.write(self._fd, data)


class Filler(Copier):
    """Writes to the pipe whatever a source has, until its end; what is in the pipe when we stop is lost to the source."""

    def __init__(self, pipe: int, fd: int, stop: int) -> None:
        super().__init__(pipe, fd, stop, select.POLLIN)
        self.spliced: bool = not self._polled

    def _copy_all(self) -> None:
        try:
            super()._copy_all()
        except BrokenPipeError:
            if not self._stopping:
                raise

    def _splice(self) -> int:
        return splice(self._fd, self._pipe, CHUNK_BYTES)

    def _copy(self) -> int:
        self._wait()
        try:
            data = os.read(self._fd, COPY_BYTES) if self._socket is None else self._socket.recv(COPY_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:  # somebody else was faster
            return 1
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._pipe, rest) :]
        return len(data)
