"""Owns how we scale: the same number of writes from 1, 10 and 100 jobs at once, on both loops."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

from .common import Bench, Load, Run, alternate, own_cpu_s, pump_of
from .report import Report

TITLE = "64-byte writes divided among jobs, out + err + combined files each, own output to /dev/null"

ROUNDS = 3
TOTAL = 200_000
COUNTS = (1, 10, 100)
LOOPS = ("uvloop", "asyncio")


class Result(NamedTuple):
    """A run, and the CPU of the helper process as it was seen last, up to 20 ms before its end."""

    run: Run
    pump_cpu_s: float


class PumpWatch:
    """Follows the helper process of one supervisor: RUSAGE_CHILDREN cannot tell it from the jobs."""

    def __init__(self) -> None:
        self.cpu_s = 0.0
        self._pump: int | None = None

    def __call__(self, supervisor: int) -> None:
        if self._pump is None:
            self._pump = pump_of(supervisor)
        if self._pump is not None:
            try:
                self.cpu_s = own_cpu_s(self._pump)
            except (FileNotFoundError, ProcessLookupError):
                return  # it has ended


def measure(bench: Bench, report: Report) -> None:
    """CPU per write, wall time and peak RSS."""
    cpu_us: dict[tuple[int, str], list[float]] = {}
    for jobs in COUNTS:
        load = Load(bench.scaled(TOTAL) // jobs, 64, 10)
        contenders = {loop: _contender(bench, jobs, load, loop) for loop in LOOPS}
        contenders |= {f"{loop}, no writes": _contender(bench, jobs, load._replace(count=0), loop) for loop in LOOPS}
        results = alternate(contenders, ROUNDS)
        for loop in LOOPS:
            writes = load.count * jobs
            start_s = median(result.run.cpu_s for result in results[f"{loop}, no writes"])
            cpu_us[jobs, loop] = [(result.run.cpu_s - start_s) / writes * 1e6 for result in results[loop]]
            report.row(
                jobs=jobs,
                loop=loop,
                writes=writes,
                wall_s=median(result.run.wall_s for result in results[loop]),
                start_cpu_s=start_s,
                us_per_write=median(cpu_us[jobs, loop]),
                us_per_write_best=min(cpu_us[jobs, loop]),
                helper_us_per_write=median(result.pump_cpu_s for result in results[loop]) / writes * 1e6,
                peak_rss_mib=median(result.run.peak_kib for result in results[loop]) / 1024,
            )
    for loop in LOOPS:
        for jobs in COUNTS[1:]:
            report.ratio(f"{jobs} jobs / 1 job on {loop}, CPU less start per write", cpu_us[jobs, loop], cpu_us[1, loop])
    for jobs in COUNTS:
        report.ratio(f"uvloop / asyncio with jobs: {jobs}, CPU less start per write", cpu_us[jobs, "uvloop"], cpu_us[jobs, "asyncio"])


def _contender(bench: Bench, jobs: int, load: Load, loop: str) -> Callable[[], Result]:
    folder = bench.path(f"jobs-{jobs}-{load.count}")
    os.makedirs(folder, exist_ok=True)
    files = [{stream: os.path.join(folder, f"{job}.{stream}") for stream in ("out", "err", "all")} for job in range(jobs)]
    path = os.path.join(folder, "jobs.toml")
    with open(path, "w", encoding="utf-8") as file:
        for job, own in enumerate(files):
            file.write(f"[jobs.job{job}]\ncommand = {json.dumps(bench.writes(load))}\n")
            file.write(f'out_overwrite = "{own["out"]}"\nerr_overwrite = "{own["err"]}"\ncombined_overwrite = "{own["all"]}"\n')
    argv = bench.ours("--jobs", path, "--loop", loop)

    def run() -> Result:
        watch = PumpWatch()
        result = bench.run(argv, watch=watch)
        for own in files:
            bench.check(load, own, f"--jobs on {loop}")
        return Result(result, watch.cpu_s)

    run()  # compiles what is imported
    return run
