"""Owns the iteration over what happens to the jobs of a supervisor."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from typing import Self

    from ..supervisor.events import Event

EVENTS_HELD = 1000
"""So many events wait for an iterator; of more than that the oldest are lost."""


@dataclass(frozen=True, slots=True)
class EventsLost:
    """An iterator did not keep up: ``count`` events that came just before the next one are lost."""

    count: int


class EventQueue:
    """The events that wait for one iterator, which it does not know."""

    def __init__(self, *, ended: bool) -> None:
        self.ended: bool = ended
        self.news: anyio.Event = anyio.Event()
        self._events: deque[Event] = deque()
        self._lost = 0

    def put(self, event: Event) -> None:
        if len(self._events) == EVENTS_HELD:
            self._events.popleft()
            self._lost += 1
        self._events.append(event)
        self.news.set()

    def end(self) -> None:
        self.ended = True
        self.news.set()

    def take(self) -> Event | EventsLost | None:
        if self._lost:
            lost, self._lost = self._lost, 0
            return EventsLost(lost)
        return self._events.popleft() if self._events else None


class Events:
    """What happens to the jobs of a supervisor, from now on until all is over; at most 1,000 events wait to be taken."""

    def __init__(self, queues: list[EventQueue], queue: EventQueue) -> None:
        self._queues = queues
        self._queue = queue
        queues.append(queue)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | EventsLost:
        queue = self._queue
        while (event := queue.take()) is None:
            if queue.ended:
                raise StopAsyncIteration
            if queue.news.is_set():
                queue.news = anyio.Event()
            await queue.news.wait()
        return event

    def close(self) -> None:
        """Iterate no more; also done when the iterator is no longer referred to. May be called twice."""
        self._queue.end()
        if self._queue in self._queues:
            self._queues.remove(self._queue)

    def __del__(self) -> None:
        self.close()
