"""Owns tee(2) and splice(2) as Python functions: bytes that move between fds without passing through this process.

Both have the semantics of their manual pages, and release the GIL during the call.
"""

from __future__ import annotations

import os
import sys
from enum import IntFlag
from errno import EINTR, ENOSYS
from functools import cache
from typing import TYPE_CHECKING, Protocol

from ..core.platforms import has

if TYPE_CHECKING:
    from collections.abc import Callable

INT_MAX = (1 << 31) - 1
UINT_MAX = (1 << 32) - 1


class HasFileno(Protocol):
    """A file, a socket, anything with an fd."""

    def fileno(self) -> int: ...


FileDescriptorLike = int | HasFileno


class SpliceFlag(IntFlag):
    """The flags of splice(2) and tee(2)."""

    MOVE = 1
    """SPLICE_F_MOVE: a hint that the kernel does not heed since Linux 2.6.21."""
    NONBLOCK = 2
    """SPLICE_F_NONBLOCK: do not wait for a pipe; for this call only, whoever else has the pipe. Another kind of fd may still block."""
    MORE = 4
    """SPLICE_F_MORE: more will follow; helps when the output is a socket."""
    GIFT = 8
    """SPLICE_F_GIFT: only for vmsplice(2); here without effect."""


def tee(fd_in: FileDescriptorLike, fd_out: FileDescriptorLike, length: int, flags: int = 0) -> int:
    """Duplicate up to ``length`` bytes from one pipe to another, without consuming them; the number of bytes.

    0: the input is empty and nobody has it open for writing any more (or ``length`` is 0). Waits for
    input, and for room, without SpliceFlag.NONBLOCK. Raises

    - BlockingIOError (EAGAIN): with NONBLOCK, or a pipe that is O_NONBLOCK: nothing to read, or no room;
    - BrokenPipeError (EPIPE): nobody has the output open for reading;
    - OSError EINVAL: not a pipe, or twice the same pipe; ENOMEM: out of memory; EBADF: not open, or not for this direction;
      ENOSYS: this system has no tee(2);
    - ValueError, OverflowError, TypeError: ``length`` or an fd is no such thing.

    A signal does not end it (PEP 475), unless its handler raises.
    """
    source, sink = descriptor(fd_in), descriptor(fd_out)
    _check(length, flags)
    call, last_error = _tee()
    while (count := call(source, sink, length, flags)) < 0:
        number = last_error()
        if number != EINTR:
            raise OSError(number, os.strerror(number))
    return count


def splice(  # noqa: PLR0917 - the order of os.splice()
    fd_in: FileDescriptorLike,
    fd_out: FileDescriptorLike,
    length: int,
    offset_in: int | None = None,
    offset_out: int | None = None,
    flags: int = 0,
) -> int:
    """Move up to ``length`` bytes between two fds of which one at least is a pipe; the number of bytes.

    An offset is where to begin in what is no pipe, whose own offset is then neither used nor changed.
    0: the end of the input. Raises as tee(), and in addition

    - OSError EINVAL: neither is a pipe; the target is opened O_APPEND; its filesystem cannot splice; an offset in what cannot seek;
    - OSError ESPIPE: an offset for a pipe;
    - any error of a write: ENOSPC, EFBIG, EDQUOT, EIO. What could not be written is still in the pipe.
    """
    source, sink = descriptor(fd_in), descriptor(fd_out)
    _check(length, flags)
    if not hasattr(os, "splice"):
        raise OSError(ENOSYS, os.strerror(ENOSYS))
    return os.splice(source, sink, length, offset_src=offset_in, offset_dst=offset_out, flags=flags)


def descriptor(fd: FileDescriptorLike) -> int:
    """The number of an fd. Raises TypeError for what has none, OverflowError for what no fd can be; EBADF is left to the kernel."""
    number = fd if isinstance(fd, int) else _fileno(fd)
    if not -INT_MAX <= number <= INT_MAX:  # ctypes would cut it, and take another fd
        raise OverflowError(f"fd {number} is greater than any fd can be")
    return number


def _fileno(thing: HasFileno) -> int:
    fileno = getattr(thing, "fileno", None)
    number = fileno() if callable(fileno) else None
    if not isinstance(number, int):
        raise TypeError(f"expected an fd, or an object whose fileno() is one, not {type(thing).__name__}")
    return number


def _check(length: int, flags: int) -> None:
    if length < 0:
        raise ValueError(f"length must not be negative: {length}")
    if length > sys.maxsize:
        raise OverflowError(f"length must not be greater than {sys.maxsize}: {length}")
    if not 0 <= flags <= UINT_MAX:
        raise ValueError(f"flags must be some of SpliceFlag: {flags}")


@cache
def _tee() -> tuple[Callable[[int, int, int, int], int], Callable[[], int]]:
    """The function of the C library, and how to ask for its errno."""
    if not has("splice"):
        raise OSError(ENOSYS, os.strerror(ENOSYS))
    import ctypes

    # CDLL and not PyDLL: the GIL is released during the call.
    function = ctypes.CDLL(None, use_errno=True).tee
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_uint]
    function.restype = ctypes.c_ssize_t
    return function, ctypes.get_errno
