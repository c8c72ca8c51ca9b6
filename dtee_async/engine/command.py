"""Owns one command from spawn to outcome: spawn -> capture -> exit -> drain -> linger -> end the outputs -> close.

The child's exit decides, not an end of file: datagram sockets have none. After the exit:

1. DRAINING: receive what the child left in the queue, as fast as the outputs take it;
2. LINGERING: up to ``linger_s`` more for writers that it left behind (``bash -c 'exec > >(sed ...)'``
   would lose its tail otherwise), looking for them 5 to 200 ms apart, longer each time;
3. SETTLING: receive what those writers left in the queue;
4. ENDING: the outputs deliver what they hold;
5. DONE: everything is closed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ..core.batch import Batch
from ..core.exit import Exit
from ..core.write import Stream
from ..errors import UnknownExitStatusError
from ..output.spool import SpoolOutput
from ..process.child import Child, reap
from ..process.spawn import SpawnPlan, spawn
from .protocol import ROUNDS, Capture, Reading, Report

if TYPE_CHECKING:
    from ..core.contracts import Loop, Output, Timer, Transport
    from .relay import Relay

FIRST_LOOK_S = 0.005
LONGEST_LOOK_S = 0.2
ONE_BATCH = 64


class Phase(Enum):
    """Where a command is in its life; it only ever moves down this list."""

    RUNNING = 1
    DRAINING = 2
    LINGERING = 3
    SETTLING = 4
    ENDING = 5
    DONE = 6


class Outcome(NamedTuple):
    """What is known of a command after its end."""

    exit: Exit
    duration_s: float
    writers_left: bool
    """Somebody still held the child's stdout or stderr when we stopped listening."""
    dropped: Sequence[tuple[Output, int]]
    """Outputs that were given up, and how many bytes each had taken and not delivered."""
    error: OSError | None
    """Receiving failed, or the exit status could not be known."""
    relayed: bool = False
    """The bytes went to the outputs by tee(2) and splice(2)."""


