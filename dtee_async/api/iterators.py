"""Owns the iteration over a running job: its writes, or its lines. Who stops iterating, in whatever way, holds nobody back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

from ..core.textlines import Line, LineSplitter
from ..core.write import Write

if TYPE_CHECKING:
    from typing import Self

    from ..core.batch import Batch
    from ..output.consumers import Consumers

T = TypeVar("T")


class _News:
    """What the job's side knows of an iterator: not the iterator, so that one that is left is gone at once."""

    def __init__(self) -> None:
        self.event = anyio.Event()

    def tell(self) -> None:
        self.event.set()


class _Iterator(ABC, Generic[T]):
    def __init__(self, consumers: Consumers) -> None:
        self._news = _News()
        self._ready: deque[T] = deque()
        self._ended = False
        self._consumer = consumers.attach(self._news.tell)

    @abstractmethod
    def _of(self, batch: Batch) -> list[T]:
        """What this batch brings."""

    def _last(self) -> list[T]:
        """What is left at the end."""
        return []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._ready:
            self._news.event = anyio.Event()
            batch = self._consumer.take()
            if batch is not None:
                self._ready.extend(self._of(batch))
            elif not self._consumer.is_at_end:
                await self._news.event.wait()
            elif not self._ended:
                self._ended = True
                self._ready.extend(self._last())
                self.close()
            else:
                raise StopAsyncIteration
        return self._ready.popleft()

    def close(self) -> None:
        """Iterate no more; also done when the iterator is no longer referred to. May be called twice."""
        self._consumer.detach()

    def __del__(self) -> None:
        if hasattr(self, "_consumer"):
            self.close()


class Writes(_Iterator[Write]):
    """Each write of the job from now on, its data as bytes."""

    def _of(self, batch: Batch) -> list[Write]:
        return [write._replace(data=bytes(write.data)) for write in batch]


class Lines(_Iterator[Line]):
    """Each line of the job from now on, in the order in which they are completed."""

    def __init__(self, consumers: Consumers, limit_bytes: int) -> None:
        self._splitter = LineSplitter(limit_bytes)
        super().__init__(consumers)

    def _of(self, batch: Batch) -> list[Line]:
        return [line for write in batch for line in self._splitter.feed(write)]

    def _last(self) -> list[Line]:
        return self._splitter.end()
