"""Owns the look at an fd that we write to: what kind of thing it is, and how to write to it without blocking anybody else."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from enum import Enum

from ..core.platforms import has


class Kind(Enum):
    """What an fd is, as far as writing to it goes."""

    FILE = "file"
    PIPE = "pipe"
    TTY = "tty"
    DATAGRAM = "datagram"
    SOCKET = "socket"
    DEVICE = "device"


def kind_of(fd: int) -> Kind:
    """Look at an open fd."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISFIFO(mode):
        return Kind.PIPE
    if stat.S_ISSOCK(mode):
        with socket.socket(fileno=os.dup(fd)) as ours:
            return Kind.SOCKET if ours.type == socket.SOCK_STREAM else Kind.DATAGRAM
    if stat.S_ISCHR(mode):
        return Kind.TTY if os.isatty(fd) else Kind.DEVICE
    return Kind.FILE


def same_file(one: int, other: int) -> bool:
    """Whether two fds are the same pipe, terminal, socket or file."""
    return os.path.sameopenfile(one, other)


def reopen_nonblocking(fd: int) -> int | None:
    """An open file of our own on the same pipe or terminal, non-blocking, so that the flag is not shared; None if it cannot be had.

    Never for a regular file: its offset would be ours alone (open(2), O_NONBLOCK; proc_pid_fd(5)).
    """
    if not has("proc"):
        return None
    with contextlib.suppress(OSError):
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    return None
