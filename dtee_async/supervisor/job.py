"""Owns one job as a task awaits it: a command in a session of its own, and the end of its whole process group."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import anyio

from ..core.platforms import HERE, promise
from ..engine.command import Command, Outcome
from ..engine.keyboard import Keyboard
from ..errors import SpawnError
from ..process.child import open_pidfd
from ..process.group import members, signal_group
from ..process.spawn import SpawnPlan
from ..transport.pty import PtyTransport

if TYPE_CHECKING:
    from ..core.contracts import Loop, Output
    from ..core.spec import JobSpec
    from ..engine.captures import Captures
    from ..engine.protocol import Report

LOOK_S = 0.02

AFTER_KILL_S = 1.0
"""How long outputs may go on delivering, and killed processes may take to vanish, when the grace period is over."""


class Job:
    """A JobSpec that is running. Raises CaptureError when it cannot be captured; the outputs stay the caller's until start()."""

    def __init__(self, loop: Loop, captures: Captures, spec: JobSpec, outputs: Sequence[Output], report: Report) -> None:
        self.spec = spec
        self.pid = 0
        self.unguarded: SpawnError | None = None
        """Why it would outlive this process, should that be killed, although it was to die with it."""
        self._loop = loop
        self._captures = captures
        self._plan = SpawnPlan(spec.argv, spec.working_dir, spec.environment)
        self.capturing = captures.open(spec.capture, self._plan, stamped=any(output.wants_stamps for output in outputs))
        self._losses = captures.losses(loop, self.capturing.transport)
        if self._losses is not None:
            outputs = [*outputs, self._losses.tail]
        self._command = Command(loop, self.capturing.transport, outputs, report, self._ended, linger_s=spec.listen_s)
        self._keyboard: Keyboard | None = None
        self._done = anyio.Event()
        self._outcome: Outcome | None = None

    def start(self) -> None:
        """Spawn it. Raises SpawnError, with everything closed, outputs too."""
        if self._losses is not None:
            self._losses.begin(self._plan.environment)
        transport = self.capturing.transport
        if self.spec.capture.interactive and isinstance(transport, PtyTransport):
            self._keyboard = Keyboard(self._loop, transport.terminal_fd, full_screen=False)
        guardian = self._captures.guardian if self.spec.die_with_supervisor else None
        if guardian is not None:
            self._try_to_guard(guardian.prepare)
        try:
            self.pid = self._command.start(self._plan)
        except BaseException:
            self._command.end_unstarted(0)
            if guardian is not None:
                guardian.let_go_if_idle()
            raise
        if guardian is not None and self.unguarded is None:
            self._try_to_guard(partial(guardian.guard_group, self.pid))
            self._command.on_exit = partial(guardian.forget_group, self.pid)
        if self._keyboard is not None:
            self._keyboard.start()

    def _try_to_guard(self, step: Callable[[], None]) -> None:
        try:
            step()
        except SpawnError as error:
            self.unguarded = error

    @property
    def loss(self) -> str:
        """What was seen that speaks for lost output, in words; empty: nothing."""
        return self._losses.seen if self._losses is not None else ""

    @property
    def lossless(self) -> bool:
        """Whether nothing speaks for lost output, and the capture mode is not known to lose any on this system."""
        _, lossless = promise(HERE, self.capturing.transport.mode)
        return lossless and not self.loss

    def resize(self, rows: int, columns: int) -> None:
        """Our window has another size now: so has the terminal of the job, if it has one."""
        if isinstance(self.capturing.transport, PtyTransport):
            self.capturing.transport.resize(rows, columns)

    def _ended(self, outcome: Outcome) -> None:
        if self._keyboard is not None:
            self._keyboard.close()
        if self._losses is not None:
            self._losses.end()
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
                pidfd = open_pidfd(left[0].pid)
            except ProcessLookupError:  # gone since we looked; or, without /proc, a leader that is gone stands for the others
                await self._next_look()
                continue
            if pidfd is None:
                await self._next_look()
                continue
            try:
                await anyio.wait_readable(pidfd)
            finally:
                os.close(pidfd)

    async def _next_look(self) -> None:
        """Until it is time to look again: without pidfds nothing tells when a process that is not our child has gone."""
        time = anyio.Event()
        timer = self._loop.call_later(LOOK_S, time.set)
        try:
            await time.wait()
        finally:
            timer.cancel()
