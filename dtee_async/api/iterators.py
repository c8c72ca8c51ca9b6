"""Owns the iteration over a running job: its writes, or its lines. Who stops iterating, in whatever way, holds nobody back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from errno import ENOBUFS
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

from ..core.batch import Batch
from ..core.textlines import Line, LineSplitter
from ..core.write import Write
from ..errors import OutputError
from ..output.consumers import Border

if TYPE_CHECKING:
    from typing import Self

    from ..output.consumers import Consumers

T = TypeVar("T")

ITEMS_A_TURN = 256
"""So many items are handed out before the loop has a turn, as there may be 100,000 lines in what was received at once."""


class _Source(Generic[T]):
    """What an iterator takes from. It does not know the iterator, so that one that is left is gone at once."""

    def __init__(self, consumers: Consumers, of: Callable[[Batch], Iterator[T]], last: Callable[[], Iterable[T]]) -> None:
        """``of``: what a batch brings; ``last``: what is left at the end."""
        self._of = of
        self._last = last
        self.ready: Iterator[T] = iter(())
        """What was taken already, and can be had without waiting."""
        self._news = anyio.Event()
        self._ended = False
        self._consumer = consumers.attach(self._tell)
        self._consumer.taker = asyncio.current_task()
        self.taken: int = 0
        """Items since the loop had its turn."""

    def _tell(self) -> None:
        self._news.set()

    async def next(self) -> T:
        self._consumer.taker = asyncio.current_task()
        while True:
            for item in self.ready:
                return item
            if self._news.is_set():  # several tasks may wait for the same one
                self._news = anyio.Event()
            batch = self._consumer.take()
            if batch is not None:
                self.ready = self._of(batch)
            elif not self._consumer.is_at_end:
                self.taken = 0
                await self._news.wait()
            elif not self._ended:
                self._ended = True
                self.ready = iter(self._last())
                self._consumer.detach()
            elif missed_bytes := self._consumer.missed_bytes:
                self._consumer.missed_bytes = 0
                raise OutputError(ENOBUFS, f"{missed_bytes} bytes came while nobody took any, and are lost", "iterator")
            else:
                raise StopAsyncIteration

    def close(self) -> None:
        self._ended = True
        self.ready = iter(())
        self._consumer.detach()


class _Iterator(Generic[T]):
    def __init__(self, source: _Source[T]) -> None:
        self._source = source

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        source = self._source
        if source.taken == ITEMS_A_TURN:
            source.taken = 0
            await asyncio.sleep(0)
        for item in source.ready:
            source.taken += 1
            return item
        try:
            return await source.next()
        except BaseException:
            del self  # a traceback keeps this frame, and is not to keep an iterator that nobody else has
            raise

    def close(self) -> None:
        """Iterate no more; also done when the iterator is no longer referred to. May be called twice."""
        self._source.close()

    def __del__(self) -> None:
        if hasattr(self, "_source"):
            self.close()


class Writes(_Iterator[Write]):
    """Each write of the job from now on, its data as bytes."""

    def __init__(self, consumers: Consumers) -> None:
        super().__init__(_Source(consumers, Batch.as_bytes, tuple))


class Lines(_Iterator[Line]):
    """Each line of the job from now on, in the order in which they are completed."""

    def __init__(self, consumers: Consumers, limit_bytes: int) -> None:
        """Raises ConfigError."""
        splitter = LineSplitter(limit_bytes)

        def lines(batch: Batch) -> Iterator[Line]:
            if isinstance(batch, Border):
                return iter(splitter.end())
            return (line for write in batch for line in splitter.feed(write))

        super().__init__(_Source(consumers, lines, splitter.end))
