"""Owns what is known of each system: how its datagram sockets behave, what a capture mode promises there, and what only some systems have.

The supported system is Linux. What is said of the others is from their manual pages and from the
experience of dtee, which this program descends from; who knows better changes a number here.
"""

# Without the annotations of __future__, which NamedTuple would have to compile: this is on the way of every command.

import os
import sys
from typing import NamedTuple

KIB = 1024


class Platform(NamedTuple):
    """A system, as far as Unix datagram sockets and terminals go."""

    name: str
    """How sys.platform begins there."""
    send_buffer_bytes: int | None
    receive_buffer_bytes: int | None
    """What to set; None: as large as the system allows. Never below its default, PIPE_BUF or BUFSIZ."""
    safe_write_bytes: int
    """The largest write that is known to arrive; 0: none is."""
    blocks: bool
    """Whether a full queue makes the writer wait; else the write is lost."""
    reports_loss: bool
    """Whether a lost write is reported, by an error of the receive call."""
    addressed: bool
    """Whether a datagram comes with the address of its sender, which tells the stream."""
    private: bool
    """Whether no other process can take over an address that a socket of ours has."""
    keeps_terminal: bool
    """Whether what is in a terminal is known to be readable after its last writer has closed it."""
    turnstile: bool
    """Whether there is seccomp(2) with user notification."""
    address_bytes: int
    """Room for a path in a socket's address, with the NUL at its end."""
    loss_option: int | None
    """The number of SO_RERROR, with which loss is reported where that is not the default (getsockopt(2) of NetBSD)."""


LINUX = Platform("linux", None, None, 425_952, True, False, True, True, True, True, 108, None)
"""425,952: twice the stock net.core.wmem_max, because the kernel doubles what it is given, less 32."""

_BSD = Platform("", 256 * KIB, 512 * KIB, 128 * KIB, False, False, True, True, False, False, 104, None)

PLATFORMS = (
    LINUX,
    _BSD._replace(name="freebsd"),
    _BSD._replace(name="openbsd"),
    _BSD._replace(name="netbsd", send_buffer_bytes=128 * KIB, receive_buffer_bytes=128 * KIB, reports_loss=True, loss_option=0x4000),
    # Loses writes of PIPE_BUF bytes that come quickly, whatever the buffers are.
    _BSD._replace(name="dragonfly", safe_write_bytes=0),
    _BSD._replace(name="darwin"),
    # Its Unix sockets are UDP on localhost: when a process has ended, another one can have its port.
    Platform("cygwin", 2048 * KIB, 2048 * KIB, 2048 * KIB, True, False, True, False, False, False, 108, None),
    # Writes are cut at a page, and the size of the buffers cannot be set.
    Platform("gnu", None, None, 4 * KIB, True, False, False, True, False, False, 108, None),
)

UNKNOWN = _BSD._replace(name="", safe_write_bytes=0, addressed=False, private=False)
"""Of a system that is not in the table nothing is promised but by pipes."""


def platform_of(name: str) -> Platform:
    """The platform with this sys.platform, which may have a version at its end: ``freebsd14``, ``gnu0``."""
    return next((platform for platform in PLATFORMS if name.startswith(platform.name)), UNKNOWN)


HERE = platform_of(sys.platform)


NOTHING = False, False


def promise(platform: Platform, mode: str) -> tuple[bool, bool]:
    """What ``ordered``, ``turnstile``, ``pipe`` or ``pty`` promises there: (exact, lossless); NOTHING where there is no such mode.

    Exact: the order across the two streams is that of the writes. Lossless: each write that the
    command was told was made arrives, whole. A terminal has one stream, in which the order is that of the writes.
    """
    match mode:
        case "ordered":
            return (True, platform.blocks and platform.private) if platform.addressed else NOTHING
        case "turnstile":
            return (True, True) if platform.turnstile else NOTHING
        case "pipe":
            return (False, True)
        case "pty":
            return (True, platform.keeps_terminal)
    raise ValueError(mode)


def default_mode(platform: Platform) -> str:
    """What ``auto`` is there when nothing is known of the command: ``ordered`` where it promises everything, else ``pipe``."""
    return "ordered" if promise(platform, "ordered") == (True, True) else "pipe"


_LINUX = HERE is LINUX

FACILITIES: dict[str, bool] = {
    "recvmmsg": _LINUX and sys.maxsize > 1 << 32,  # elsewhere its structures are others
    "pidfd": hasattr(os, "pidfd_open"),
    "timestamps": _LINUX,  # SO_TIMESTAMPNS
    "credentials": _LINUX,  # SO_PASSCRED
    "seccomp": _LINUX,
    "splice": hasattr(os, "splice"),
    "memory_folder": _LINUX,  # /dev/shm
    "proc": _LINUX,  # /proc, as proc(5) has it
    "inotify": _LINUX,
}
"""What only some systems have, and whether this one should. A kernel or a sandbox can still refuse it: who uses it finds out."""

WITHOUT = "DTEE_ASYNC_WITHOUT"
"""An environment variable that switches facilities off, by their names with commas between, or ``all``: to try what other systems do.

Names that are not known are ignored: it must not keep a command from running.
"""

switched_off: frozenset[str] = frozenset(os.environ.get(WITHOUT, "").split(","))


def has(facility: str) -> bool:
    """Whether this system has one of FACILITIES, and it is not switched off."""
    return FACILITIES[facility] and not (facility in switched_off or "all" in switched_off)
