"""Owns writes kept in memory: what a Result is made of."""

from __future__ import annotations

from array import array
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Literal

from ..core.exit import Exit
from ..core.result import Captured
from ..errors import ConfigError

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

    @property
    def dropped_bytes(self) -> int:
        """Nothing is dropped."""
        return 0

    def captured(self) -> Captured:
        """Everything so far. Call it once, at the end: it takes the data along."""
        chunks, self._chunks = self._chunks, []
        return Captured(b"".join(chunks), self._lengths, bytes(self._streams), self._times_ns, self._pids, bytes(self._wholes))


def memory_for(limit_bytes: int | None, keep: Literal["head", "tail"]) -> MemoryOutput | BoundedMemory:
    """What keeps so much of the first or the last; None: everything. Raises ConfigError."""
    return MemoryOutput() if limit_bytes is None else BoundedMemory(limit_bytes, keep)


BLOCK_BYTES = 64 * 1024
BLOCK_WRITES = 4096


class _Block(MemoryOutput):
    """Some batches, side by side, which are dropped together."""

    def __init__(self) -> None:
        super().__init__()
        self.size_bytes = 0

    def write(self, batch: Batch) -> None:
        super().write(batch)
        self.size_bytes += batch.size_bytes

    @property
    def is_full(self) -> bool:
        return self.size_bytes >= BLOCK_BYTES or len(self._lengths) >= BLOCK_WRITES


class BoundedMemory:
    """Keeps the first or the last so many bytes, whole writes but for the one at the border; the rest is counted."""

    name = "memory"
    wants_stamps = True

    def __init__(self, limit_bytes: int, keep: Literal["head", "tail"]) -> None:
        """Raises ConfigError."""
        if limit_bytes < 0:
            raise ConfigError(f"limit_bytes: expected 0 or more, got {limit_bytes}")
        if keep not in ("head", "tail"):
            raise ConfigError(f"keep: expected head or tail, got {keep!r}")
        self.dropped_bytes: int = 0
        self._limit_bytes = limit_bytes
        self._keep = keep
        self._blocks: deque[_Block] = deque()
        self._size_bytes = 0

    def open(self, flow: Flow) -> None:
        """It is never full."""

    def write(self, batch: Batch) -> None:
        if self._keep == "head" and self._size_bytes >= self._limit_bytes:
            self.dropped_bytes += batch.size_bytes
            return
        if not self._blocks or self._blocks[-1].is_full:
            self._blocks.append(_Block())
        self._blocks[-1].write(batch)
        self._size_bytes += batch.size_bytes
        while self._keep == "tail" and self._blocks and self._size_bytes - self._blocks[0].size_bytes >= self._limit_bytes:
            size_bytes = self._blocks.popleft().size_bytes
            self._size_bytes -= size_bytes
            self.dropped_bytes += size_bytes

    def end(self, exit: Exit) -> None:
        """Nothing is held."""

    def close(self) -> int:
        return 0

    def captured(self) -> Captured:
        """What is kept. Call it once, at the end: it takes the data along."""
        writes = list(chain.from_iterable(block.captured() for block in self._blocks))
        self._blocks.clear()
        beyond = max(0, self._size_bytes - self._limit_bytes)
        self.dropped_bytes += beyond
        at = -1 if self._keep == "head" else 0
        while beyond and writes:
            write = writes[at]
            if len(write.data) <= beyond:
                beyond -= len(writes.pop(at).data)
                continue
            data = write.data[:-beyond] if at else write.data[beyond:]
            writes[at] = write._replace(data=data, whole=False)
            beyond = 0
        return Captured(
            b"".join(write.data for write in writes),
            array("I", [len(write.data) for write in writes]),
            bytes(write.stream for write in writes),
            array("q", [write.time_ns for write in writes]),
            array("i", [write.pid for write in writes]),
            bytes(write.whole for write in writes),
        )
