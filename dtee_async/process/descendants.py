"""Owns which processes are a job's, and their end.

A process is a job's if it is in the group or the session of its command, if it descends from one that is, or if it
carries the job's cookie in its environment, or is in the session of one that does; and it stays so, whatever it
does later. Who double-forks and leaves the session becomes a child of ours, since we are a subreaper (see orphans),
and there the cookie tells whose it is. Only one that throws away its environment as well is a stray, if nobody has looked before.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from .group import Member, signal_group
from .proctable import Process, Table, children, environment_of, held, is_alive, look_at, read_table

COOKIE = "DTEE_ASYNC_JOB"
"""The environment variable; its value are the cookies of the job and, before it, of the jobs that we run in, with colons between."""

GUARDIAN = "guardian"
"""The cookie of our guardian, which may have to outlive us."""

BURST = 500
"""So many times at most, in a row, children are looked for that end faster than they are found."""

Identity = tuple[int, int]


def with_cookie(environment: Mapping[str, str] | None, cookie: str) -> dict[str, str]:
    """An environment, None for ours, with one more cookie."""
    environment = os.environ if environment is None else environment
    outer = environment.get(COOKIE)
    return {**environment, COOKIE: f"{outer}:{cookie}" if outer else cookie}


class Look(NamedTuple):
    """All processes, and of our adopted children who carries which cookie."""

    table: Table
    carriers: Mapping[str, list[Process]]
    strays: list[Process]
    """Children of ours that we did not start, and that carry no cookie of this run: they may be any job's."""
    restless: bool
    """An adopted child has ended since the look before, so that nobody knows whose it was, and what it has forked."""


class Family:
    """What is known of the processes below a supervisor: which it has started itself, and what the others carry.

    Whoever forks and ends, again and again, is among our children at every moment, alive or just dead,
    as his like become our children one by one: that list is short, and misses nobody.
    """

    def __init__(self) -> None:
        self._run = os.urandom(8).hex()
        self._cookies = 0
        self._own: set[int] = set()
        self._carried: dict[Identity, frozenset[str]] = {}
        self._dead: set[Identity] = set()

    def new_cookie(self) -> str:
        """For one run of a job."""
        self._cookies += 1
        return f"{self._run}{self._cookies:08x}"

    def add(self, pid: int) -> None:
        """A child that we have just started, whatever it is: it is no orphan."""
        self._own.add(pid)

    def discard(self, pid: int) -> None:
        """It is about to be reaped: the number may mean somebody else then."""
        self._own.discard(pid)

    def is_ours(self, pid: int) -> bool:
        """Whether it is a child that we have started and not reaped yet."""
        return pid in self._own

    def is_stray(self, cookies: frozenset[str]) -> bool:
        """Whether a child of ours that carries these may be any job's."""
        return GUARDIAN not in cookies and not any(cookie.startswith(self._run) for cookie in cookies)

    def look(self) -> Look:
        """What there is now. Raises OSError, rather than leave a process out."""
        table = read_table()
        carriers: dict[str, list[Process]] = {}
        strays, carried, dead = [], {}, set()
        for process in self._adopted(table):
            identity = process.pid, process.start
            cookies = self._carried.get(identity) or _cookies(process.pid)
            if process.zombie or not (cookies or is_alive(process)):
                dead.add(identity)
                continue
            carried[identity] = cookies
            table.add(process)
            for cookie in cookies:
                carriers.setdefault(cookie, []).append(process)
            if process.parent == os.getpid() and self.is_stray(cookies):
                strays.append(process)
        restless = not dead <= self._dead
        self._carried, self._dead = carried, dead
        return Look(table, carriers, strays, restless)

    def _adopted(self, table: Table) -> Iterable[Process]:
        """Ours, asked for anew; and init's that live: they go there where we are no subreaper."""
        ours = [look_at(pid) for pid in children() if pid not in self._own]
        inits = [process for process in table.children.get(1, ()) if not process.zombie]
        return filter(None, [*ours, *inits] if os.getpid() != 1 else ours)

    def kill_adopted(self, wanted: Callable[[frozenset[str]], bool]) -> None:
        """KILL to our adopted children that carry such cookies, until none is left that lives: for those that a whole look is too slow for.

        They are ours, and not reaped meanwhile: their numbers mean nobody else. Raises OSError.
        """
        ended: set[int] = set()
        for _ in range(BURST):
            new = [pid for pid in children() if pid not in self._own and pid not in ended]
            for pid in new:
                cookies = _cookies(pid)
                process = None if cookies else look_at(pid)
                if wanted(cookies) and (process is None or not process.zombie):
                    with contextlib.suppress(PermissionError):  # it has another user now
                        os.kill(pid, signal.SIGKILL)
                ended.add(pid)
            if not new:
                return


