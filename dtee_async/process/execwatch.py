"""Owns the news that somebody executes a certain program: inotify(7) on its file, and the look into /proc at who it is."""

from __future__ import annotations

import contextlib
import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_IN_OPEN = 0x20
_QUEUE_BYTES = 64 * 1024


class ExecWatch:
    """An fd that is readable when one of some files was opened, as execve(2) does it. Closed when it is no longer referred to."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.paths: set[str] = set()

    def add(self, path: str) -> None:
        """Watch one more file; one that cannot be watched is not."""
        real = os.path.realpath(path)
        if real not in self.paths and self._libc.inotify_add_watch(self.fd, os.fsencode(real), _IN_OPEN) >= 0:
            self.paths.add(real)

    def forget_events(self) -> None:
        """Read them away."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.fd, _QUEUE_BYTES):
                pass

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            os.close(self.fd)


def runners(paths: Collection[str]) -> Iterator[int]:
    """The processes that run one of these files, as far as we may look."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{entry}/exe") in paths:
                    yield int(entry)


def sockets_written_by(pid: int) -> set[int]:
    """The inodes of the sockets that a process has as its stdout and stderr."""
    found = set()
    for fd in (1, 2):
        with contextlib.suppress(OSError):
            what = os.readlink(f"/proc/{pid}/fd/{fd}")
            if what.startswith("socket:["):
                found.add(int(what[8:-1]))
    return found
