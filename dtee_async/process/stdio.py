"""Owns our own standard streams as we were given them: closed ones are filled, non-blocking ones made blocking."""

from __future__ import annotations

import os


def fill_missing() -> None:
    """Open a closed stdout or stderr on /dev/null, so that nothing of ours lands on fd 1 or 2; stdin stays as it is."""
    for fd in (1, 2):
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            os.set_inheritable(fd, True)


def make_blocking() -> None:
    """Clear O_NONBLOCK on stdout and stderr: for a program that has them for itself, as dtee does it."""
    for fd in (1, 2):
        os.set_blocking(fd, True)