class Lineage:
    """All processes of one job, as far as looks have found them."""

    def __init__(self, pid: int, cookie: str, reaped: Callable[[], bool]) -> None:
        """``pid``: its command; ``reaped``: whether we have reaped it, and the number may be another process's."""
        self._pid = pid
        self.cookie = cookie
        self._reaped = reaped
        self._known: set[Identity] = set()

    def living(self, look: Look) -> list[Process]:
        """Those that have not ended. Those that a look finds are remembered."""
        table = look.table
        found = [*self._by_number(table), *look.carriers.get(self.cookie, ())]
        found += [process for pid, start in self._known if (process := table.processes.get(pid)) is not None and process.start == start]
        found = with_relatives(found, table)
        self._known = {(process.pid, process.start) for process in found}
        return [process for process in found if not process.zombie]

    def _by_number(self, table: Table) -> list[Process]:
        """Its group and its session. Nobody gets its number while one of them is left; so if somebody has it, none is."""
        if self._pid in table.processes and self._reaped():
            return []
        return [*table.groups.get(self._pid, ()), *table.sessions.get(self._pid, ())]


def with_relatives(found: Iterable[Process], table: Table) -> list[Process]:
    """These, who descends from them, and who is in a session of theirs: one that is not ours was begun by one of them."""
    our_session = os.getsid(0)
    all = {process.pid: process for process in found}
    queue = [*all.values()]
    while queue:
        process = queue.pop()
        session = table.sessions.get(process.session, []) if process.session != our_session else []
        for relative in (*table.children.get(process.pid, ()), *session):
            if relative.pid not in all:
                all[relative.pid] = relative
                queue.append(relative)
    return list(all.values())


def signal_processes(processes: Iterable[Process], number: int) -> None:
    """Send a signal to each that is still there, and never to a later one with its number."""
    for process in processes:
        with held(process) as pidfd:
            if pidfd is not None:
                _send(process, pidfd, number)


def kill_processes(processes: Iterable[Process]) -> None:
    """KILL to each, with its whole group at once: so not even a process that is just being forked in it escapes."""
    groups: set[int] = set()
    our_session = os.getsid(0)
    for process in processes:
        with held(process) as pidfd:
            if pidfd is None:
                continue
            # A session that is not ours began with one of theirs, and a group does not leave its session.
            if process.session != our_session and process.group not in groups:
                groups.add(process.group)
                signal_group(process.group, signal.SIGKILL)
            _send(process, pidfd, signal.SIGKILL)


def _send(process: Process, pidfd: int, number: int) -> None:
    try:
        if pidfd >= 0:
            signal.pidfd_send_signal(pidfd, number)
        else:
            os.kill(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return  # it has ended; or it is somebody else's by now, and who looks for what is left will find it


def members_of(processes: Iterable[Process]) -> list[Member]:
    """Their pids and names."""
    return sorted(Member(process.pid, process.name) for process in processes)


def _cookies(pid: int) -> frozenset[str]:
    prefix = f"{COOKIE}=".encode()
    for variable in environment_of(pid).split(b"\0"):
        if variable.startswith(prefix):
            return frozenset(variable.removeprefix(prefix).decode("ascii", "replace").split(":"))
    return frozenset()
