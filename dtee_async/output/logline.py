"""Owns the search for one line in what a command writes: the line that says it is ready."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..core.exit import Exit
from ..core.write import Stream

if TYPE_CHECKING:
    from ..core.batch import Batch, Chunk
    from ..core.contracts import Flow

PARTIAL_BYTES = 64 * 1024
"""Of a line that does not end, the last so many bytes are looked at."""

_CSI = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]")
"""A control sequence (ECMA-48, 5.4): colours, mostly, and they may stand in the middle of a word."""

_LEADING_ANYTHING = re.compile(rb"\A(?:\.\*\??)+(?![*+?{])")
"""``.*ready`` is found where ``ready`` is, but takes the square of a line's length."""

# \A, \Z, negative lookaround, what never goes back, conditions, (?-m:...)
_LINE_BY_LINE = re.compile(rb"\\[AZz]|\(\?<?!|\(\?>|\(\?\(|[*+?}]\+|\(\?[a-zA-Z]*-")
"""What can match in a line alone, and not in that line among others."""

_WHATEVER_FOLLOWS = (b"", b"x", b" ")


class LogLine:
    """An output that calls back once, when the pattern is found in a line of either stream; it costs nothing afterwards.

    A line is searched without its line ending and without control sequences. Of a line that has not
    ended, what is there is searched too, where the match does not depend on what may follow: its
    end is no ``$`` yet, and a word that ends there may go on.
    """

    name = "ready_log_line"
    wants_stamps = False

    def __init__(self, pattern: re.Pattern[bytes], on_found: Callable[[], None]) -> None:
        source = _LEADING_ANYTHING.sub(b"", pattern.pattern)
        self._pattern = re.compile(source, pattern.flags)
        self._among_others = None if _LINE_BY_LINE.search(source) else re.compile(source, pattern.flags | re.MULTILINE)
        self._on_found: Callable[[], None] | None = on_found
        self._partial: dict[Stream, bytes] = {}

    def open(self, flow: Flow) -> None:
        """It is never full."""

    def write(self, batch: Batch) -> None:
        if self._on_found is None:
            return
        for stream in Stream:
            chunks, size_bytes = batch.chunks(stream)
            if size_bytes and self._is_in(stream, chunks):
                on_found, self._on_found, self._partial = self._on_found, None, {}
                on_found()
                return

    def end(self, exit: Exit) -> None:
        """Nothing is held that anybody waits for."""

    def close(self) -> int:
        self._on_found = None
        return 0

    def _is_in(self, stream: Stream, chunks: Iterable[Chunk]) -> bool:
        data = b"".join([self._partial.get(stream, b""), *chunks])
        cut = data.rfind(b"\n") + 1
        begun = self._partial[stream] = data[max(cut, len(data) - PARTIAL_BYTES) :]
        return (cut > 0 and self._is_in_lines(_plain(data[:cut]))) or (begun != b"" and self._is_in_begun(_plain(begun)))

    def _is_in_lines(self, lines: bytes) -> bool:
        """All at once, which is many times faster. A hit may reach over the end of its line, so it is looked at again, by itself."""
        if self._among_others is None:
            return any(map(self._pattern.search, lines[:-1].split(b"\n")))
        end = -1
        while hit := self._among_others.search(lines, end + 1):
            begin = lines.rfind(b"\n", 0, hit.start()) + 1
            end = lines.find(b"\n", begin)
            if end < 0:  # an empty match behind the last newline
                return False
            if self._pattern.search(lines[begin:end]):
                return True
        return False

    def _is_in_begun(self, line: bytes) -> bool:
        return all(self._pattern.search(line + more) for more in _WHATEVER_FOLLOWS)


def _plain(data: bytes) -> bytes:
    if b"\x1b" in data:
        data = _CSI.sub(b"", data)
    return data.replace(b"\r\n", b"\n")
