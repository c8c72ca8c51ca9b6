"""Owns how a command ended, and the words for it."""

from __future__ import annotations

import os
import signal as _signal
from typing import NamedTuple


class Exit(NamedTuple):
    """How a child ended, as wait4(2) told it.

    ``returncode`` is the exit status, or -N for a death by signal N. ``max_rss_bytes`` is the peak
    of the child's memory, but at least ours at the spawn: Linux carries that over execve(2).
    ``user_s`` and ``system_s`` are the processor time of the child and of the children that it
    waited for.
    """

    returncode: int
    core_dumped: bool = False
    max_rss_bytes: int = 0
    user_s: float = 0.0
    system_s: float = 0.0

    @property
    def signal(self) -> int | None:
        """The number of the signal that ended the child, or None."""
        return -self.returncode if self.returncode < 0 else None

    @property
    def status(self) -> int:
        """What a shell shows in ``$?``: the exit status, or 128+N for signal N."""
        return self.returncode if self.returncode >= 0 else 128 - self.returncode

    def describe(self, command: str) -> str:
        """The ending as cronty words it."""
        if self.signal is None:
            return f"{command}: exited with status {self.returncode}"
        dumped = " (core dumped)" if self.core_dumped else ""
        return f"{command}: process terminated by signal {self.signal}: {signal_text(self.signal)}{dumped}"


def exit_from_wait(status: int, usage: object) -> Exit:
    """The Exit for the status and resource usage that os.wait4() gave."""
    return Exit(
        returncode=os.waitstatus_to_exitcode(status),
        core_dumped=os.WIFSIGNALED(status) and os.WCOREDUMP(status),
        max_rss_bytes=getattr(usage, "ru_maxrss", 0) * 1024,
        user_s=getattr(usage, "ru_utime", 0.0),
        system_s=getattr(usage, "ru_stime", 0.0),
    )


def signal_text(number: int) -> str:
    """strsignal(3)'s words for a signal."""
    return _signal.strsignal(number) or f"Unknown signal {number}"
