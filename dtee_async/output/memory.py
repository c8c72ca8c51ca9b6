"""Owns writes kept in memory: what a Result is made of."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from ..core.exit import Exit
from ..core.result import Captured

if TYPE_CHECKING:
    from ..core.batch import Batch
    from ..core.contracts import Flow


class MemoryOutput:
    """Keeps every write: its bytes once, and 18 bytes for its length, stream, time, writer and wholeness."""

    name = "memory"
    wants_stamps = True

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._lengths = array("I")
        self._streams = bytearray()
        self._wholes = bytearray()
        self._times_ns = array("q")
        self._pids = array("i")

    def open(self, flow: Flow) -> None:
        """It is never full."""

    def write(self, batch: Batch) -> None:
        self._chunks.append(b"".join(batch.views))
        self._lengths.extend(batch.lengths)
        self._streams += batch.streams
        self._wholes += batch.wholes if batch.wholes is not None else b"\1" * len(batch)
        times_ns, pids = batch.stamps()
        self._times_ns.extend(times_ns)
        self._pids.extend(pids)

    def end(self, exit: Exit) -> None:
        """Nothing is held."""

    def close(self) -> int:
        return 0

    def captured(self) -> Captured:
        """Everything so far. Call it once, at the end: it takes the data along."""
        chunks, self._chunks = self._chunks, []
        return Captured(b"".join(chunks), self._lengths, bytes(self._streams), self._times_ns, self._pids, bytes(self._wholes))
