"""Owns how a benchmark runs things: the C programs, the load, one timed run, and contenders that take turns."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import NamedTuple, TypeVar

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECT = os.path.dirname(HERE)
REPORT_FD = 3
WATCH_S = 0.02

T = TypeVar("T")


class WrongOutputError(Exception):
    """Bytes are missing, too many or in the wrong order: the only thing that fails a benchmark."""


class Run(NamedTuple):
    """One timed run. ``cpu_s`` and ``peak_kib`` are the program's own, without its children; 0 where it cannot tell."""

    wall_s: float
    cpu_s: float
    peak_kib: int


class Started(NamedTuple):
    """A process that was started, and the pipe with its report."""

    pid: int
    report: int


class Load(NamedTuple):
    """What one `writes` makes: see writes.c."""

    count: int
    size_bytes: int
    alternate: int

    @cache  # noqa: B019 - a handful of loads
    def expected(self) -> dict[str, bytes]:
        """What must be in the files of -O, -E and -C."""
        lines = [bytes([97 + i]) * (self.size_bytes - 1) + b"\n" for i in range(26)]
        is_err = [bool(self.alternate) and i % self.alternate == 0 for i in range(self.count)]
        return {
            "out": b"".join(lines[i % 26] for i, err in enumerate(is_err) if not err),
            "err": b"".join(lines[i % 26] for i, err in enumerate(is_err) if err),
            "all": b"".join(lines[i % 26] for i in range(self.count)),
        }


class Bench:
    """Where and how large: a temporary folder with the C programs built in it, and the scale."""

    def __init__(self, folder: str, *, quick: bool) -> None:
        self.folder = folder
        self.quick = quick
        self._env = clean_environment() | {
            # The environment may forbid .pyc files, and the tree is not ours to litter: without any, each run would compile anew.
            "PYTHONPYCACHEPREFIX": self.path("pycache"),
        }
        for name in ("reference", "turnstile_reference", "writes"):
            command = ["cc", "-O2", "-Wall", "-o", self.path(name), os.path.join(HERE, f"{name}.c")]
            subprocess.run(command, check=True)
        self.run(self.ours("true"))

    def path(self, name: str) -> str:
        """A path in the temporary folder."""
        return os.path.join(self.folder, name)

    def scaled(self, count: int) -> int:
        """A tenth in a quick run."""
        return count // 10 if self.quick else count

    def writes(self, load: Load) -> list[str]:
        """The command that makes this load."""
        return [self.path("writes"), *map(str, load)]

    def ours(self, *arguments: str) -> list[str]:
        """Our command line, reporting its own CPU."""
        return self.python("run_self.py", *arguments)

    def python(self, program: str, *arguments: str) -> list[str]:
        """A Python program of this folder; -P: this folder is not on its import path."""
        return [sys.executable, "-P", os.path.join(HERE, program), *arguments]

    def start(
        self, argv: Sequence[str], stdout: str = os.devnull, stderr: str = os.devnull, env: Mapping[str, str] | None = None
    ) -> Started:
        """Start a program with stdin from /dev/null, its own outputs to these files, and a pipe as fd 3."""
        reader, writer = os.pipe()
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        fds = [os.open(os.devnull, os.O_RDONLY), os.open(stdout, flags, 0o666), os.open(stderr, flags, 0o666), writer]
        actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(fds)]
        try:
            pid = os.posix_spawn(argv[0], argv, self._env if env is None else env, file_actions=actions)
        finally:
            for fd in fds:
                os.close(fd)
        return Started(pid, reader)

    def run(
        self,
        argv: Sequence[str],
        stdout: str = os.devnull,
        stderr: str = os.devnull,
        *,
        env: Mapping[str, str] | None = None,
        watch: Callable[[int], None] | None = None,
    ) -> Run:
        """Run a program to its end. ``watch(pid)`` is called every 20 ms, with what that costs. Raises WrongOutputError if it fails."""
        begin = time.perf_counter()
        started = self.start(argv, stdout, stderr, env)
        if watch is not None:
            pidfd = os.pidfd_open(started.pid)
            while not select.select([pidfd], [], [], WATCH_S)[0]:
                watch(started.pid)
            os.close(pidfd)
        os.waitid(os.P_PID, started.pid, os.WEXITED | os.WNOWAIT)
        wall_s = time.perf_counter() - begin
        cpu_s = own_cpu_s(started.pid)  # of a zombie; only if it does not report by itself, because this counts in ticks of 10 ms
        _, status = os.waitpid(started.pid, 0)
        with open(started.report, "rb") as file:
            report = file.read().split()
        if status:
            raise WrongOutputError(f"{' '.join(argv)}: ended with status {os.waitstatus_to_exitcode(status)}")
        return Run(wall_s, float(report[0]) if report else cpu_s, int(report[1]) if len(report) > 1 else 0)

    def check(self, load: Load, files: Mapping[str, str], who: str) -> None:
        """Compare files, by their stream (out, err, all), with what must be in them."""
        expected = load.expected()
        for stream, path in files.items():
            with open(path, "rb") as file:
                if file.read() != expected[stream]:
                    raise WrongOutputError(f"{who}: {path} is not what the child wrote to {stream}")


def clean_environment() -> dict[str, str]:
    """Ours, without what changes how Python starts."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def own_cpu_s(pid: int) -> float:
    """User and system time of a process, without its children, from proc_pid_stat(5)."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid: int) -> list[int]:
    """The children of a process; /proc/PID/task/TID/children is not in every kernel."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while we looked
            if parent == pid:
                found.append(int(name))
    return found


def pump_of(pid: int) -> int | None:
    """The helper process of a supervisor, which writes its files."""
    for child in children(pid):
        try:
            with open(f"/proc/{child}/cmdline", "rb") as file:
                if b"pump.py\0" in file.read():
                    return child
        except (FileNotFoundError, ProcessLookupError):
            continue
    return None


def alternate(contenders: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Run every contender ``rounds`` times in turn, forwards and backwards, so that a slow moment of the machine hits all of them."""
    results: dict[str, list[T]] = {name: [] for name in contenders}
    names = list(contenders)
    for _ in range(rounds):
        for name in names:
            results[name].append(contenders[name]())
        names.reverse()
    return results


def which(program: str) -> str | None:
    """The full path of a program on PATH."""
    return shutil.which(program)
