"""Owns the probes: a check that is made over and over, and what its thresholds make of the answers. The rules are those of Kubernetes.

A check is a callable that takes the seconds it has, and returns what speaks against the job in
words, or "" when nothing does. However it ends, by an answer, by its time or by being cancelled,
nothing of it is left.
"""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import anyio

from ..core.contracts import ChildFds
from ..core.policy import ExecCheck, HttpCheck, TcpCheck
from ..core.spec import SHELL
from ..errors import SpawnError, UnknownExitStatusError
from ..process.child import Child, reap
from ..process.group import signal_group
from ..process.spawn import SpawnPlan, spawn
from .job import NOTHING, Surroundings

if TYPE_CHECKING:
    from ..core.contracts import Loop
    from ..core.exit import Exit
    from ..core.policy import Probe
    from ..core.spec import JobSpec
    from ..process.guardian import Guardian

Check = Callable[[float], Awaitable[str]]

TAIL_BYTES = 4096
READ_BYTES = 64 * 1024
AFTER_KILL_S = 1.0
CANNOT_CONNECT = OSError, ValueError, OverflowError, ExceptionGroup
"""ValueError and OverflowError: a host or a port that cannot be one; in a group, where anyio tries several addresses."""

HEADERS = {"User-Agent": "dtee-async"}


class Verdict(NamedTuple):
    """What the thresholds say. ``against``: what spoke against it in the last check, in words; empty when it passed."""

    passed: bool
    against: str = ""


class Thresholds:
    """Counts answers in a row."""

    def __init__(self, success_threshold: int, failure_threshold: int) -> None:
        self._needed = {True: success_threshold, False: failure_threshold}
        self._last: bool | None = None
        self._in_a_row = 0
        self._verdict: bool | None = None

    def changed_by(self, passed: bool) -> bool:  # noqa: FBT001 - an answer is a yes or a no
        """Count one more answer; whether it changes the verdict. There is none at first."""
        self._in_a_row = self._in_a_row + 1 if passed == self._last else 1
        self._last = passed
        if self._in_a_row < self._needed[passed] or self._verdict == passed:
            return False
        self._verdict = passed
        return True


class Prober:
    """One probe of one attempt. ``begun_s``: when the attempt began, on the loop's clock; the initial delay counts from there."""

    def __init__(self, probe: Probe, check: Check, begun_s: float) -> None:
        self._probe = probe
        self._check = check
        self._next_s = begun_s + probe.initial_delay_seconds
        self._thresholds = Thresholds(probe.success_threshold, probe.failure_threshold)

    async def wait_change(self) -> Verdict:
        """Check, one period after the other, until the verdict changes. A check that takes longer than the period puts off the next."""
        while True:
            await _wait_until(self._next_s)
            self._next_s = anyio.current_time() + self._probe.period_seconds
            against = await self._check(self._probe.timeout_seconds)
            if self._thresholds.changed_by(not against):
                return Verdict(not against, against)


async def _wait_until(time_s: float) -> None:
    with anyio.CancelScope(deadline=time_s):
        await anyio.Event().wait()


def open_check(loop: Loop, probe: Probe, spec: JobSpec, surroundings: Surroundings = NOTHING) -> Check:
    """What makes the check of a probe; an exec check runs as the job does, and in its directory if it has none itself."""
    match probe.check:
        case ExecCheck(command=command, working_dir=directory):
            argv, title = ([SHELL, "-c", command], command) if isinstance(command, str) else (command, shlex.join(command))
            plan = SpawnPlan(
                argv,
                directory or spec.working_dir,
                spec.environment,
                privileges=spec.privileges,
                fd_limit=surroundings.fd_limit,
                kin=surroundings.kin,
            )
            return _ExecCheck(loop, plan, title, surroundings.guardian)
        case HttpCheck() as check:
            return _http_check(check)
        case TcpCheck() as check:
            return _tcp_check(check)


