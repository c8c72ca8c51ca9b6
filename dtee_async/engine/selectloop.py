"""Owns the smallest loop that can serve one command: the six calls of core.contracts.Loop over poll(2).

It exists for the start-up of the one-command line, which must not pay for importing asyncio. It has
a handful of fds, for which poll(2) is as fast as anything, and it is on every system.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import select
import time
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Self

WAKE_BYTES = 4096


class _Timer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class SelectLoop:
    """A loop for one thread; ``with SelectLoop() as loop: loop.run_until(lambda: done)``."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._readers: dict[int, Callable[[], object]] = {}
        self._writers: dict[int, Callable[[], object]] = {}
        self._timers: list[tuple[float, int, _Timer]] = []
        self._serial = count()
        self._soon: deque[Callable[[], object]] = deque()
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(self._wake, False)
        self.add_reader(self._woken, os.read, self._woken, WAKE_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._woken)
        os.close(self._wake)

    def add_reader(self, fd: int, callback: Callable[..., object], /, *args: object) -> None:
        self._set(self._readers, fd, (lambda: callback(*args)) if args else callback)

    def remove_reader(self, fd: int, /) -> bool:
        return self._unset(self._readers, fd)

    def add_writer(self, fd: int, callback: Callable[..., object], /, *args: object) -> None:
        self._set(self._writers, fd, (lambda: callback(*args)) if args else callback)

    def remove_writer(self, fd: int, /) -> bool:
        return self._unset(self._writers, fd)

    def _set(self, table: dict[int, Callable[[], object]], fd: int, callback: Callable[[], object]) -> None:
        table[fd] = callback
        self._poll.register(fd, self._events(fd))

    def _unset(self, table: dict[int, Callable[[], object]], fd: int) -> bool:
        if table.pop(fd, None) is None:
            return False
        if events := self._events(fd):
            self._poll.register(fd, events)
        else:
            self._poll.unregister(fd)
        return True

    def _events(self, fd: int) -> int:
        return (select.POLLIN if fd in self._readers else 0) | (select.POLLOUT if fd in self._writers else 0)

    def time(self) -> float:
        return time.monotonic()

    def call_later(self, delay: float, callback: Callable[..., object], /, *args: object) -> _Timer:
        timer = _Timer(lambda: callback(*args))
        heapq.heappush(self._timers, (time.monotonic() + delay, next(self._serial), timer))
        return timer

    def call_soon_threadsafe(self, callback: Callable[..., object], /, *args: object) -> None:
        self._soon.append(lambda: callback(*args))
        with contextlib.suppress(BlockingIOError):  # it was woken so often that the pipe is full
            os.write(self._wake, b"x")

    def run_until(self, done: Callable[[], bool]) -> None:
        """Serve callbacks until ``done()``, which is asked after each round."""
        while not done():
            for fd, events in self._poll.poll(self._wait_ms()):
                # An error or a hang-up is told to whoever waits: it finds out by its own call.
                if events & ~select.POLLOUT and (reader := self._readers.get(fd)):
                    reader()
                if events & ~select.POLLIN and (writer := self._writers.get(fd)):
                    writer()
            for _ in range(len(self._soon)):
                self._soon.popleft()()
            while self._timers and self._timers[0][0] <= time.monotonic():
                if callback := heapq.heappop(self._timers)[2].callback:
                    callback()

    def _wait_ms(self) -> float | None:
        if self._soon:
            return 0
        return max(0.0, self._timers[0][0] - time.monotonic()) * 1000 if self._timers else None
