"""Owns the cost of one write: our own CPU and wall time per 64-byte write, against C and, where it is installed, dtee."""

from __future__ import annotations

import os
from collections.abc import Callable
from statistics import median

from .common import Bench, Load, Run, alternate, which
from .report import Report

TITLE = "microseconds per 64-byte write, own output passed on, and out + err + combined files"

ROUNDS = 5
OWN = ("two files", "one /dev/null")


def measure(bench: Bench, report: Report) -> None:
    """Every way of alternating, with every kind of own output."""
    for alternate_ in (10, 2):
        for own in OWN:
            _measure(bench, report, Load(bench.scaled(300_000), 64, alternate_), own)


def _measure(bench: Bench, report: Report, load: Load, own: str) -> None:
    programs = {"dtee-async": bench.ours(), "C": [bench.path("reference")]}
    if dtee := which("dtee"):
        programs["dtee"] = [dtee]
    nothing = load._replace(count=0)
    contenders = {name: _contender(bench, program, name, load, own) for name, program in programs.items()}
    contenders |= {f"{name}, no writes": _contender(bench, program, name, nothing, own) for name, program in programs.items()}
    runs = alternate(contenders, ROUNDS)
    setting = {"stderr": f"1 of {load.alternate}", "own output": own}
    cpu_us: dict[str, list[float]] = {}
    for name in programs:
        wall_us = [run.wall_s / load.count * 1e6 for run in runs[name]]
        cpu_us[name] = [run.cpu_s / load.count * 1e6 for run in runs[name]]
        start_us = median(run.cpu_s for run in runs[f"{name}, no writes"]) / load.count * 1e6
        report.row(
            **setting,
            program=name,
            wall=median(wall_us),
            wall_best=min(wall_us),
            cpu=median(cpu_us[name]),
            cpu_best=min(cpu_us[name]),
            cpu_less_start=median(cpu_us[name]) - start_us,
        )
        cpu_us[f"{name} less start"] = [us - start_us for us in cpu_us[name]]
        if name != "dtee-async":
            what = f"stderr 1 of {load.alternate}, {own}: dtee-async / {name}"
            report.ratio(f"{what}, own CPU", cpu_us["dtee-async"], cpu_us[name])
            report.ratio(f"{what}, own CPU less start", cpu_us["dtee-async less start"], cpu_us[f"{name} less start"])
            report.ratio(f"{what}, wall", [run.wall_s for run in runs["dtee-async"]], [run.wall_s for run in runs[name]])
    if not dtee:
        report.row(**setting, program="dtee: not on PATH")


def _contender(bench: Bench, program: list[str], name: str, load: Load, own: str) -> Callable[[], Run]:
    files = {stream: bench.path(f"{name}.{stream}") for stream in ("out", "err", "all")}
    own_files = {stream: bench.path(f"{name}.own.{stream}") for stream in ("out", "err")}
    options = ["-O", files["out"], "-E", files["err"], "-C", files["all"]]
    argv = [*program, *options, *bench.writes(load)]

    def run() -> Run:
        if own != "two files":
            result = bench.run(argv)
            bench.check(load, files, name)
            return result
        result = bench.run(argv, own_files["out"], own_files["err"])
        bench.check(load, files, name)
        bench.check(load, own_files, name)
        for path in own_files.values():
            os.unlink(path)
        return result

    return run
