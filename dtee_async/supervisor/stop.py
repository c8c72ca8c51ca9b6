"""Owns the end of processes: the question, the wait, the kill, and the look whether any is left."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import anyio

from ..process.child import open_pidfd
from ..process.descendants import Family, Lineage, Look, kill_processes, members_of, signal_processes, with_relatives
from ..process.group import Member, members, signal_group
from ..process.proctable import is_alive

if TYPE_CHECKING:
    from ..core.contracts import Loop
    from ..process.proctable import Process

LOOK_S = 0.02

AFTER_KILL_S = 1.0
"""How long killed processes may take to vanish: one that cannot even be killed is not waited for."""

HUNT_S = 3.0
"""The same where it takes several looks: who forks is faster than a look."""

QUIET_LOOKS = 2
"""So many in a row have to find nobody. A look is not made in one moment, and one alone can miss who is forked meanwhile."""


class Census:
    """The looks of a supervisor at all processes. Who wants one at the same time shares it; half of the time goes to them at most."""

    def __init__(self, loop: Loop, family: Family) -> None:
        self.family = family
        self.loop = loop
        self._pause_s = 0.0
        self._coming: _Coming | None = None

    async def look(self) -> Look:
        """What there is, at a moment that is not before this call."""
        coming = self._coming
        if coming is None:
            coming = self._coming = _Coming()
            self.loop.call_later(self._pause_s, self._take)
        await coming.taken.wait()
        assert coming.look is not None
        return coming.look

    def _take(self) -> None:
        coming, started_s = self._coming, self.loop.time()
        assert coming is not None
        try:
            coming.look = self.family.look()
        except OSError:  # no fd is left for it: once more, when somebody may have closed one
            self.loop.call_later(LOOK_S, self._take)
            return
        self._pause_s = self.loop.time() - started_s
        self._coming = None
        coming.taken.set()


class _Coming:
    def __init__(self) -> None:
        self.taken = anyio.Event()
        self.look: Look | None = None


class Processes:
    """The processes of one job. Without a census only those of its group are: all that a library can know."""

    def __init__(self, loop: Loop, pid: int, exited: anyio.Event, census: Census | None, cookie: str) -> None:
        """``pid``: the command's; ``exited`` is set when it has ended, and the number may be another process's."""
        self._loop = loop
        self._pid = pid
        self._census = census
        self._lineage = Lineage(pid, cookie, exited.is_set) if census is not None else None
        self._exited = exited

    def signal_group(self, number: int) -> bool:
        """Send a signal to the whole group at once; False when nobody is in it."""
        return not self._is_taken() and signal_group(self._pid, number)

    async def signal(self, number: int) -> None:
        """Send a signal to all of them."""
        self.signal_group(number)
        if self._census is not None:
            elsewhere = [process for process in await self._living() if process.group != self._pid]
            with contextlib.suppress(OSError):  # no fd is left for it: they are killed then
                signal_processes(elsewhere, number)

    def signal_command(self, number: int) -> None:
        """Send a signal to the command alone, if it has not ended."""
        if not self._exited.is_set():
            with contextlib.suppress(PermissionError):  # it has another user now, and we may not: it is killed if it can be
                os.kill(self._pid, number)

    async def gone(self) -> None:
        """Until no process is left."""
        await self.command_gone()  # before that nobody need look
        if self._census is None:
            await self._group_gone()
            return
        while processes := await self._living():
            await _all_ended(processes, self._loop)

    async def command_gone(self) -> None:
        """Until the command has ended."""
        await self._exited.wait()

    async def end(self) -> list[Member]:
        """Kill them all; those that are left nevertheless."""
        if self._census is None:
            return await self._end_group()
        self.signal_group(signal.SIGKILL)
        lineage = self._lineage
        assert lineage is not None
        return await _hunt(self._census, lineage.living, lambda cookies: lineage.cookie in cookies)

    async def _end_group(self) -> list[Member]:
        if not self.signal_group(signal.SIGKILL):
            return []
        with anyio.move_on_after(AFTER_KILL_S):
            await self.gone()
        return self._group_members()

    async def _living(self) -> list[Process]:
        assert self._census is not None
        assert self._lineage is not None
        return self._lineage.living(await self._census.look())

    async def _group_gone(self) -> None:
        while left := self._group_members():
            await _ended(left[0].pid, self._loop)

    def _group_members(self) -> list[Member]:
        return [] if self._is_taken() else members(self._pid)

    def _is_taken(self) -> bool:
        """Whether the command's number is another process's by now. Nobody gets it while anybody is in its group, so nobody is."""
        if not self._exited.is_set():
            return False
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


async def end_strays(census: Census) -> tuple[list[Member], list[Member]]:
    """Kill the children of ours that nobody started and that no cookie tells of; who was found, and who of them is left.

    For the end of a run, when all jobs are stopped: a stray may be any job's.
    """
    found: dict[int, Process] = {}

    def living(look: Look) -> list[Process]:
        strays = [process for process in with_relatives(look.strays, look.table) if not process.zombie]
        found.update((process.pid, process) for process in strays)
        return strays

    left = await _hunt(census, living, census.family.is_stray)
    return members_of(found.values()), left


async def _hunt(census: Census, living: Callable[[Look], list[Process]], wanted: Callable[[frozenset[str]], bool]) -> list[Member]:
    """Kill whoever is found, until nobody is; those that are left nevertheless. ``wanted``: whose cookies tell that he is meant."""
    processes: list[Process] = []
    quiet = 0
    with anyio.move_on_after(HUNT_S):
        while quiet < QUIET_LOOKS:
            look = await census.look()
            processes = living(look)
            quiet = 0 if processes or look.restless else quiet + 1
            with contextlib.suppress(OSError):  # no fd is left for it: the next time
                kill_processes(processes)
                if look.restless:
                    census.family.kill_adopted(wanted)
            with anyio.move_on_after(LOOK_S):  # who was forked meanwhile does not wait until a slow one has vanished
                await _all_ended(processes, census.loop)
    return members_of(filter(is_alive, processes))


async def _all_ended(processes: Iterable[Process], loop: Loop) -> None:
    for process in processes:
        await _ended(process.pid, loop)


async def _ended(pid: int, loop: Loop) -> None:
    """Until it has ended; where nothing tells that, until it is time to look again."""
    try:
        pidfd = open_pidfd(pid)
    except OSError:  # gone since we looked; or, without /proc, a leader that is gone stands for the others; or no fd is left
        pidfd = None
    if pidfd is None:
        await _next_look(loop)
        return
    try:
        await anyio.wait_readable(pidfd)
    finally:
        os.close(pidfd)


async def _next_look(loop: Loop) -> None:
    time = anyio.Event()
    timer = loop.call_later(LOOK_S, time.set)
    try:
        await time.wait()
    finally:
        timer.cancel()
