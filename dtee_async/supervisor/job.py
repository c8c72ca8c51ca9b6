"""Owns one job as a task awaits it: a command in a session of its own, and the end of all its processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import anyio

from ..core.contracts import ChildFds
from ..core.platforms import HERE, promise
from ..core.spec import SHELL
from ..engine.command import Command, Outcome
from ..engine.keyboard import Keyboard
from ..errors import SpawnError, UnknownExitStatusError
from ..process.child import Child, Kin, reap
from ..process.descendants import with_cookie
from ..process.group import Member, signal_group
from ..process.spawn import SpawnPlan, spawn
from ..transport.pty import PtyTransport
from .stop import AFTER_KILL_S, Census, Processes

if TYPE_CHECKING:
    from ..core.contracts import Loop, Output
    from ..core.spec import JobSpec
    from ..engine.captures import Captures, Capturing
    from ..engine.protocol import Report
    from ..process.fdlimit import FdLimit
    from ..process.guardian import Guardian


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a job is given by who runs it; nothing, in a library.

    ``environment`` is added to the job's own. ``extra_fds``: the child's number -> our fd, which stays
    ours. ``census``: then all processes of the job are ended with it, also those that left its
    group; for a process that is a subreaper. ``fd_limit``: whose soft limit of open fds it gets.
    ``stdin``: False for /dev/null, True for ours, or an fd of ours, which stays ours.
    ``stdout``: such an fd in the place of a captured stdout. ``guardian``: for what is run beside it, a probe.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    extra_fds: Mapping[int, int] = field(default_factory=dict)
    census: Census | None = None
    fd_limit: FdLimit | None = None
    stdin: bool | int = False
    stdout: int | None = None
    guardian: Guardian | None = None

    @property
    def kin(self) -> Kin | None:
        """Who is told of each child that is spawned."""
        return self.census.family if self.census is not None else None


NOTHING = Surroundings()

NOT_STARTED = 127
"""What outputs are told that a command ended with that could not be started: the shell's status for it."""


