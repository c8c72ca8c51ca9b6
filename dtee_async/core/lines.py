"""Owns how one stream of a job becomes prefixed lines on a screen that many jobs share.

A piece on the screen is ``prefix + bytes + newline``. The first piece of a line has the one
prefix, a piece that goes on with the line before it has the other: so whoever strips the prefixes,
and the newline in front of each continuation, has the job's bytes again.
"""

from __future__ import annotations

LINE_BYTES = 64 * 1024
"""A line is split above this."""


class LineRenderer:
    """Turns the bytes of one stream into whole, prefixed lines; holds the last, unfinished one."""

    def __init__(self, prefix: bytes, continued: bytes) -> None:
        self._prefix = prefix
        self._continued = continued
        self._partial = bytearray()
        self._begun = False
        """A piece of the unfinished line was shown already."""

    @property
    def held_bytes(self) -> int:
        """How much of an unfinished line is held."""
        return len(self._partial)

    def feed(self, data: bytes) -> bytes:
        """The lines that are complete now, ready for the screen (maybe nothing)."""
        cut = data.rfind(b"\n") + 1
        if not cut:
            self._partial += data
            return self._split()
        self._partial += data[:cut]
        lines, self._partial = bytes(self._partial), bytearray(data[cut:])
        return self._render(lines) + self._split()

    def flush(self) -> bytes:
        """What is held, as a piece of its own; the rest of that line will be a continuation."""
        if not self._partial:
            return b""
        piece = self._start() + bytes(self._partial) + b"\n"
        self._partial.clear()
        self._begun = True
        return piece

    def _start(self) -> bytes:
        return self._continued if self._begun else self._prefix

    def _render(self, lines: bytes) -> bytes:
        if self._begun and lines[:1] == b"\n":  # the newline of a line that is on the screen, newline and all
            self._begun = False
            lines = lines[1:]
            if not lines:
                return b""
        if len(lines) > LINE_BYTES and any(len(line) > LINE_BYTES for line in lines.split(b"\n")):
            return b"".join(self._render_long(line) for line in lines[:-1].split(b"\n"))
        start = self._start()
        self._begun = False
        return start + lines[:-1].replace(b"\n", b"\n" + self._prefix) + b"\n"

    def _render_long(self, line: bytes) -> bytes:
        pieces = []
        for begin in range(0, max(len(line), 1), LINE_BYTES):
            pieces.append(self._start() + line[begin : begin + LINE_BYTES] + b"\n")
            self._begun = True
        self._begun = False
        return b"".join(pieces)

    def _split(self) -> bytes:
        pieces = []
        while len(self._partial) > LINE_BYTES:
            pieces.append(self._start() + bytes(self._partial[:LINE_BYTES]) + b"\n")
            self._begun = True
            del self._partial[:LINE_BYTES]
        return b"".join(pieces)
