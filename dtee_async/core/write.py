"""Owns the smallest value: one write(2) of a child."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple


class Stream(IntEnum):
    """The child's file descriptor that a write was made to."""

    STDOUT = 1
    STDERR = 2


stream_of: Callable[[int], Stream] = {int(stream): stream for stream in Stream}.__getitem__
"""The Stream of a value, in a tenth of the time that Stream(value) takes."""


class Write(NamedTuple):
    """One write of a child, whole.

    ``time_ns`` is the time of the write in ns since the epoch, ``pid`` the process that made it;
    both are 0 where the capture mode cannot know them or nobody asked. ``whole`` is False where this
    may be a part of a write, or several that were read at once: a pipe keeps no borders.
    """

    stream: Stream
    data: bytes | memoryview
    time_ns: int
    pid: int
    whole: bool = True
