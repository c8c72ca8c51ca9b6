"""Owns the counting of what a job writes: bytes of each stream, over all its runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.write import Stream

if TYPE_CHECKING:
    from ..core.batch import Batch
    from ..core.contracts import Flow
    from ..core.exit import Exit


class Counts:
    """How much was written so far."""

    def __init__(self) -> None:
        self.out_bytes = 0
        self.err_bytes = 0


class CountOutput:
    """Adds what is written to the counts."""

    name = "count"
    wants_stamps = False

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def open(self, flow: Flow) -> None:
        """Nothing is asked of the engine."""

    def write(self, batch: Batch) -> None:
        err_bytes = batch.size_of(Stream.STDERR)
        self._counts.err_bytes += err_bytes
        self._counts.out_bytes += batch.size_bytes - err_bytes

    def end(self, exit: Exit) -> None:
        """Nothing is held."""

    def close(self) -> int:
        return 0
