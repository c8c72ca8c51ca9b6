"""Owns who runs when not all may run at once (``max_parallel``), and says when all who do are waited for by others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from .events import JobWaiting

if TYPE_CHECKING:
    from .service import Service


class Places:
    """So many jobs run at once; 0: all. Who comes first is served first."""

    def __init__(self, count: int, tell: Callable[[JobWaiting], None]) -> None:
        self._count = count
        self._tell = tell
        self._free = anyio.Semaphore(count)
        self._taken: dict[Service, None] = {}
        self._waiting: dict[Service, None] = {}
        self._told = False

    async def take(self, service: Service) -> None:
        """Wait for a place."""
        if not self._count:
            return
        self._waiting[service] = None
        try:
            self._look()
            await self._free.acquire()
        finally:
            del self._waiting[service]
        self._taken[service] = None
        self._look()

    def give_back(self, service: Service) -> None:
        """Its place is the next one's."""
        if self._count:
            del self._taken[service]
            self._told = False
            self._free.release()

    def _look(self) -> None:
        """What somebody depends on who waits for a place only need not end: when all that run are such, nothing may happen any more.

        Who came last is looked at first, as that is mostly one that ends.
        """
        if self._told or not self._waiting or len(self._taken) < self._count:
            return
        if all(any(other in self._waiting for other in service.before) for service in reversed(self._taken)):
            self._told = True
            first = next(service for service in self._waiting if any(other in self._taken for other, _ in service.after))
            names = ", ".join(service.spec.name for service in self._taken)
            reason = f"no more than max_parallel = {self._count} may run, and those that do are what others wait for: {names}"
            self._tell(JobWaiting(first.spec.name, reason))
