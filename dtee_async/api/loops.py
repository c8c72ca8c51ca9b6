"""Owns the loop of a host application as we use it: what its captures share, and that Ctrl-C cuts none of our callbacks short."""

from __future__ import annotations

import _signal  # signal's own functions look for an enum member each time, which takes longer than many a callback
import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import TYPE_CHECKING, Any

import anyio

from ..engine.captures import Captures
from ..errors import LoopError

if TYPE_CHECKING:
    from ..core.contracts import Timer

_SHARED = "_dtee_async_captures"
"""The attribute of a loop. A table of ours with the loops as its keys would keep each alive, as what is shared refers to its loop."""


class HostLoop:
    """The loop of the application, as a Loop of ours. A KeyboardInterrupt is raised after a callback of ours, and never in it.

    Who runs a loop by ``asyncio.run()`` has no such exception in callbacks; with ``loop.run_until_complete()``, or in a notebook, it
    could come between a receive and the outputs, and what was received would be lost.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.time: Callable[[], float] = loop.time
        self.remove_reader: Callable[[int], object] = loop.remove_reader
        self.remove_writer: Callable[[int], object] = loop.remove_writer
        self._loop = loop

    def add_reader(self, fd: int, callback: Callable[..., object], /, *args: object) -> object:
        return self._loop.add_reader(fd, _uninterrupted, callback, *args)

    def add_writer(self, fd: int, callback: Callable[..., object], /, *args: object) -> object:
        return self._loop.add_writer(fd, _uninterrupted, callback, *args)

    def call_later(self, delay: float, callback: Callable[..., object], /, *args: object) -> Timer:
        return self._loop.call_later(delay, _uninterrupted, callback, *args)

    def call_soon_threadsafe(self, callback: Callable[..., object], /, *args: object) -> object:
        return self._loop.call_soon_threadsafe(_uninterrupted, callback, *args)


def _uninterrupted(callback: Callable[..., object], *args: object) -> None:
    if _signal.getsignal(_signal.SIGINT) is not _signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        callback(*args)  # it is not there that it would be raised
        return
    interrupts: list[object] = []
    _signal.signal(_signal.SIGINT, lambda *interrupt: interrupts.append(interrupt))
    try:
        callback(*args)
    finally:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        if interrupts:
            raise KeyboardInterrupt


async def until_done(tasks: Iterable[asyncio.Task[Any]], on_cancel: Callable[[], object] = bool) -> None:
    """Wait for the end of tasks. Being cancelled meanwhile, by whatever means, does not cut that short: ``on_cancel`` may hurry them."""
    cancelled: asyncio.CancelledError | None = None
    while pending := [task for task in tasks if not task.done()]:
        try:
            with anyio.CancelScope(shield=True):
                await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancelled = error
            on_cancel()
    if cancelled is not None:
        raise cancelled


def loop_runs() -> bool:
    """Whether this thread is in a loop of asyncio's or uvloop's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def running_loop() -> asyncio.AbstractEventLoop:
    """Raises LoopError where none runs, or trio's."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError as error:
        raise LoopError(
            "dtee_async needs a running asyncio event loop (asyncio's own or uvloop's); none runs in this thread, trio's is none"
        ) from error


def captures_of_loop() -> Captures:
    """What all captures of this loop share, gone with the loop."""
    loop = running_loop()
    shared: tuple[Captures, AsyncGenerator[None]] | None = vars(loop).get(_SHARED)
    if shared is None:
        captures = Captures()
        end = _at_the_end(loop, captures)
        with contextlib.suppress(StopIteration):
            end.__anext__().send(None)
        shared = vars(loop)[_SHARED] = captures, end
    return shared[0]


async def _at_the_end(loop: asyncio.AbstractEventLoop, captures: Captures) -> AsyncGenerator[None]:
    """An asynchronous generator is what a loop closes at its own end: ``loop.shutdown_asyncgens()``, which asyncio.run() calls."""
    try:
        yield
    finally:
        del vars(loop)[_SHARED]
        captures.let_go_idle()
