"""Owns the memory of a supervisor whose output is stuck: it must not grow while the child waits in its write(2)."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from contextlib import suppress

from .common import Bench, Load, Started, children, pump_of
from .report import Report

BEFORE_S = 1.0
STUCK_S = 3.0
TWICE_S = 0.5
END_S = 5.0
TITLE = f"MiB of RSS, {STUCK_S:g} s apart, while the output is stuck; write_bytes 0 is an idle job"
PLACES = ("FIFO", "own stdout")
SIZES = (4096, 1 << 20)


class Stuck:
    """One supervisor whose one job writes to where nobody reads."""

    def __init__(self, bench: Bench, place: str, size_bytes: int) -> None:
        self.setting = {"stuck": place, "write_bytes": size_bytes}
        # One FIFO is a file of the job, another one stands for the pipe that our own stdout may be: fifo(7), they are the same.
        fifo = bench.path(f"fifo-{place}-{size_bytes}")
        os.mkfifo(fifo)
        self._unread = os.open(fifo, os.O_RDWR)
        jobs = bench.path(f"stuck-{place}-{size_bytes}.toml")
        command = bench.writes(Load(10**9, size_bytes, 0)) if size_bytes else ["sleep", "60"]
        with open(jobs, "w", encoding="utf-8") as file:
            file.write(f"[jobs.stuck]\ncommand = {json.dumps(command)}\n")
            if place == "FIFO":
                file.write(f'combined_overwrite = "{fifo}"\n')
        own = fifo if place == "own stdout" else os.devnull
        self._process: Started = bench.start(bench.ours("--jobs", jobs), stdout=own)

    def sample_mib(self) -> tuple[float, float, float]:
        """RSS and peak RSS of the supervisor, and RSS of its helper (0: it has none)."""
        pump = pump_of(self._process.pid)
        return (
            _status_mib(self._process.pid, "VmRSS"),
            _status_mib(self._process.pid, "VmHWM"),
            0.0 if pump is None else _status_mib(pump, "VmRSS"),
        )

    def ask_to_end(self) -> None:
        """Tell the supervisor to stop; told twice, it does not wait for the grace period."""
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGTERM)

    def end(self, until: float) -> bool:
        """Wait until it has ended, but not for ever. Whether it ended by itself."""
        pid = self._process.pid
        pidfd = os.pidfd_open(pid)
        ended = bool(select.select([pidfd], [], [], max(0.0, until - time.monotonic()))[0])
        os.close(pidfd)
        if not ended:
            for child in children(pid):
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(self._process.report)
        os.close(self._unread)
        return ended


def measure(bench: Bench, report: Report) -> None:
    """All at once: they only wait."""
    stuck = [Stuck(bench, place, size_bytes) for size_bytes in (0, *SIZES) for place in (PLACES if size_bytes else ["nothing"])]
    try:
        time.sleep(BEFORE_S)
        before = [one.sample_mib() for one in stuck]
        time.sleep(STUCK_S)
        after = [one.sample_mib() for one in stuck]
    finally:
        for _ in range(2):
            for one in stuck:
                one.ask_to_end()
            time.sleep(TWICE_S)
        until = time.monotonic() + END_S
        ended = [one.end(until) for one in stuck]
    for one, (before_mib, _, _), (after_mib, peak_mib, pump_mib), by_itself in zip(stuck, before, after, ended, strict=True):
        sizes = {"before_mib": before_mib, "after_mib": after_mib, "growth_mib": after_mib - before_mib, "peak_mib": peak_mib}
        report.row(**one.setting, **sizes, helper_mib=pump_mib, ended="on SIGTERM" if by_itself else "killed")
    idle_mib = after[0][0]
    for one, (after_mib, _, _) in zip(stuck[1:], after[1:], strict=True):
        report.ratio(f"{one.setting['stuck']} stuck, writes of {one.setting['write_bytes']} bytes / idle, RSS", [after_mib], [idle_mib])


def _status_mib(pid: int, key: str) -> float:
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(f"{key}:")) / 1024
