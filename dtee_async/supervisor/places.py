"""Owns who runs when not all may run at once (``max_parallel``), and says when all who do are waited for by others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
        self._told: frozenset[Service] = frozenset()

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
            self._free.release()

    def _look(self) -> None:
        """A server that others wait for does not end while they do: with too few places for such, nothing would happen any more."""
        if len(self._taken) < self._count or not all(service.before for service in self._taken):
            return
        holders = frozenset(self._taken)
        for service in self._waiting:
            if holders != self._told and holders <= _needed(self._waiting) and holders & _needed([service]):
                self._told = holders
                names = ", ".join(other.spec.name for other in self._taken)
                reason = f"no more than max_parallel = {self._count} may run, and those that do are what others wait for: {names}"
                self._tell(JobWaiting(service.spec.name, reason))


def _needed(services: Iterable[Service]) -> set[Service]:
    """What they depend on, and what that depends on."""
    queue = list(services)
    found: set[Service] = set()
    for service in queue:  # it grows meanwhile
        new = {other for other, _ in service.after} - found
        queue += new
        found |= new
    return found