class _ExecCheck:
    """A command in a group of its own, which is over with the check, also if we are killed meanwhile and there is a guardian."""

    def __init__(self, loop: Loop, plan: SpawnPlan, title: str, guardian: Guardian | None) -> None:
        self._loop = loop
        self._plan = plan
        self._title = title
        self._guardian = guardian

    async def __call__(self, timeout_s: float) -> str:
        try:
            tail = _Tail()
        except OSError as error:
            return f"{self._title}: {error.strerror}"
        try:
            return await self._run(tail, timeout_s)
        except SpawnError as error:
            return f"{error.filename or self._title}: {error.strerror}"
        except UnknownExitStatusError as error:
            return f"{self._title}: {error.strerror}"
        finally:
            tail.close()

    async def _run(self, tail: _Tail, timeout_s: float) -> str:
        try:
            child = spawn(self._plan, ChildFds(tail.writer, tail.writer))
        finally:
            tail.close_writer()
        if self._guardian is not None:
            self._guardian.guard_helper(child.pid)
        exit: Exit | None = None
        try:
            with anyio.move_on_after(timeout_s) as scope:
                await tail.read_until_readable(child.exit_fd)
        finally:
            exit = await self._end(child)
        if scope.cancelled_caught:
            return _with_tail(f"{self._title}: {_too_slow(timeout_s)}", tail)
        if exit is None:
            return _with_tail(f"{self._title}: how it ended is not known", tail)
        return _with_tail(exit.describe(self._title), tail) if exit.returncode else ""

    async def _end(self, child: Child) -> Exit | None:
        """Kill its whole group, and reap it. None if that cannot be waited for (it is reaped later), or somebody else reaped it."""
        signal_group(child.pid, signal.SIGKILL)
        has_ended = False
        try:
            with anyio.move_on_after(AFTER_KILL_S, shield=True):
                await anyio.wait_readable(child.exit_fd)
                has_ended = True
        finally:  # asyncio's own cancel() passes a shield
            if not has_ended:
                self._loop.add_reader(child.exit_fd, self._reap_late, child)
        return self._reap(child) if has_ended else None

    def _reap(self, child: Child) -> Exit | None:
        if self._guardian is not None:
            self._guardian.forget_group(child.pid)
        try:
            return reap(child)
        except UnknownExitStatusError:
            return None

    def _reap_late(self, child: Child) -> None:
        self._loop.remove_reader(child.exit_fd)
        self._reap(child)


class _Tail:
    """The last that a command says, both streams on one pipe, and so in order. Raises OSError."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._data = b""
        self._is_cut = False

    async def read_until_readable(self, exit_fd: int) -> None:
        """Read, so that the command never waits for us, until the other fd is readable."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._read_on)
            await anyio.wait_readable(exit_fd)
            group.cancel_scope.cancel()

    async def _read_on(self) -> None:
        await anyio.wait_readable(self._reader)
        while self._read():
            await anyio.wait_readable(self._reader)

    def _read(self) -> bool:
        """False at the end, or when nothing is there."""
        try:
            data = os.read(self._reader, READ_BYTES)
        except BlockingIOError:
            return False
        tail = self._data + data
        self._is_cut = self._is_cut or len(tail) > TAIL_BYTES
        self._data = tail[-TAIL_BYTES:]
        return data != b""

    def text(self) -> str:
        """Whole lines, as far as there are any."""
        self._read()  # what it left: a pipe holds no more than one read takes
        lines = self._data.partition(b"\n")[2] if self._is_cut and b"\n" in self._data[:-1] else self._data
        return lines.decode("utf-8", "backslashreplace").strip()

    def close_writer(self) -> None:
        """The command has its own. May be called twice."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def close(self) -> None:
        self.close_writer()
        os.close(self._reader)


def _with_tail(what: str, tail: _Tail) -> str:
    return f"{what}: {text}" if (text := tail.text()) else what


def _too_slow(timeout_s: float) -> str:
    return f"no answer within {timeout_s:g} s"


def _tcp_check(check: TcpCheck) -> Check:
    where = f"{check.host}:{check.port}"

    async def connect() -> str:
        try:
            stream = await anyio.connect_tcp(check.host, check.port)
        except CANNOT_CONNECT as error:
            return f"{where}: {_why(error)}"
        await stream.aclose()
        return ""

    return partial(_within, connect, where)


def _http_check(check: HttpCheck) -> Check:
    import httpx  # it takes a tenth of a second: now, and not while jobs write

    async def get() -> str:
        # As Kubernetes asks: a new connection, no proxy, no look at the certificate, no redirection followed.
        try:
            async with (
                httpx.AsyncClient(verify=False, trust_env=False, timeout=None) as client,  # noqa: S501, S113
                client.stream("GET", check.url, headers=HEADERS | dict(check.headers)) as response,
            ):
                return "" if _is_right(check, response.status_code) else f"{check.url}: HTTP status {response.status_code}"
        except (httpx.HTTPError, httpx.InvalidURL, *CANNOT_CONNECT) as error:
            return f"{check.url}: {_why(error)}"

    return partial(_within, get, check.url)


def _is_right(check: HttpCheck, status_code: int) -> bool:
    return status_code == check.status_code if check.status_code else 200 <= status_code < 400


async def _within(ask: Callable[[], Awaitable[str]], what: str, timeout_s: float) -> str:
    with anyio.move_on_after(timeout_s):
        return await ask()
    return f"{what}: {_too_slow(timeout_s)}"


def _why(error: BaseException) -> str:
    """The system's own words where there are any, behind those of the libraries ("All connection attempts failed")."""
    first: BaseException | None = error
    while first is not None:
        if isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        elif isinstance(first, OSError) and first.strerror:
            return os.strerror(first.errno) if first.errno and first.errno > 0 else first.strerror  # a resolver's are negative
        else:
            first = first.__cause__ or first.__context__
    return str(error) or type(error).__name__
