"""Owns the batch: the writes that one receive call returned, in order; the unit that moves through the program.

The views of a received batch point into the receive buffer and are good only during the callback
that hands the batch over. Who needs it longer takes ``detach()``: one copy, shared by all who ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, compress, pairwise

from .write import Stream, Write

Chunk = bytes | memoryview
Stamps = tuple[Sequence[int], Sequence[int]]

_IS_STDOUT = bytes(int(value == Stream.STDOUT) for value in range(256))
_IS_STDERR = bytes(int(value == Stream.STDERR) for value in range(256))
_STDERR = int(Stream.STDERR)


class Batch:
    """Writes in the order in which the kernel queued them.

    ``views`` holds one buffer a write, ``lengths`` its size in bytes, ``streams`` one byte a write
    (the values of Stream); all three are equally long. ``stamps`` gives the times in ns and the
    pids when it is called; it is called at most once, and only by those who want them.
    """

    __slots__ = ("_detached", "_is_own", "_split", "_stamps", "lengths", "size_bytes", "streams", "views")

    def __init__(
        self,
        views: list[Chunk],
        lengths: Sequence[int],
        streams: bytes,
        stamps: Callable[[], Stamps] | None = None,
    ) -> None:
        self.views = views
        self.lengths = lengths
        self.streams = streams
        self.size_bytes = sum(lengths)
        self._stamps: Callable[[], Stamps] | Stamps | None = stamps
        self._split: tuple[tuple[list[Chunk], int], tuple[list[Chunk], int]] | None = None
        self._detached: Batch | None = None
        self._is_own = False

    def __len__(self) -> int:
        return len(self.views)

    def __iter__(self) -> Iterator[Write]:
        times_ns, pids = self.stamps()
        return map(Write, map(Stream, self.streams), self.views, times_ns, pids)

    def stamps(self) -> Stamps:
        """The time in ns and the pid of each write; zeros where they were not captured."""
        if self._stamps is None:
            zeros = (0,) * len(self.views)
            self._stamps = (zeros, zeros)
        elif callable(self._stamps):
            self._stamps = self._stamps()
        return self._stamps

    def of(self, stream: Stream | None) -> tuple[list[Chunk], int]:
        """The views of one stream (None: of both) and their size in bytes."""
        if stream is None:
            return self.views, self.size_bytes
        if self._split is None:
            self._split = self._divide()
        return self._split[stream - 1]

    def _divide(self) -> tuple[tuple[list[Chunk], int], tuple[list[Chunk], int]]:
        views, streams = self.views, self.streams
        errors = streams.count(_STDERR)
        if errors == 0:
            return (views, self.size_bytes), ([], 0)
        if errors == len(streams):
            return ([], 0), (views, self.size_bytes)
        is_stderr = streams.translate(_IS_STDERR)
        err_bytes = sum(compress(self.lengths, is_stderr))
        out = list(compress(views, streams.translate(_IS_STDOUT)))
        return (out, self.size_bytes - err_bytes), (list(compress(views, is_stderr)), err_bytes)

    def runs(self) -> Iterator[tuple[Stream, list[Chunk]]]:
        """The views, grouped into runs of the same stream."""
        streams, views = self.streams, self.views
        begin = 0
        while begin < len(streams):
            stream = streams[begin]
            other = Stream.STDOUT if stream == _STDERR else Stream.STDERR
            end = streams.find(other, begin)
            if end < 0:
                end = len(streams)
            yield Stream(stream), views[begin:end]
            begin = end

    def detach(self) -> Batch:
        """The same writes in memory of their own: good for ever, safe to hand to another thread."""
        if self._is_own:
            return self
        if self._detached is None:
            data = memoryview(b"".join(self.views))
            cuts = pairwise(accumulate(self.lengths, initial=0))
            batch = Batch([data[begin:end] for begin, end in cuts], self.lengths, self.streams)
            batch._stamps = self.stamps() if self._stamps is not None else None
            batch._is_own = True
            self._detached = batch
        return self._detached
