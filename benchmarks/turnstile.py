"""Owns the cost of the turnstile: a write against the same work in C and against mode ordered, and a whole build against a bare one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

from .common import PROJECT, Bench, Load, Run, alternate, which
from .report import Report

TITLE = "microseconds per 64-byte write, streams alternating, both to /dev/null and to a combined file; seconds of a make"

ROUNDS = 7
MOST_OF_C = 1.8
MOST_OF_ORDERED = 10
MOST_OF_MAKE = 1.3
SOURCES = 40
FUNCTIONS = 60


def measure(bench: Bench, report: Report) -> None:
    """The writes, then the build."""
    if why_not := _refusal():
        report.row(program=f"not measured: {why_not}")
        return
    _measure_writes(bench, report)
    _measure_make(bench, report)


def _refusal() -> str:
    """Why there is no turnstile here; empty if there is one."""
    argv = [sys.executable, "-m", "dtee_async", "-v", "--capture=turnstile", "true"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=PROJECT)
    return "" if "capture mode turnstile" in done.stderr else done.stderr.strip()


def _measure_writes(bench: Bench, report: Report) -> None:
    load = Load(bench.scaled(200_000), 64, 2)
    nothing = load._replace(count=0)
    file = bench.path("turnstile.all")
    programs = {
        "turnstile": bench.ours("--capture=turnstile", "-C", file),
        "C": [bench.path("turnstile_reference"), file],
        "ordered": bench.ours("--capture=ordered", "-C", file),
    }
    contenders = {name: _writes(bench, name, argv, load, file) for name, argv in programs.items()}
    contenders |= {f"{name}, no writes": _writes(bench, name, argv, nothing, file) for name, argv in programs.items()}
    runs = alternate(contenders, ROUNDS)
    walls: dict[str, list[float]] = {}
    cpus: dict[str, list[float]] = {}
    for name in programs:
        start = runs[f"{name}, no writes"]
        walls[name] = [(run.wall_s - median(one.wall_s for one in start)) / load.count * 1e6 for run in runs[name]]
        cpus[name] = [(run.cpu_s - median(one.cpu_s for one in start)) / load.count * 1e6 for run in runs[name]]
        report.row(program=name, wall=median(walls[name]), wall_best=min(walls[name]), cpu=median(cpus[name]), cpu_best=min(cpus[name]))
    for other, at_most in (("C", MOST_OF_C), ("ordered", MOST_OF_ORDERED)):
        report.ratio(f"turnstile / {other}, wall less start per write", walls["turnstile"], walls[other], at_most=at_most)
        report.ratio(f"turnstile / {other}, own CPU less start per write", cpus["turnstile"], cpus[other], at_most=at_most)


def _writes(bench: Bench, name: str, program: Sequence[str], load: Load, file: str) -> Callable[[], Run]:
    argv = [*program, *bench.writes(load)]

    def run() -> Run:
        result = bench.run(argv)
        bench.check(load, {"all": file}, name)
        return result

    return run


def _measure_make(bench: Bench, report: Report) -> None:
    make = which("make")
    if make is None:
        report.row(program="make: not on PATH")
        return
    folder = _project(bench)
    build = [make, "-B", "-C", folder]
    turnstile = [*bench.ours("--capture=turnstile", "-C", bench.path("make.log")), *build]
    runs = alternate({"make": partial(bench.run, build), "turnstile make": partial(bench.run, turnstile)}, ROUNDS)
    walls = {name: [run.wall_s for run in each] for name, each in runs.items()}
    for name, wall_s in walls.items():
        report.row(program=name, wall_s=median(wall_s), wall_s_best=min(wall_s))
    report.ratio(f"make of {SOURCES} C files under turnstile / bare, wall", walls["turnstile make"], walls["make"], at_most=MOST_OF_MAKE)


def _project(bench: Bench) -> str:
    """A program of many small files, each with a warning for stderr."""
    folder = bench.path("project")
    os.makedirs(folder, exist_ok=True)
    names = [f"part{i}" for i in range(bench.scaled(SOURCES))]
    for name in names:
        functions = "".join(f"int {name}_{i}(int x) {{ return x * {i} + {len(name)}; }}\n" for i in range(FUNCTIONS))
        _write(os.path.join(folder, f"{name}.c"), f"#include <stdio.h>\n#warning {name} is generated\n{functions}")
    _write(os.path.join(folder, "main.c"), "int main(void) { return 0; }\n")
    objects = " ".join(f"{name}.o" for name in [*names, "main"])
    _write(os.path.join(folder, "Makefile"), f"CFLAGS = -O1 -Wall\nprogram: {objects}\n\t$(CC) -o $@ $^\n")
    return folder


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
