"""Owns what becomes of processes whose parent has ended: that they are ours, and that they are reaped."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

from .proctable import children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..core.contracts import Loop

_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> bool:
    """Have every orphan below us become our child (PR_SET_CHILD_SUBREAPER of prctl(2)); False where that cannot be had.

    It holds for the whole process until it ends: not for a library.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    return prctl is not None and prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def reap_orphans(is_ours: Callable[[int], bool]) -> int:
    """Reap our children that have ended and that we did not start; how many. ``is_ours``: whether somebody here waits for this pid.

    To be called on the loop when SIGCHLD comes (see OrphanReaper). Only who is known to be no child of ours is waited
    for, each by its pid: nobody's exit status is taken.
    """
    try:
        if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return 0
    except ChildProcessError:  # we have none
        return 0
    return sum(_reap(pid) for pid in children() if not is_ours(pid))


class OrphanReaper:
    """Calls reap_orphans() on a loop, soon after SIGCHLD. To be made in the main thread.

    By signal(2), as uvloop keeps add_signal_handler() from having this one.
    """

    def __init__(self, loop: Loop, is_ours: Callable[[int], bool]) -> None:
        self.reaped: int = 0
        """How many there were."""
        self._loop = loop
        self._is_ours = is_ours
        self._coming = False
        self._before = signal.signal(signal.SIGCHLD, self._caught)

    def close(self) -> None:
        """Reap once more, and have the handler that was there before."""
        signal.signal(signal.SIGCHLD, self._before)
        self._reap()

    def _caught(self, *_: object) -> None:
        if not self._coming:  # one look takes all who are there
            self._coming = True
            self._loop.call_soon_threadsafe(self._reap)

    def _reap(self) -> None:
        self._coming = False
        self.reaped += reap_orphans(self._is_ours)


def _reap(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None
    except ChildProcessError:
        return False
