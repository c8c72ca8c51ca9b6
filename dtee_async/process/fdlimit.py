"""Owns our own limit of open fds: as high as it may be for us, and what we were given for the commands.

A child inherits the soft RLIMIT_NOFILE at its fork, so it is lowered around each spawn. That takes
nothing away from what is open (getrlimit(2)), but a spawn opens some fds itself, whose numbers
have to be below the limit: low numbers are kept for it. The limit is the whole process's, so
one spawn at a time; other threads have what the spawn leaves of those numbers meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
from collections.abc import Iterator

KEPT = 16
"""A spawn takes five at most: two pipes, /dev/null."""

FIRST_FD = 3


class FdLimit:
    """Made early, when low numbers are free, and once: it raises our soft limit to the hard one, if it can."""

    def __init__(self) -> None:
        self._kept: list[int] = []
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._raised = self._limits[0] != self._limits[1] and self._raise()
        self._keep()

    @property
    def given(self) -> int:
        """The soft limit that we were given, and that commands get."""
        return self._limits[0]

    @contextlib.contextmanager
    def lowered(self) -> Iterator[None]:
        """For the time of a spawn."""
        if not self._raised:
            yield
            return
        self._let_go()
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
        try:
            yield
        finally:
            self._raise()
            self._keep()

    def close(self) -> None:
        """Back to what we were given; what is open stays open."""
        self._let_go()
        if self._raised:
            self._raised = False
            resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)

    def _raise(self) -> bool:
        hard = self._limits[1]
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # fs.nr_open is lower by now: then it stays as it is
            return False
        return True

    def _keep(self) -> None:
        """Take low numbers again; one that somebody took meanwhile comes back with a later spawn."""
        if not self._raised:
            return
        fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)  # the lowest, and none is left free below the others
        while fd < self.given and len(self._kept) < KEPT:
            self._kept.append(fd)
            fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FD)
        os.close(fd)

    def _let_go(self) -> None:
        while self._kept:
            os.close(self._kept.pop())