class Command:
    """A running command. ``on_done(outcome)`` is called once, last, on the loop."""

    def __init__(
        self,
        loop: Loop,
        transport: Transport,
        outputs: Sequence[Output],
        report: Report,
        on_done: Callable[[Outcome], None],
        *,
        linger_s: float | None,
        rounds: int = ROUNDS,
        relay: Callable[[Capture], Relay] | None = None,
    ) -> None:
        """``linger_s`` None: nobody wants to know whether writers are left.

        ``relay``: makes what moves the bytes to the outputs, in the place of batches that they are shown.
        """
        self.phase: Phase = Phase.RUNNING
        self.on_exit: Callable[[], None] | None = None
        """Called when the child has exited and is not reaped yet: its pid cannot mean anybody else."""
        self._loop = loop
        self._transport = transport
        self._capture = Capture(loop, outputs, report)
        self._on_done = on_done
        self._linger_s = linger_s
        self._rounds = rounds
        self._relay = relay
        self._exit = Exit(0)
        self._error: OSError | None = None
        self._timer: Timer | None = None
        self._look_s = FIRST_LOOK_S
        self._drained = 0
        self._drain_limit = 0
        self._writers_left = False
        self._given_up = False
        self._advancing = False

    def start(self, plan: SpawnPlan) -> int:
        """Open the outputs and spawn the child; its pid. Raises SpawnError: call end_unstarted() then."""
        self._capture.open()
        self._reading = (
            Reading(self._loop, self._transport, self._capture, self._rounds) if self._relay is None else self._relay(self._capture)
        )
        self._started_s = time.monotonic()
        self._child: Child = self._transport.launch(partial(spawn, plan))
        if not self._capture.blocked:  # an output may not want anything yet
            self._reading.resume_reading()
        self._loop.add_reader(self._child.exit_fd, self._exited)
        return self._child.pid

    def end_unstarted(self, status: int, message: bytes = b"") -> None:
        """End as if there had been a child that wrote this to its stderr and exited with this status."""
        self._exit = Exit(status)
        self._duration_s = 0.0
        if message:
            self._capture.datagrams_received(Batch([message], [len(message)], bytes([Stream.STDERR])))
        self._end()
        self._advance()

    def read_now(self) -> None:
        """Hand on what is queued now, without waiting for more: for somebody who is about to leave."""
        self._drain()

    def _exited(self) -> None:
        self._loop.remove_reader(self._child.exit_fd)
        if self.on_exit is not None:
            self.on_exit()
        try:
            self._exit = reap(self._child)
        except UnknownExitStatusError as error:
            self._error = error
        self._duration_s = time.monotonic() - self._started_s
        self.phase = Phase.DRAINING
        self._capture.on_room = self._advance
        self._advance()
        if self._given_up:
            self.give_up()

    def _advance(self) -> None:
        """Go on as far as the outputs have room; called again when they have."""
        if self._advancing:  # by an output that was full and has room again, in the middle of a batch: the others have that first
            return
        self._advancing = True
        try:
            self._advance_phases()
        finally:
            self._advancing = False

    def _advance_phases(self) -> None:
        if self.phase is Phase.DRAINING and self._drain():
            self.phase = Phase.LINGERING
            self._linger_until_s = time.monotonic() + (self._linger_s or 0)
        if self.phase is Phase.LINGERING and self._timer is None and not self._linger():
            self.phase = Phase.SETTLING
            self._drained = 0
        if self.phase is Phase.SETTLING and self._drain():
            self._end()
        if self.phase is Phase.ENDING and not self._capture.blocked:
            self._finish()

    def _drain(self) -> bool:
        """Receive until the queue is empty, or until all that a process gone by now can have left in it is here."""
        while not self._capture.blocked:
            received = self._reading.read()
            self._drained += received
            if not received or (self._drained > ONE_BATCH and self._drained > self._limit()):
                return True
        return False

    def _limit(self) -> int:
        if not self._drain_limit:
            self._drain_limit = self._transport.queue_limit() + ONE_BATCH
        return self._drain_limit

    def _linger(self) -> bool:
        """Whether to listen on, for writers that the child left behind."""
        if self._linger_s is None:
            return False
        self._writers_left = self._transport.writers_left()
        if not self._writers_left or time.monotonic() >= self._linger_until_s:
            return False
        self._timer = self._loop.call_later(self._look_s, self._look)
        self._look_s = min(self._look_s * 2, LONGEST_LOOK_S)
        return True

    def _look(self) -> None:
        self._timer = None
        self._advance()

    def _end(self) -> None:
        self.phase = Phase.ENDING
        self._reading.close()
        self._capture.on_room = None  # an output may pause and resume while it is told
        for flow in self._capture.flows:
            if self._failure is not None and isinstance(flow.output, SpoolOutput):
                flow.output.release()  # output is missing, or nobody knows how it ended: that is something to report
            flow.output.end(self._exit)
        self._capture.on_room = self._advance

    def _finish(self) -> None:
        self.phase = Phase.DONE
        self._capture.on_room = None
        if self._timer is not None:
            self._timer.cancel()
        self._reading.close()
        dropped = self._close_outputs()
        self._on_done(Outcome(self._exit, self._duration_s, self._writers_left, dropped, self._failure, self._relay is not None))

    @property
    def _failure(self) -> OSError | None:
        return self._error or self._capture.error

    def _close_outputs(self) -> list[tuple[Output, int]]:
        closed = [(flow.output, flow.output.close() + flow.missed_bytes) for flow in self._capture.flows]
        return [(output, size_bytes) for output, size_bytes in closed if size_bytes]

    def give_up(self) -> None:
        """From the exit on, do not wait for outputs that are stuck or writers that are left; what outputs hold is dropped and counted."""
        self._given_up = True
        if self.phase in (Phase.DRAINING, Phase.LINGERING, Phase.SETTLING):
            self._capture.on_room = None
            while self._capture.leave_out_the_full():
                self._drain()
            self._end()
        if self.phase is Phase.ENDING:
            self._finish()
