"""Owns how a command's writes are to be captured: the modes' names, and the wishes that go with them."""

from __future__ import annotations

from typing import NamedTuple

MODES = ("auto", "ordered", "turnstile", "pipe", "pty")
WATCH_FDS = {"1-2": (1, 2), "1-9": (1, 9)}
"""The fd numbers whose writes a turnstile orders: programs that duplicate their stdout to a higher number need the larger range."""

LINGER_S = {"exit": 1.0, "writers": 3600.0}
"""What can be waited for, and how long the output of a job is listened to after its exit, unless it says so itself."""


class CaptureSpec(NamedTuple):
    """How to capture.

    ``mode``: one of MODES. ``watch_fds``: a key of WATCH_FDS, for ``turnstile``. ``no_new_privs``:
    ``auto`` may set it where a turnstile needs it; asking for ``turnstile`` allows it by itself.
    For ``pty``: ``interactive`` makes the terminal the command's stdin, too; ``stderr_apart``
    leaves stderr out of it, on a pipe.
    """

    mode: str = "auto"
    watch_fds: str = "1-2"
    no_new_privs: bool = False
    interactive: bool = False
    stderr_apart: bool = False

    def problem(self) -> str | None:
        """What is wrong with it: the key and what was expected; None if nothing is."""
        if self.mode not in MODES:
            return f"capture: expected one of {', '.join(MODES)}, got {self.mode!r}"
        if self.watch_fds not in WATCH_FDS:
            return f"watch_fds: expected one of {', '.join(WATCH_FDS)}, got {self.watch_fds!r}"
        for key, value in (("interactive", self.interactive), ("stderr_apart", self.stderr_apart)):
            if value and self.mode != "pty":
                return f'{key}: goes with capture = "pty", which is a terminal'
        return None


AUTO = CaptureSpec()
"""What holds where nothing is said."""
