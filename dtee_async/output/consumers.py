"""Owns the hand-over of a job's writes to those who iterate over them: each has what came since it began, and the slowest sets the pace."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..core.batch import Batch

if TYPE_CHECKING:
    from ..core.contracts import Flow
    from ..core.exit import Exit

HELD_BYTES = 1 << 20
"""A consumer that has not taken this much holds the job back."""

LAST_BYTES = 8 << 20
"""A consumer that has not taken this much misses the rest, if the job is being ended, or if its taker waits for the end."""


class Border(Batch):
    """No writes: what comes after it is of another attempt."""

    def __init__(self) -> None:
        super().__init__([], (), b"")

    def detach(self) -> Batch:
        return self


class Consumer:
    """One who takes batches. ``on_change`` is called when there may be something new."""

    def __init__(self, consumers: Consumers, on_change: Callable[[], None]) -> None:
        self.on_change = on_change
        self.held_bytes: int = 0
        self.detached: bool = False
        self.taker: object = None
        """Who takes, as far as that is known: a task."""
        self.missed_bytes: int = 0
        """What came when it held as much as it may, and could not take it."""
        self._consumers = consumers
        self._batches: deque[Batch] = deque()

    def put(self, batch: Batch) -> None:
        self._batches.append(batch)
        self.held_bytes += batch.size_bytes
        self.on_change()

    def take(self) -> Batch | None:
        """The next batch, which is its own; None: there is nothing now."""
        if not self._batches:
            return None
        batch = self._batches.popleft()
        self.held_bytes -= batch.size_bytes
        self._consumers.balance()
        return batch

    @property
    def is_at_end(self) -> bool:
        """Whether nothing more will come."""
        return (self._consumers.ended or self.detached) and not self._batches

    def detach(self) -> None:
        """Take no more, and hold nobody back. May be called twice."""
        self._batches.clear()
        self.held_bytes = 0
        self._consumers.detach(self)
        self.on_change()


class Consumers:
    """An output that nothing is read for before ``begin()``; what nobody takes is counted."""

    name = "consumers"
    wants_stamps = True

    def __init__(self) -> None:
        self.ended: bool = False
        self.discarded_bytes: int = 0
        """What came when nobody was there to take it."""
        self._flow: Flow | None = None
        self._begun = False
        self._held_back = False
        self._ending = False
        self._waiting: list[object] = []
        self._consumers: list[Consumer] = []

    def attach(self, on_change: Callable[[], None]) -> Consumer:
        """One more, for what comes from now on; reading begins with the first."""
        consumer = Consumer(self, on_change)
        self._consumers.append(consumer)
        self.begin()
        return consumer

    def detach(self, consumer: Consumer) -> None:
        """It gets no more."""
        consumer.detached = True
        if consumer in self._consumers:
            self._consumers.remove(consumer)
            self.balance()

    def begin(self) -> None:
        """Read, whether anybody takes it or not."""
        self._begun = True
        self.balance()

    def hold_back(self, *, held: bool) -> None:
        """Do not read, until somebody says otherwise."""
        self._held_back = held and not self._ending
        self.balance()

    @contextmanager
    def awaited_by(self, taker: object) -> Iterator[None]:
        """While he waits for the end of the job he takes nothing, and holds it back with no consumer of his."""
        self._waiting.append(taker)
        self.begin()
        try:
            yield
        finally:
            self._waiting.remove(taker)
            self.balance()

    def let_go(self) -> None:
        """The job is being ended: from now on nobody holds it back."""
        self._ending = True
        self._held_back = False
        self.begin()

    def balance(self) -> None:
        """Have the job read, or not."""
        if self._flow is None or self.ended:
            return
        is_full = any(consumer.held_bytes >= HELD_BYTES and not self._is_let_go(consumer) for consumer in self._consumers)
        if not self._begun or self._held_back or is_full:
            self._flow.pause()
        else:
            self._flow.resume()

    def _is_let_go(self, consumer: Consumer) -> bool:
        return self._ending or consumer.taker in self._waiting

    def open(self, flow: Flow) -> None:
        self._flow = flow
        self.balance()

    def write(self, batch: Batch) -> None:
        if not self._consumers:
            self.discarded_bytes += batch.size_bytes
            return
        own = batch.detach()
        for consumer in list(self._consumers):
            if consumer.missed_bytes or (consumer.held_bytes >= LAST_BYTES and self._is_let_go(consumer)):
                consumer.missed_bytes += batch.size_bytes
            else:
                consumer.put(own)
        self.balance()

    def end(self, exit: Exit) -> None:
        """What consumers hold they can take after the end, too."""
        self.ended = True
        if self._flow is not None:
            self._flow.resume()
        for consumer in list(self._consumers):
            consumer.on_change()

    def close(self) -> int:
        self.ended = True
        return 0
