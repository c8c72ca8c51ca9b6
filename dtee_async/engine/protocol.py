"""Owns the straight line: readable -> transport.receive() -> output.write(batch) for each output.

Capture is an asyncio protocol (connection_made, datagrams_received, error_received,
connection_lost), fed by Reading, our own asyncio transport on loop.add_reader, which receives a
whole batch at a time. The rules:

- a synchronous callback: no await, no task, no queue and no object per write;
- a few receives a loop turn, so that no job starves another;
- an output that is full pauses the reading; the child then blocks in its own write(2). It is not
  unblocked before every output has room: at most one batch is held per output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from ..core.batch import Batch
from ..core.write import Stream
from ..errors import CaptureError

if TYPE_CHECKING:
    from ..core.contracts import Loop, Output, Transport

ROUNDS = 4
"""Batches a loop turn: a busy writer has queued the next while we wrote the last, and asking the loop in between would cost more."""

HUGE_BYTES = 4 << 20
"""After a batch of more than this, the transport is told that its memory is free again."""

Report = Callable[["Output", OSError], None]


class Pausable(Protocol):
    """Who feeds a Capture."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class OutputFlow:
    """What one output may ask of its capture (core.contracts.Flow)."""

    __slots__ = ("_capture", "is_left_out", "missed_bytes", "output", "paused")

    def __init__(self, capture: Capture, output: Output) -> None:
        self._capture = capture
        self.output: Output = output
        self.paused: bool = False
        self.is_left_out: bool = False
        self.missed_bytes: int = 0
        """What came when it was left out already."""

    def pause(self) -> None:
        if not self.paused and not self.is_left_out:
            self.paused = True
            self._capture.output_paused()

    def resume(self) -> None:
        if self.paused:
            self.paused = False
            self._capture.output_resumed()

    def leave_out(self) -> None:
        """It gets nothing more; what it misses is counted."""
        self.is_left_out = True
        self.resume()

    def miss(self, batch: Batch) -> None:
        """In the place of its output's write()."""
        self.missed_bytes += batch.size_bytes

    def report(self, error: OSError) -> None:
        self._capture.report(self.output, error)

    def when_writable(self, fd: int, callback: Callable[[], None] | None) -> None:
        if callback is None:
            self._capture.loop.remove_writer(fd)
        else:
            self._capture.loop.add_writer(fd, callback)


class Capture:
    """Hands every batch to every output, and stops the reading while one of them is full."""

    def __init__(self, loop: Loop, outputs: Sequence[Output], report: Report) -> None:
        self.loop = loop
        self.report = report
        self.flows: list[OutputFlow] = [OutputFlow(self, output) for output in outputs]
        self.blocked: int = 0
        """How many outputs are full."""
        self.on_room: Callable[[], None] | None = None
        """Called when the last full output has room again."""
        self.error: OSError | None = None
        self._writes = [output.write for output in outputs]
        self._reading: Pausable | None = None

    def open(self) -> None:
        for flow in self.flows:
            flow.output.open(flow)

    def connection_made(self, transport: Pausable) -> None:
        self._reading = transport

    def datagrams_received(self, batch: Batch) -> None:
        """Every write of the batch to every output, in order."""
        for write in self._writes:
            write(batch)

    def datagram_received(self, data: bytes, addr: object) -> None:
        """One write at a time, from a standard datagram endpoint; the last character of the address is 1 or 2."""
        stream = Stream.STDERR if str(addr).endswith("2") else Stream.STDOUT
        self.datagrams_received(Batch([data], [len(data)], bytes([stream])))

    def leave_out_the_full(self) -> bool:
        """Outputs that are full get nothing more: they hold nobody up any longer. Whether there are any."""
        full = [flow for flow in self.flows if flow.paused]
        for flow in full:
            flow.leave_out()
        self._writes = [flow.miss if flow.is_left_out else flow.output.write for flow in self.flows]
        return bool(full)

    def output_paused(self) -> None:
        self.blocked += 1
        if self.blocked == 1 and self._reading is not None:
            self._reading.pause_reading()

    def output_resumed(self) -> None:
        self.blocked -= 1
        if self.blocked:
            return
        if self._reading is not None:
            self._reading.resume_reading()
        if self.on_room is not None:
            self.on_room()

    def error_received(self, exc: OSError) -> None:
        """The system says that output was lost: kept for the outcome, never swallowed."""
        self.error = exc

    def connection_lost(self, exc: Exception | None) -> None:
        self._reading = None


class Reading:
    """Reads a Transport on a loop: what asyncio calls a transport."""

    def __init__(self, loop: Loop, transport: Transport, protocol: Capture, rounds: int = ROUNDS) -> None:
        self._loop = loop
        self._transport = transport
        self._rounds = rounds
        self._protocol = protocol
        self._fds = transport.fds
        self._polled = False
        self._closed = False
        self._failed = False
        protocol.connection_made(self)

    def pause_reading(self) -> None:
        if self._polled:
            self._polled = False
            for fd in self._fds:
                self._loop.remove_reader(fd)

    def resume_reading(self) -> None:
        if not self._polled and not self._closed:
            self._polled = True
            self._fds = self._transport.fds
            for fd in self._fds:
                self._loop.add_reader(fd, self._ready)

    def _ready(self) -> None:
        for _ in range(self._rounds):
            if not self.read() or not self._polled:
                return

    def read(self) -> int:
        """Receive one batch and hand it on; the number of writes in it, or of errors; 0 when there is nothing more."""
        if self._closed:
            return 0
        try:
            batch = self._transport.receive()
        except CaptureError as error:
            self._protocol.error_received(error)
            if self._failed:  # it does not pass: our end is closed, so that the child fails and does not hang
                self.close()
                return 0
            self._failed = True
            return 1  # what was written after the loss is there
        self._failed = False
        if self._transport.fds is not self._fds and self._polled:  # one of them has come to its end
            self.pause_reading()
            self.resume_reading()
        if batch is None:
            return 0
        self._protocol.datagrams_received(batch)
        if batch.size_bytes > HUGE_BYTES:
            self._transport.recycle(batch)
        return len(batch.views) or 1

    def close(self) -> None:
        self.pause_reading()
        self._closed = True
        self._transport.close()
        self._protocol.connection_lost(None)
