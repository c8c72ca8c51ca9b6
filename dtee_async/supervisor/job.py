"""Owns one job as a task awaits it: a command in a session of its own, and the end of its whole process group."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio

from ..engine.command import Command, Outcome
from ..process.group import members, signal_group
from ..process.spawn import SpawnPlan
from ..transport.datagram import DatagramTransport

if TYPE_CHECKING:
    from ..core.contracts import Loop, Output
    from ..core.spec import JobSpec
    from ..engine.protocol import Report
    from ..transport.recvmmsg import ReceiveBuffer

LINGER_S = 1.0
"""How long a job's output is listened to after its exit, for writers that it left behind."""

AFTER_KILL_S = 1.0
"""How long outputs may go on delivering, and killed processes may take to vanish, when the grace period is over."""


class Job:
    """A JobSpec that is running. Raises CaptureError when its sockets cannot be made; the outputs stay the caller's until start()."""

    def __init__(self, loop: Loop, buffer: ReceiveBuffer, spec: JobSpec, outputs: Sequence[Output], report: Report) -> None:
        self.spec = spec
        self.pid = 0
        self._transport = DatagramTransport(buffer, stamped=any(output.wants_stamps for output in outputs))
        self.mode, self.exact = self._transport.mode, self._transport.exact
        self._command = Command(loop, self._transport, outputs, report, self._ended, linger_s=LINGER_S)
        self._done = anyio.Event()
        self._outcome: Outcome | None = None

    def start(self) -> None:
        """Spawn it. Raises SpawnError, with everything closed, outputs too."""
        spec = self.spec
        try:
            self.pid = self._command.start(SpawnPlan(spec.argv, spec.working_dir, spec.environment))
        except BaseException:
            self._command.end_unstarted(0)
            raise

    def _ended(self, outcome: Outcome) -> None:
        self._outcome = outcome
        self._done.set()

    async def wait(self) -> Outcome:
        """Until the command has ended and its outputs have everything."""
        await self._done.wait()
        assert self._outcome is not None
        return self._outcome

    async def stop(self, grace_s: float) -> None:
        """TERM to the whole group, KILL after ``grace_s`` seconds; returns when nobody of it is left, and the outputs are closed.

        When the processes are gone, outputs may go on delivering what they hold for half of that
        time, but no longer than to its end; what is stuck then is dropped and counted.
        """
        deadline_s = anyio.current_time() + grace_s
        signal_group(self.pid, signal.SIGTERM)
        with anyio.move_on_after(grace_s):
            await self._processes_gone()
        if signal_group(self.pid, signal.SIGKILL):
            with anyio.move_on_after(AFTER_KILL_S):  # a process that cannot even be killed is not waited for
                await self._processes_gone()
        deliver_s = min(grace_s / 2, deadline_s - anyio.current_time())
        with anyio.move_on_after(max(deliver_s, AFTER_KILL_S)):
            await self._done.wait()
            return
        self._command.give_up()
        with anyio.move_on_after(AFTER_KILL_S):
            await self._done.wait()

    def kill(self) -> None:
        """KILL to the whole group, and no waiting for outputs."""
        signal_group(self.pid, signal.SIGKILL)
        self._command.give_up()

    async def _processes_gone(self) -> None:
        while left := members(self.pid):
            try:
                pidfd = os.pidfd_open(left[0].pid)
            except ProcessLookupError:
                continue
            try:
                await anyio.wait_readable(pidfd)
            finally:
                os.close(pidfd)
