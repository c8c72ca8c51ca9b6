"""Owns a thousand jobs: as many short ones as fast as they go, compared with GNU parallel, and as many alive at once."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from statistics import median

from .common import Bench, WrongOutputError, alternate, own_cpu_s, which
from .report import Report

TITLE = "1,000 jobs: `true` four at a time with a combined file each; `sleep 60` all at once"

ROUNDS = 3
JOBS = 1000
PARALLEL = 4
SOFT_LIMIT = 1024
IDLE_S = 3.0
LOOK_S = 0.02
PATIENCE_S = 120.0


def measure(bench: Bench, report: Report) -> None:
    """Jobs per second, as time for each; then memory, idle processor time and the time of a stop."""
    count = bench.scaled(JOBS)
    contenders = {"dtee-async -j4": _ours(bench, count)}
    if which("parallel"):
        contenders["parallel -j4"] = _parallel(bench, count)
    walls_s = alternate(contenders, ROUNDS)
    for name, each in walls_s.items():
        report.row(what=name, jobs=count, per_s=count / median(each), per_s_best=count / min(each))
    if "parallel -j4" in walls_s:
        report.ratio(
            "a thousand times `true`: dtee-async -j4 / parallel -j4, time",
            walls_s["dtee-async -j4"],
            walls_s["parallel -j4"],
            at_most=1 / 3,
        )
    report.row(what="`sleep 60` at once", jobs=count, **_alive(bench, count))


def _ours(bench: Bench, count: int) -> Callable[[], float]:
    folder = bench.path("thousand")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "jobs.toml")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f'[jobs.t{job}]\ncommand = ["true"]\ncombined_overwrite = "{job}.log"\n' for job in range(count))
    argv = bench.ours("--jobs", path, "-j", str(PARALLEL), "--no-summary")
    return lambda: bench.run(argv).wall_s


def _parallel(bench: Bench, count: int) -> Callable[[], float]:
    folder = bench.path("parallel")
    os.makedirs(folder, exist_ok=True)
    names = "".join(f"{job}\n" for job in range(count)).encode()

    def run() -> float:
        begin = time.perf_counter()
        subprocess.run(["parallel", f"-j{PARALLEL}", f"true >{folder}/{{}}.log 2>&1"], input=names, check=True)
        return time.perf_counter() - begin

    return run


def _alive(bench: Bench, count: int) -> dict[str, float]:
    folder = bench.path("alive")
    os.makedirs(folder, exist_ok=True)
    path, log = os.path.join(folder, "jobs.toml"), os.path.join(folder, "log")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f'[jobs.s{job}]\ncommand = ["sleep", "60"]\n' for job in range(count))
    begin = time.perf_counter()
    limited = f'ulimit -S -n {SOFT_LIMIT}; exec "$@"'
    argv = bench.ours("--jobs", path, "--log-format", "json", "--no-summary")
    started = bench.start(["/bin/sh", "-c", limited, "sh", *argv], stderr=log)
    _wait_until(lambda: _count(log, b"job started") == count)
    started_s = time.perf_counter() - begin
    rss_mib = _rss_kib(started.pid) / 1024
    before_s = own_cpu_s(started.pid)
    time.sleep(IDLE_S)
    idle_s = own_cpu_s(started.pid) - before_s
    begin = time.perf_counter()
    os.kill(started.pid, signal.SIGINT)
    _, status = os.waitpid(started.pid, 0)
    stopped_s = time.perf_counter() - begin
    os.close(started.report)
    if os.waitstatus_to_exitcode(status) != -signal.SIGINT or _count(log, b"job exited") != count:
        raise WrongOutputError(f"{count} sleeping jobs: ended with {os.waitstatus_to_exitcode(status)}")
    return {"started_s": started_s, "rss_mib": rss_mib, "idle_cpu_percent": 100 * idle_s / IDLE_S, "stopped_s": stopped_s}


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise WrongOutputError("the jobs do not start")
        time.sleep(LOOK_S)


def _count(path: str, what: bytes) -> int:
    with open(path, "rb") as file:
        return file.read().count(what)


def _rss_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
