"""Owns the batch: the writes that one receive call returned, in order; the unit that moves through the program.

The views of a received batch point into the receive buffer and are good only during the callback
that hands the batch over. Who needs it longer takes ``detach()``: one copy, shared by all who ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, compress, pairwise, repeat

from .write import Stream, Write, stream_of

Chunk = bytes | memoryview
Stamps = tuple[Sequence[int], Sequence[int]]

_IS_STDOUT = bytes(int(value == Stream.STDOUT) for value in range(256))
_IS_STDERR = bytes(int(value == Stream.STDERR) for value in range(256))
_STDERR = int(Stream.STDERR)
_NOTHING: tuple[list[Chunk], int] = [], 0

JOIN_BYTES = 16 * 1024
"""Buffers are joined up to this size: copying so little costs less than a long vector in writev(2), which every output would pay for."""


def join_small(views: list[Chunk], size_bytes: int) -> list[Chunk]:
    """The same bytes, in one buffer if they are few."""
    return [b"".join(views)] if size_bytes <= JOIN_BYTES and len(views) > 1 else views


class Batch:
    """Writes in the order in which the kernel queued them.

    ``views`` holds one buffer a write, ``lengths`` its size in bytes, ``streams`` one byte a write
    (the values of Stream); all three are equally long. ``stamps`` gives the times in ns and the
    pids when it is called; it is called at most once, and only by those who want them. ``wholes``
    is one byte a write, 0 where it may be less or more than one write(2); None says that all are whole.
    """

    __slots__ = ("_detached", "_is_own", "_joined", "_split", "_stamps", "lengths", "size_bytes", "streams", "views", "wholes")

    def __init__(
        self,
        views: list[Chunk],
        lengths: Sequence[int],
        streams: bytes,
        stamps: Callable[[], Stamps] | None = None,
        wholes: bytes | None = None,
    ) -> None:
        self.views: list[Chunk] = views
        self.lengths: Sequence[int] = lengths
        self.streams: bytes = streams
        self.size_bytes: int = sum(lengths)
        self.wholes: bytes | None = wholes
        self._stamps: Callable[[], Stamps] | Stamps | None = stamps
        self._joined: tuple[list[Chunk], int] | None = None
        self._split: tuple[tuple[list[Chunk], int], tuple[list[Chunk], int]] | None = None
        self._detached: Batch | None = None
        self._is_own = False

    def __len__(self) -> int:
        return len(self.views)

    def __iter__(self) -> Iterator[Write]:
        return self._writes(self.views)

    def as_bytes(self) -> Iterator[Write]:
        """The writes, each with its data as bytes of its own."""
        return self._writes(map(bytes, self.views))

    def _writes(self, data: Iterable[Chunk]) -> Iterator[Write]:
        times_ns, pids = self.stamps()
        wholes = repeat(True) if self.wholes is None else map(bool, self.wholes)
        return map(Write, map(stream_of, self.streams), data, times_ns, pids, wholes)

    def stamps(self) -> Stamps:
        """The time in ns and the pid of each write; zeros where they were not captured."""
        if self._stamps is None:
            zeros = (0,) * len(self.views)
            self._stamps = (zeros, zeros)
        elif callable(self._stamps):
            self._stamps = self._stamps()
        return self._stamps

    def chunks(self, stream: Stream | None) -> tuple[list[Chunk], int]:
        """The bytes of one stream (None: of both) in the fewest buffers that are cheap to make, and their size in bytes."""
        if stream is None:
            joined = self._joined
            if joined is None:
                joined = self._joined = join_small(self.views, self.size_bytes), self.size_bytes
            return joined
        if self._split is None:
            self._split = self._divide()
        return self._split[stream - 1]

    def _divide(self) -> tuple[tuple[list[Chunk], int], tuple[list[Chunk], int]]:
        streams = self.streams
        errors = streams.count(_STDERR)
        if errors == 0:
            return self.chunks(None), _NOTHING
        if errors == len(streams):
            return _NOTHING, self.chunks(None)
        out = compress(self.views, streams.translate(_IS_STDOUT))
        err = compress(self.views, streams.translate(_IS_STDERR))
        if self.size_bytes > JOIN_BYTES:
            out_views, err_views = list(out), list(err)
            err_bytes = sum(map(len, err_views))
            return (out_views, self.size_bytes - err_bytes), (err_views, err_bytes)
        out_data, err_data = b"".join(out), b"".join(err)
        return ([out_data], len(out_data)), ([err_data], len(err_data))

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

    def size_of(self, stream: Stream) -> int:
        """How many bytes are of one stream."""
        if stream not in self.streams:
            return 0
        return sum(compress(self.lengths, self.streams.translate(_IS_STDOUT if stream == Stream.STDOUT else _IS_STDERR)))

    def detach(self) -> Batch:
        """The same writes in memory of their own: good for ever, safe to hand to another thread."""
        if self._is_own:
            return self
        if self._detached is None:
            data = memoryview(b"".join(self.views))
            cuts = pairwise(accumulate(self.lengths, initial=0))
            batch = Batch([data[begin:end] for begin, end in cuts], self.lengths, self.streams, wholes=self.wholes)
            batch._stamps = self.stamps() if self._stamps is not None else None
            batch._is_own = True
            self._detached = batch
        return self._detached
