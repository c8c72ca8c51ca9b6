"""Owns a job's lines on our own stdout and stderr."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..core.exit import Exit
from ..core.lines import LineRenderer
from ..core.write import Stream

if TYPE_CHECKING:
    from ..core.batch import Batch
    from ..core.contracts import Flow, Loop, Timer
    from .fanin import FanIn

PARTIAL_S = 0.2
"""An unfinished line that stays alone this long is shown by itself: it may be a prompt."""


class JobTerminal:
    """A job's lines on our stdout and stderr: each whole, with the job's prefix, in order where both are the same place."""

    name = "terminal"
    wants_stamps = False

    def __init__(self, loop: Loop, fans: Mapping[Stream, FanIn], prefix: bytes, continued: bytes) -> None:
        self._loop = loop
        self._fans = fans
        self._lines = {stream: LineRenderer(prefix, continued) for stream in Stream}
        self._held = 0
        self._timer: Timer | None = None
        self._written_s = 0.0

    def open(self, flow: Flow) -> None:
        self._flow = flow
        for fan in set(self._fans.values()):
            fan.add(self)

    def hold(self) -> None:
        """A fan-in is stuck."""
        self._held += 1
        self._flow.pause()

    def go_on(self) -> None:
        """A fan-in is free again."""
        self._held -= 1
        if not self._held:
            self._flow.resume()

    def write(self, batch: Batch) -> None:
        fans, lines = self._fans, self._lines
        fan = fans[Stream.STDOUT]
        if fan is not fans[Stream.STDERR]:
            for stream in Stream:
                views, size_bytes = batch.chunks(stream)
                if size_bytes:
                    fans[stream].write(lines[stream].feed(b"".join(views)), stream, self)
        elif fan.merges:
            fan.write(b"".join([lines[stream].feed(b"".join(views)) for stream, views in batch.runs()]), Stream.STDOUT, self)
        else:
            for stream, views in batch.runs():
                fan.write(lines[stream].feed(b"".join(views)), stream, self)
        self._written_s = time.monotonic()
        if self._timer is None and any(each.held_bytes for each in lines.values()):
            self._timer = self._loop.call_later(PARTIAL_S, self._show_partial)

    def _show_partial(self) -> None:
        alone_s = time.monotonic() - self._written_s
        if alone_s < PARTIAL_S:
            self._timer = self._loop.call_later(PARTIAL_S - alone_s, self._show_partial)
            return
        self._timer = None
        self._flush()

    def _flush(self) -> None:
        for stream, lines in self._lines.items():
            self._fans[stream].write(lines.flush(), stream, self)

    def end(self, exit: Exit) -> None:
        self._flush()

    def close(self) -> int:
        if self._timer is not None:
            self._timer.cancel()
        for fan in self._fans.values():
            fan.discard(self)
        return 0
