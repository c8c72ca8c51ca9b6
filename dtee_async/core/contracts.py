"""Owns the contracts that hold the house together: what a loop, a transport and an output must offer.

A transport brings writes to us, an output takes them away, and neither knows an event loop: the
engine polls the transport's fd, and the output asks the engine for what it needs through its Flow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from .batch import Batch
from .exit import Exit

T = TypeVar("T")


class Timer(Protocol):
    """What call_later returns."""

    def cancel(self) -> None: ...


class Loop(Protocol):
    """All that we ask of an event loop; asyncio's, uvloop's and our own select loop offer it."""

    def add_reader(self, fd: int, callback: Callable[..., object], /, *args: object) -> object: ...
    def remove_reader(self, fd: int, /) -> object: ...
    def add_writer(self, fd: int, callback: Callable[..., object], /, *args: object) -> object: ...
    def remove_writer(self, fd: int, /) -> object: ...
    def call_later(self, delay: float, callback: Callable[..., object], /, *args: object) -> Timer: ...
    def call_soon_threadsafe(self, callback: Callable[..., object], /, *args: object) -> object: ...
    def time(self) -> float: ...


class ChildFds(NamedTuple):
    """What a child is to be given. ``terminal``: its stdout is to be its controlling terminal, and it needs a session of its own."""

    stdout: int
    stderr: int
    stdin: int | None = None
    """None: whatever the plan of the command says."""
    terminal: bool = False


class Transport(Protocol):
    """Serves the stdout and stderr of one child."""

    mode: str
    """The capture mode's name, for the user."""
    exact: bool
    """Whether the order across the two streams is exact."""
    apart: bool
    """Whether stdout and stderr are told apart; if not, everything is stdout."""
    fds: Sequence[int]
    """The fds to poll for reading; replaced by another sequence, never changed, when one of them has come to its end."""

    def launch(self, spawn: Callable[[ChildFds], T]) -> T:
        """Call what spawns the child, with the fds that it gets, and close our copies of them; once. What ``spawn`` raises is raised."""
        ...

    def receive(self) -> Batch | None:
        """What is there now, bounded in count and bytes; None when nothing is. Never blocks.

        Raises CaptureError when the system says that output was lost or cannot be received.
        """
        ...

    def recycle(self, batch: Batch) -> None:
        """Take the memory of a batch back to the system; called when an unusually large one is used up."""
        ...

    def queue_limit(self) -> int:
        """How many writes the kernel can hold at most: what an exited child can have left."""
        ...

    def writers_left(self) -> bool:
        """Whether any process but us still holds one of the child's fds."""
        ...

    def close(self) -> None:
        """Close every fd; may be called twice."""
        ...


class Flow(Protocol):
    """What an output may ask of the engine that feeds it, on the loop's thread."""

    def pause(self) -> None:
        """I am full: no more batches, please. The job stops reading, and its child will block in write(2)."""
        ...

    def resume(self) -> None:
        """I have room again."""
        ...

    def report(self, error: OSError) -> None:
        """A write failed; said once per run of failures. The other outputs go on."""
        ...

    def when_writable(self, fd: int, callback: Callable[[], None] | None) -> None:
        """Call back whenever the fd takes data; None ends that."""
        ...


class Output(Protocol):
    """A place where writes go.

    After ``end`` the output is done as soon as it is not paused; ``close`` comes last, always, once.
    """

    name: str
    """What the user calls it, for messages."""
    wants_stamps: bool
    """Whether it looks at times and pids: the capture costs more then."""

    def open(self, flow: Flow) -> None:
        """Called once, before the first batch."""
        ...

    def write(self, batch: Batch) -> None:
        """Take the whole batch, never block, keep no view of it; pause the flow when full."""
        ...

    def end(self, exit: Exit) -> None:
        """No more batches: deliver what is held. Stay paused, or pause, as long as that takes."""
        ...

    def close(self) -> int:
        """Release everything; the number of bytes that were taken and not delivered."""
        ...
