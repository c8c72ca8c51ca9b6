"""Owns what the design is justified against: five times the writes in no more time than asyncio's own datagram endpoint takes."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from .common import Bench, Load, Run, alternate
from .report import Report

TITLE = "wall time of whole runs; 64-byte writes, 1 of 10 to stderr, own output to /dev/null, one combined file"

ROUNDS = 5


def measure(bench: Bench, report: Report) -> None:
    """Wall time of `dtee-async -C FILE` for 300,000 writes, and of the naive way for 60,000."""
    many, few = Load(bench.scaled(300_000), 64, 10), Load(bench.scaled(60_000), 64, 10)
    loads = {"dtee-async": many, "naive, asyncio": few, "naive, uvloop": few}
    path = bench.path("naive.all")
    runs = alternate(
        {
            "dtee-async": _contender(bench, many, path, bench.ours("-C", path)),
            "naive, asyncio": _contender(bench, few, path, bench.python("naive_supervisor.py", "asyncio", path)),
            "naive, uvloop": _contender(bench, few, path, bench.python("naive_supervisor.py", "uvloop", path)),
        },
        ROUNDS,
    )
    walls = {name: [run.wall_s for run in results] for name, results in runs.items()}
    for name, load in loads.items():
        wall_s = walls[name]
        report.row(
            program=name, writes=load.count, wall_s=median(wall_s), wall_best_s=min(wall_s), us_per_write=median(wall_s) / load.count * 1e6
        )
    for loop in ("asyncio", "uvloop"):
        what = f"dtee-async, {many.count} writes / naive on {loop}, {few.count} writes, wall"
        report.ratio(what, walls["dtee-async"], walls[f"naive, {loop}"], at_most=1 if loop == "asyncio" else None)
    for loop in ("asyncio", "uvloop"):
        each = [wall_s / many.count for wall_s in walls["dtee-async"]], [wall_s / few.count for wall_s in walls[f"naive, {loop}"]]
        report.ratio(f"dtee-async / naive on {loop}, wall per write", *each)


def _contender(bench: Bench, load: Load, path: str, program: list[str]) -> Callable[[], Run]:
    def run() -> Run:
        result = bench.run([*program, *bench.writes(load)])
        bench.check(load, {"all": path}, program[2])
        return result

    return run
