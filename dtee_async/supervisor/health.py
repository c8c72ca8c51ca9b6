"""Owns the readiness and the health of one attempt of a job: what has said that it is ready, and what says that it is not well.

All that its Health gives has to say ready. The liveness probe counts for that only where nothing
else tells health: its first success does then. The readiness probe and STOPPING=1 can take it back.
The watchdog runs from READY=1 on, as systemd's does: no program has to feed it while it starts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

import anyio

from ..output.logline import LogLine
from .job import NOTHING, Surroundings
from .notify import Notice, NotificationPipe, NotifySocket
from .probes import Prober, Verdict, open_check

if TYPE_CHECKING:
    from ..core.contracts import Loop, Output, Timer
    from ..core.policy import Health
    from ..core.spec import JobSpec


class Sign(Enum):
    """What can say that a job is ready."""

    LOG_LINE = "ready_log_line"
    NOTIFY = "sd_notify"
    NOTIFICATION_FD = "notification_fd"
    STARTUP = "startup probe"
    READINESS = "readiness probe"
    LIVENESS = "liveness probe"


def signs_of(health: Health) -> set[Sign]:
    """What has to say that a job is ready, before it is."""
    given = {
        Sign.NOTIFY: health.sd_notify,
        Sign.NOTIFICATION_FD: health.notification_fd is not None,
        Sign.STARTUP: health.startup_probe,
        Sign.READINESS: health.readiness_probe,
    }
    signs = {sign for sign, is_given in given.items() if is_given}
    if health.liveness_probe and not signs:
        signs.add(Sign.LIVENESS)
    return signs | {Sign.LOG_LINE} if health.ready_log_line else signs


class HealthWatch:
    """Watches one attempt. The callbacks are called on the loop, from spawned() until the end of run().

    ``on_ready``: everything has said that it is ready, or is so again. ``on_log_ready``: the log line
    was seen. ``on_unready``: it is ready no more, and why. ``on_failed``: it is to be ended, and why;
    nothing more is asked then. ``on_status``: words of the job (STATUS=), or about its notifications
    and its readiness probe; until close(). Raises SpawnError when there can be no socket or pipe.
    """

    def __init__(
        self,
        loop: Loop,
        spec: JobSpec,
        *,
        on_ready: Callable[[], None],
        on_log_ready: Callable[[], None],
        on_unready: Callable[[str], None],
        on_failed: Callable[[str], None],
        on_status: Callable[[str], None],
        surroundings: Surroundings = NOTHING,
    ) -> None:
        self.environment: dict[str, str] = {}
        """To be added to the command's (see core.policy.NOT_INHERITED)."""
        self.child_fds: dict[int, int] = {}
        """For the numbers that the child is to have, which fd of ours each is."""
        self.outputs: list[Output] = []
        """To be among the command's."""
        self.main_pid: int | None = None
        """MAINPID=, as the job says it."""
        self._loop = loop
        self._health = spec.health
        self._on_ready, self._on_log_ready, self._on_unready = on_ready, on_log_ready, on_unready
        self._on_failed, self._on_status = on_failed, on_status
        self._missing = signs_of(spec.health)
        self._is_ready = self._is_over = False
        self._status = ""
        self._asking = anyio.CancelScope()
        self._starving: Timer | None = None
        self._socket: NotifySocket | None = None
        self._pipe: NotificationPipe | None = None
        health = spec.health
        probes = {Sign.STARTUP: health.startup_probe, Sign.READINESS: health.readiness_probe, Sign.LIVENESS: health.liveness_probe}
        self._probes = {sign: (probe, open_check(loop, probe, spec, surroundings)) for sign, probe in probes.items() if probe is not None}
        try:
            self._open(health)
        except BaseException:
            self.close()
            raise

    def _open(self, health: Health) -> None:
        if health.ready_log_line:
            self.outputs.append(LogLine(re.compile(health.ready_log_line.encode()), self._log_line_seen))
        if health.sd_notify:
            self._socket = NotifySocket(self._heard, self._on_status)
            self.environment["NOTIFY_SOCKET"] = self._socket.address
        if health.watchdog_seconds:  # and no WATCHDOG_PID: whichever process of the job feeds it (sd_watchdog_enabled(3))
            self.environment["WATCHDOG_USEC"] = str(max(1, round(health.watchdog_seconds * 1e6)))
        if health.notification_fd is not None:
            self._pipe = NotificationPipe(lambda: self._said(Sign.NOTIFICATION_FD))
            self.child_fds[health.notification_fd] = self._pipe.child_fd

    def spawned(self, pid: int) -> None:
        """The command runs, as the leader of a session: close what it has now, and listen to it."""
        if self._socket is not None:
            self._socket.job_pid = pid
            self._loop.add_reader(self._socket.fd, self._socket.receive)
        if self._pipe is not None:
            self._pipe.close_child_fd()
            self._loop.add_reader(self._pipe.fd, self._receive_newline)

    async def run(self) -> None:
        """Make the probes, until it is cancelled; begun right after spawned(). What the job says is heard until close()."""
        try:
            with self._asking:
                await self._probe()
            await anyio.Event().wait()
        finally:
            self._end()

    def close(self) -> None:
        """Release everything, whether or not the command could be spawned; may be called twice."""
        self._end()
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fd)
            self._socket.close()
            self._socket = None
        if self._pipe is not None:
            self._loop.remove_reader(self._pipe.fd)
            self._pipe.close()
            self._pipe = None

    def _end(self) -> None:
        """From now on it is neither ready nor failed."""
        self._is_over = True
        self._asking.cancel()
        if self._starving is not None:
            self._starving.cancel()
            self._starving = None

    def _fail(self, reason: str) -> None:
        if not self._is_over:
            self._end()
            self._on_failed(reason)

    # What it takes to be ready

    def _said(self, sign: Sign) -> None:
        self._missing.discard(sign)
        if not (self._missing or self._is_ready or self._is_over):
            self._is_ready = True
            self._on_ready()

    def _unsaid(self, sign: Sign, reason: str) -> None:
        self._missing.add(sign)
        if self._is_ready:
            self._is_ready = False
            self._on_unready(reason)
        else:
            self._on_status(reason)

    def _log_line_seen(self) -> None:
        if not self._is_over:
            self._on_log_ready()
            self._said(Sign.LOG_LINE)

    # What the job says

    def _receive_newline(self) -> None:
        if self._pipe is not None and not self._pipe.receive():
            self._loop.remove_reader(self._pipe.fd)

    def _heard(self, notice: Notice) -> None:
        self.main_pid = notice.main_pid or self.main_pid
        if notice.status is not None and notice.status != self._status:
            self._status = notice.status
            self._on_status(notice.status)
        if self._is_over:
            return
        if notice.stuck:
            self._fail("sd_notify: it says itself that it is stuck (WATCHDOG=trigger)")
        elif notice.stopping:
            self._stopping()
        else:
            self._ready_or_alive(notice)

    def _stopping(self) -> None:
        """It ends itself: it has stopped to answer, and to feed the watchdog, for a good reason."""
        self._end()
        self._unsaid(Sign.NOTIFY, "sd_notify: it says that it is stopping")

    def _ready_or_alive(self, notice: Notice) -> None:
        if notice.ready:
            self._said(Sign.NOTIFY)
        if (notice.ready or notice.alive) and Sign.NOTIFY not in self._missing and not self._is_over:
            self._feed()

    def _feed(self) -> None:
        if self._starving is not None:
            self._starving.cancel()
        if self._health.watchdog_seconds:
            self._starving = self._loop.call_later(self._health.watchdog_seconds, self._starved)

    def _starved(self) -> None:
        self._starving = None
        if self._socket is not None:
            self._socket.receive()  # it may have been fed while we were kept from listening
        if self._starving is None:
            self._fail(f"sd_notify: no WATCHDOG=1 for {self._health.watchdog_seconds:g} s")

    # What it answers

    async def _probe(self) -> None:
        begun_s = self._loop.time()
        probers = {sign: Prober(probe, check, begun_s) for sign, (probe, check) in self._probes.items()}
        if startup := probers.pop(Sign.STARTUP, None):
            verdict = await startup.wait_change()
            if not verdict.passed:
                self._fail(self._reason(Sign.STARTUP, verdict))
                return
            self._said(Sign.STARTUP)
        async with anyio.create_task_group() as group:
            for sign, prober in probers.items():
                group.start_soon(self._follow, sign, prober)

    async def _follow(self, sign: Sign, prober: Prober) -> None:
        while True:
            verdict = await prober.wait_change()
            if verdict.passed:
                self._said(sign)
            elif sign is Sign.READINESS:
                self._unsaid(sign, self._reason(sign, verdict))
            else:
                self._fail(self._reason(sign, verdict))
                return

    def _reason(self, sign: Sign, verdict: Verdict) -> str:
        probe, _ = self._probes[sign]
        times = f" {probe.failure_threshold} times in a row" if probe.failure_threshold > 1 else ""
        return f"{sign.value} failed{times}: {verdict.against}"
