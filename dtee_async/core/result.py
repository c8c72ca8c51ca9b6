"""Owns what a finished command leaves to its caller: the captured writes, stored once, and how it ended."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import accumulate, chain, compress, pairwise, repeat
from typing import NamedTuple, overload

from .exit import Exit
from .write import Stream, Write, stream_of


class Captured(Sequence[Write]):
    """Every write of a command, in order, as views of one bytes object."""

    def __init__(  # noqa: PLR0917 - the columns of a table
        self,
        data: bytes,
        lengths: Sequence[int],
        streams: bytes,
        times_ns: Sequence[int],
        pids: Sequence[int],
        wholes: bytes,
    ) -> None:
        self.data = data
        self._ends = array("Q", accumulate(lengths))
        self._streams = streams
        self._times_ns = times_ns
        self._pids = pids
        self._wholes = wholes
        self._view = memoryview(data)

    def __len__(self) -> int:
        return len(self._ends)

    def __repr__(self) -> str:
        return f"<Captured: {len(self)} writes, {len(self.data)} bytes>"

    def __reduce__(self) -> tuple[object, ...]:
        lengths = [end - begin for begin, end in pairwise(chain((0,), self._ends))]
        return Captured, (self.data, lengths, self._streams, self._times_ns, self._pids, self._wholes)

    @overload
    def __getitem__(self, index: int) -> Write: ...
    @overload
    def __getitem__(self, index: slice) -> list[Write]: ...
    def __getitem__(self, index: int | slice) -> Write | list[Write]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        begin = self._ends[index - 1] if index else 0
        data = self._view[begin : self._ends[index]]
        return Write(Stream(self._streams[index]), data, self._times_ns[index], self._pids[index], bool(self._wholes[index]))

    def __iter__(self) -> Iterator[Write]:
        cuts = map(slice, chain((0,), self._ends), self._ends)
        data = map(self._view.__getitem__, cuts)
        return map(Write, map(stream_of, self._streams), data, self._times_ns, self._pids, map(bool, self._wholes))

    def of(self, stream: Stream) -> bytes:
        """The bytes of one stream, in order."""
        mine = [value == stream for value in self._streams]
        if all(mine):
            return self.data
        begins = [0, *self._ends]
        return b"".join(self._view[begins[i] : begins[i + 1]] for i in compress(range(len(mine)), mine))


class Result(NamedTuple):
    """How a command ended, and all that it wrote.

    ``started`` is in UTC. ``max_rss`` is in bytes, ``cpu`` in seconds, of the command itself and of
    the children that it waited for (getrusage(2)); ``max_rss`` is at least ours at the spawn.
    ``mode`` is the capture mode, ``reason`` why it is this one, where that is not evident. ``exact``
    says whether the order across the two streams is the order of the writes; ``lossless``, whether
    all that was written is in here as far as is known.
    ``dropped_bytes``: how much was written and is not in here, because it was more than was to be kept.
    ``writers_left``: some process that the command left behind still held its stdout or stderr, and
    what it wrote later is not in here.
    """

    command: str
    exit: Exit
    writes: Captured
    mode: str
    exact: bool
    lossless: bool
    reason: str
    writers_left: bool
    started: datetime
    duration_s: float
    dropped_bytes: int = 0

    @property
    def truncated(self) -> bool:
        """Whether more was written than is in here, as was asked for."""
        return self.dropped_bytes > 0

    @property
    def returncode(self) -> int:
        """The exit status, or -N for a death by signal N, as subprocess has it."""
        return self.exit.returncode

    @property
    def signal(self) -> int | None:
        """The number of the signal that ended it, or None."""
        return self.exit.signal

    @property
    def combined(self) -> bytes:
        """Both streams, in the order of the writes."""
        return self.writes.data

    @property
    def stdout(self) -> bytes:
        """What it wrote to stdout."""
        return self.writes.of(Stream.STDOUT)

    @property
    def stderr(self) -> bytes:
        """What it wrote to stderr."""
        return self.writes.of(Stream.STDERR)

    @property
    def max_rss(self) -> int:
        """Peak resident memory in bytes."""
        return self.exit.max_rss_bytes

    @property
    def cpu(self) -> float:
        """Processor time in seconds, user and system."""
        return self.exit.user_s + self.exit.system_s


class PipelineResult(NamedTuple):
    """How the commands of a pipeline ended, each with what was captured of it: stderr, and of the last one stdout, too."""

    results: tuple[Result, ...]

    @property
    def returncode(self) -> int:
        """That of the last command that did not end with 0, as pipefail of the shells has it; 0 when there is none. -N for signal N."""
        return next((result.returncode for result in reversed(self.results) if result.returncode), 0)

    @property
    def stdout(self) -> bytes:
        """What came out at the end."""
        return self.results[-1].stdout

    def writes(self) -> Iterator[tuple[int, Write]]:
        """Every write that was captured, with the number of its command, by the time of the write."""
        each = (zip(repeat(number), result.writes, strict=False) for number, result in enumerate(self.results))
        return heapq.merge(*each, key=lambda numbered: numbered[1].time_ns)
