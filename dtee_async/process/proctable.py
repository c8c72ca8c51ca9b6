"""Owns a look at all processes: /proc as one table, and the pidfd of one of its rows."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .child import open_pidfd

_STAT_BYTES = 1024
_GONE = (FileNotFoundError, ProcessLookupError)


class Process(NamedTuple):
    """A row; ``start`` is in clock ticks since the boot, and with the pid it means one process and no later one."""

    pid: int
    start: int
    name: str
    zombie: bool
    parent: int
    group: int
    session: int


class Table:
    """Processes, by their pid, and by parent, group and session."""

    def __init__(self, processes: Iterable[Process]) -> None:
        self.processes: dict[int, Process] = {}
        self.children: dict[int, list[Process]] = defaultdict(list)
        self.groups: dict[int, list[Process]] = defaultdict(list)
        self.sessions: dict[int, list[Process]] = defaultdict(list)
        for process in processes:
            self.add(process)

    def add(self, process: Process) -> None:
        """One that was found later; nothing, if it is there."""
        if process.pid not in self.processes:
            self.processes[process.pid] = process
            self.children[process.parent].append(process)
            self.groups[process.group].append(process)
            self.sessions[process.session].append(process)


def read_table() -> Table:
    """The processes that there are now. Raises OSError, rather than leave one out."""
    return Table(filter(None, (look_at(int(entry)) for entry in os.listdir("/proc") if entry.isdecimal())))


def look_at(pid: int) -> Process | None:
    """One process (proc_pid_stat(5)); None when there is none (any more). Raises OSError."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            stat = os.read(fd, _STAT_BYTES)
        finally:
            os.close(fd)
    except _GONE:
        return None
    head, _, tail = stat.rpartition(b")")
    fields = tail.split(None, 20)
    name = head.partition(b"(")[2].decode("utf-8", "backslashreplace")
    return Process(pid, int(fields[19]), name, fields[0] in (b"Z", b"X"), int(fields[1]), int(fields[2]), int(fields[3]))


def children() -> list[int]:
    """Those of our main thread, zombies too, and whoever we have adopted: orphans go to the first thread of a process. Raises OSError."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [process.pid for process in read_table().children.get(os.getpid(), ())]


def is_alive(process: Process) -> bool:
    """Whether it has not ended since. Raises OSError."""
    now = look_at(process.pid)
    return now is not None and now.start == process.start and not now.zombie


def environment_of(pid: int) -> bytes:
    """What it was given at its exec; empty for a zombie, in the midst of an exec, and where we may not look. Raises OSError."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except (*_GONE, PermissionError):
        return b""


@contextlib.contextmanager
def held(process: Process) -> Iterator[int | None]:
    """A pidfd that means this process and no later one with its number; None when it is gone.

    Where there are no pidfds it is -1, and the number is all that there is. Raises OSError.
    """
    try:
        fd = open_pidfd(process.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        alive = is_alive(process)
        yield None if not alive else -1 if fd is None else fd
    finally:
        if fd is not None:
            os.close(fd)
