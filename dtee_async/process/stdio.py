"""Owns what a program is given at its start, streams and environment: what has to be mended before anything else, or undone."""

from __future__ import annotations

import contextlib
import os


def fill_missing(*fds: int) -> None:
    """Open those of 0, 1 and 2 that are closed on /dev/null, so that nothing of ours lands there."""
    for fd in fds:
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            os.set_inheritable(fd, True)


def make_blocking() -> None:
    """Clear O_NONBLOCK on stdout and stderr: for a program that has them for itself, as dtee does it."""
    for fd in (1, 2):
        os.set_blocking(fd, True)


def forget_coercion() -> None:
    """Undo what CPython did to the environment: in the C locale it sets LC_CTYPE, and commands would inherit it (PEP 538)."""
    if "UTF-8" not in os.environ.get("LC_CTYPE", ""):
        return
    with contextlib.suppress(OSError), open("/proc/self/environ", "rb") as file:
        given = [variable for variable in file.read().split(b"\0") if variable.startswith(b"LC_CTYPE=")]
        if given:
            os.environ["LC_CTYPE"] = os.fsdecode(given[-1].partition(b"=")[2])
        else:
            del os.environ["LC_CTYPE"]