class Job:
    """A JobSpec that is running. Raises CaptureError when it cannot be captured; the outputs stay the caller's until start()."""

    def __init__(
        self,
        loop: Loop,
        captures: Captures,
        spec: JobSpec,
        outputs: Sequence[Output],
        report: Report,
        *,
        surroundings: Surroundings = NOTHING,
    ) -> None:
        self.spec = spec
        self.pid: int = 0
        self.unguarded: SpawnError | None = None
        """Why it would outlive this process, should that be killed, although it was to die with it."""
        self.stop_problem: str = ""
        """What is to be said of ``shutdown.command``, if it did not do its work."""
        self._loop = loop
        self._captures = captures
        self._census = surroundings.census
        self._cookie = self._census.family.new_cookie() if self._census is not None else ""
        self._plan = SpawnPlan(
            spec.argv,
            spec.working_dir,
            self._environment(surroundings),
            stdin=surroundings.stdin,
            stdout=surroundings.stdout,
            privileges=spec.privileges,
            extra_fds=surroundings.extra_fds,
            fd_limit=surroundings.fd_limit,
            kin=surroundings.kin,
        )
        self.capturing: Capturing = captures.open(spec.capture, self._plan, stamped=any(output.wants_stamps for output in outputs))
        self._losses = captures.losses(loop, self.capturing.transport)
        if self._losses is not None:
            outputs = [*outputs, self._losses.tail]
        self._command = Command(loop, self.capturing.transport, outputs, report, self._ended, linger_s=spec.listen_s)
        self._keyboard: Keyboard | None = None
        self._exited = anyio.Event()
        self._done = anyio.Event()
        self.outcome: Outcome | None = None
        """How it ended, when its outputs have everything."""
        self._processes: Processes | None = None
        self._asking: set[anyio.CancelScope] = set()
        self._killed = False

    def _environment(self, surroundings: Surroundings) -> Mapping[str, str] | None:
        environment = self.spec.environment
        if surroundings.environment:
            environment = {**(os.environ if environment is None else environment), **surroundings.environment}
        return with_cookie(environment, self._cookie) if self._cookie else environment

    def start(self) -> None:
        """Spawn it. Raises SpawnError, with everything closed, outputs too."""
        transport = self.capturing.transport
        if self.spec.capture.interactive and isinstance(transport, PtyTransport):
            self._keyboard = Keyboard(self._loop, transport.terminal_fd, full_screen=False)
        guardian = self._guardian
        if guardian is not None:
            self._try_to_guard(guardian.prepare)
        try:
            if self._losses is not None:
                self._losses.begin(self._plan.environment)
            self.pid = self._command.start(self._plan)
        except BaseException:
            self._command.end_unstarted(NOT_STARTED)
            self._command.give_up()  # should an output want to deliver something first
            if guardian is not None:
                guardian.let_go_if_idle()
            raise
        self._processes = Processes(self._loop, self.pid, self._exited, self._census, self._cookie)
        self._command.on_exit = self._about_to_be_reaped
        if guardian is not None and self.unguarded is None:
            self._try_to_guard(partial(guardian.guard_group, self.pid))
        if self._keyboard is not None:
            self._keyboard.start()

    @property
    def _guardian(self) -> Guardian | None:
        return self._captures.guardian if self.spec.die_with_supervisor else None

    def _about_to_be_reaped(self) -> None:
        """From now on its number may mean somebody else."""
        if (guardian := self._guardian) is not None:
            guardian.forget_group(self.pid)
        self._exited.set()

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
        self.outcome = outcome
        self._done.set()

    async def wait(self) -> Outcome:
        """Until the command has ended and its outputs have everything."""
        await self._done.wait()
        assert self.outcome is not None
        return self.outcome

    async def stop(self, grace_s: float | None = None) -> list[Member]:
        """End it as its spec's ``shutdown`` says: ask, wait, kill; the processes that are left nevertheless, which no signal ends.

        ``grace_s`` counts in place of the timeout, within which the job has to end, and ``shutdown.command`` too.
        Those of its processes that have left the group are asked and killed like the others, if there is a census.
        When they are gone, outputs may go on delivering what they hold for half of that time, but no
        longer than to its end; what is stuck then is dropped and counted.
        """
        if self._processes is None:
            return []
        grace_s = self.spec.shutdown.timeout_seconds if grace_s is None else grace_s
        deadline_s = self._loop.time() + grace_s
        if not self._killed:
            await self._ask(self._processes, grace_s)
        left = await self._processes.end()
        deliver_s = min(grace_s / 2, deadline_s - self._loop.time())
        with anyio.move_on_after(max(deliver_s, AFTER_KILL_S)):
            await self._done.wait()
            return left
        self._command.give_up()
        with anyio.move_on_after(AFTER_KILL_S):
            await self._done.wait()
        return left

    def send_signal(self, number: int) -> None:
        """Send a signal to all of its process group; nobody else's, should its number have been given away meanwhile."""
        if self._processes is not None:
            self._processes.signal_group(number)

    def kill(self) -> None:
        """KILL to the whole group, and no waiting for outputs. Whoever has left the group is stop()'s: it asks and waits no longer."""
        self._killed = True
        if self._processes is not None:
            self._processes.signal_group(signal.SIGKILL)
        self._command.give_up()
        for scope in self._asking:
            scope.cancel()

    async def _ask(self, processes: Processes, grace_s: float) -> None:
        """Have it end by itself; what it has left, when it has ended already, is sent the signal."""
        shutdown = self.spec.shutdown
        has_ended = self._exited.is_set()
        with anyio.move_on_after(grace_s) as scope:
            self._asking.add(scope)
            try:
                if shutdown.command and not has_ended and await self._ran(shutdown.command):
                    await processes.gone()
                elif shutdown.parent_only and not has_ended:
                    processes.signal_command(shutdown.signal)
                    await processes.command_gone()
                else:
                    await processes.signal(shutdown.signal)
                    await processes.gone()
            finally:
                self._asking.discard(scope)

    async def _ran(self, command: str) -> bool:
        """Whether the shell has run ``shutdown.command`` with status 0; if not, the job is sent the signal."""
        environment = {**(os.environ if self._plan.environment is None else self._plan.environment), "JOB_PID": str(self.pid)}
        plan = self._plan._replace(argv=[SHELL, "-c", command], environment=environment, extra_fds={})
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            child = spawn(plan, ChildFds(null, null))
        except (SpawnError, UnknownExitStatusError) as error:
            self.stop_problem = f"shutdown.command: {error.strerror}"
            return False
        finally:
            os.close(null)
        self.stop_problem = "shutdown.command: not done in its time: killed"
        if (guardian := self._guardian) is not None:
            guardian.guard_helper(child.pid)
        try:
            await anyio.wait_readable(child.exit_fd)
        except BaseException:
            signal_group(child.pid, signal.SIGKILL)
            raise
        finally:
            if guardian is not None:
                guardian.forget_group(child.pid)
            status = _status(child)
        self.stop_problem = f"shutdown.command: exited with status {status}" if status else ""
        return status == 0


def _status(child: Child) -> int:
    try:
        return reap(child).status
    except UnknownExitStatusError:
        return 0
