"""Owns how the writes of a job become lines for a program: each with its stream, and the time of its first byte."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..errors import ConfigError
from .write import Stream, Write

LINE_BYTES = 1 << 20
"""A line is split above this, unless somebody says otherwise."""


class Line(NamedTuple):
    """A line of one stream, without its newline.

    ``time_ns``: when its first byte was written, in ns since the epoch; 0 where that is not known.
    ``complete`` is False for the end of a stream without a newline, and for each part but the last of
    a line that was too long: joined, the parts are the line.
    """

    stream: Stream
    data: bytes
    time_ns: int
    complete: bool

    @property
    def text(self) -> str:
        """As UTF-8; a byte that is none becomes a lone surrogate, and ``text.encode("utf-8", "surrogateescape")`` is the data again."""
        return self.data.decode("utf-8", "surrogateescape")


class LineSplitter:
    """Puts lines together, for each stream by itself; a line comes when it is complete."""

    def __init__(self, limit_bytes: int = LINE_BYTES) -> None:
        """Raises ConfigError."""
        if limit_bytes < 1:
            raise ConfigError(f"limit_bytes: expected 1 or more, got {limit_bytes}")
        self._limit_bytes = limit_bytes
        self._held = {stream: bytearray() for stream in Stream}
        self._times_ns = dict.fromkeys(Stream, 0)

    def feed(self, write: Write) -> Iterator[Line]:
        """The lines that this write completes, made one by one: there may be as many as bytes. Take them all before the next write."""
        stream, data, time_ns = write.stream, bytes(write.data), write.time_ns
        held, begin = self._held[stream], 0
        while (end := data.find(b"\n", begin)) >= 0:
            if held or end - begin > self._limit_bytes:
                yield from self._append(stream, data[begin:end], time_ns)
                yield Line(stream, bytes(held), self._times_ns[stream], True)
                held.clear()
            else:
                yield Line(stream, data[begin:end], time_ns, True)
            begin = end + 1
        if begin < len(data):
            yield from self._append(stream, data[begin:], time_ns)

    def _append(self, stream: Stream, data: bytes, time_ns: int) -> Iterator[Line]:
        """Hold it; what is beyond the limit comes as parts of a line."""
        held = self._held[stream]
        if not held:
            self._times_ns[stream] = time_ns
        held += data
        while len(held) > self._limit_bytes:
            part = bytes(held[: self._limit_bytes])
            del held[: self._limit_bytes]
            yield Line(stream, part, self._times_ns[stream], complete=False)

    def end(self) -> list[Line]:
        """What has no newline, the older first."""
        lines = [Line(stream, bytes(held), self._times_ns[stream], complete=False) for stream, held in self._held.items() if held]
        for held in self._held.values():
            held.clear()
        return sorted(lines, key=lambda line: line.time_ns)
