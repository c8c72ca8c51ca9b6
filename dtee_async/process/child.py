"""Owns a running child: an fd that becomes readable at its exit, and its reaping.

The fd is a pidfd (pidfd_open(2)). Where there is none, a thread waits for the child instead, and
the fd is the read end of a pipe that the thread closes. No handler for SIGCHLD either way: our own
child is reaped and nobody else's, on every loop.
"""

from __future__ import annotations

import os
import signal
from errno import EAGAIN, ECHILD, EMFILE, ENOSYS, EPERM
from typing import NamedTuple, Protocol

from ..core.exit import Exit, exit_from_wait
from ..core.platforms import has
from ..errors import SpawnError, UnknownExitStatusError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from resource import struct_rusage


class Kin(Protocol):
    """Who has to know our own children from those that were given to us (see descendants)."""

    def add(self, pid: int) -> None:
        """It was just spawned."""
        ...

    def discard(self, pid: int) -> None:
        """It is about to be reaped: the number may mean somebody else then."""
        ...


class Child(NamedTuple):
    """A child that we did not reap yet. Who spawned it owns the fd, which becomes readable when it exits, until reap()."""

    pid: int
    exit_fd: int
    waiter: Waiter | None
    """None: its pid cannot mean anybody else, as it is not reaped before reap()."""
    kin: Kin | None = None


class Waiter:
    """A thread that waits for one child."""

    def __init__(self, pid: int) -> None:
        """Start it. Raises OSError."""
        import threading

        try:
            import resource  # noqa: F401 - os.wait4() imports it when it is first used, which takes an fd
        except ImportError as error:
            raise OSError(EMFILE, os.strerror(EMFILE)) from error
        self._pid = pid
        self._ended: tuple[int, struct_rusage] | None = None
        self.exit_fd: int
        self.exit_fd, self._writer = os.pipe()
        self._thread = threading.Thread(target=self._wait, name=f"dtee-async wait {pid}", daemon=True)
        # A signal that it took would not wake the loop, which waits in the main thread.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._thread.start()
        except RuntimeError as error:
            os.close(self.exit_fd)
            os.close(self._writer)
            raise OSError(EAGAIN, str(error)) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _wait(self) -> None:
        try:
            _, status, usage = os.wait4(self._pid, 0)
            self._ended = status, usage
        except ChildProcessError:  # reap() says so
            pass
        finally:
            os.close(self._writer)

    def reap(self) -> Exit:
        """Wait until the child has exited, and close the fd."""
        os.read(self.exit_fd, 1)  # handlers of signals run meanwhile
        self._thread.join()
        os.close(self.exit_fd)
        if self._ended is None:
            raise _status_taken(self._pid)
        return exit_from_wait(*self._ended)


def open_pidfd(pid: int) -> int | None:
    """An fd that becomes readable when a process, any process, exits; None where there is no such thing. Raises OSError."""
    if not has("pidfd"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (ENOSYS, EPERM):  # before Linux 5.3; a sandbox
            return None
        raise


def watch(pid: int, name: str) -> Child:
    """Take charge of a child that was just spawned. Raises SpawnError, with ``name``, when it cannot be watched: it is killed then.

    Raises UnknownExitStatusError when it was over, and reaped, before we could look.
    """
    try:
        pidfd = open_pidfd(pid)
        if pidfd is not None:
            return Child(pid, pidfd, None)
        waiter = Waiter(pid)
    except ProcessLookupError as error:
        raise _status_taken(pid) from error
    except OSError as error:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise SpawnError(error.errno, f"cannot be watched: {error.strerror}", name) from error
    return Child(pid, waiter.exit_fd, waiter)


def reap(child: Child) -> Exit:
    """Wait for a child that has exited, and close its fd.

    Raises UnknownExitStatusError when somebody else has reaped it.
    """
    if child.kin is not None:
        child.kin.discard(child.pid)
    if child.waiter is not None:
        return child.waiter.reap()
    os.close(child.exit_fd)
    try:
        _, status, usage = os.wait4(child.pid, 0)
    except ChildProcessError as error:
        raise _status_taken(child.pid) from error
    return exit_from_wait(status, usage)


def _status_taken(pid: int) -> UnknownExitStatusError:
    reason = "its exit status was taken by somebody else: is SIGCHLD ignored, or does another part of this program reap every child?"
    return UnknownExitStatusError(ECHILD, f"process {pid}: {reason}")
