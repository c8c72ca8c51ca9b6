"""Owns what is said and done to a whole process group: signals, and who is in it."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import NamedTuple

from ..core.platforms import has


class Member(NamedTuple):
    """A living process of a group."""

    pid: int
    name: str


def signal_group(pgid: int, number: int) -> bool:
    """Send a signal to every process of the group; False when it has none (any more)."""
    try:
        os.killpg(pgid, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # every member changed its user: they exist, and they are not ours to signal
        return True
    return True


def members(pgid: int) -> list[Member]:
    """The processes of the group that are alive (zombies are not), by /proc (proc_pid_stat(5)).

    Where there is no such thing, the group stands for them all, as long as it has a process, or a zombie.
    """
    if not signal_group(pgid, 0):
        return []
    if not has("proc"):
        return [Member(pgid, "?")]
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        # It may be gone by now, between the listing and the look.
        with contextlib.suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:
            head, _, tail = file.read().rpartition(b")")
            state, _, group = tail.split(None, 3)[:3]
            if int(group) == pgid and state not in (b"Z", b"X"):
                found.append(Member(int(entry), head.partition(b"(")[2].decode("utf-8", "backslashreplace")))
    return found


def die_by(number: int) -> None:
    """End this process by a signal's default action, so that our parent sees the truth."""
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    # A signal whose default action does not end a process, or the init of a pid namespace: say it by the status.
    os._exit(128 + number)
