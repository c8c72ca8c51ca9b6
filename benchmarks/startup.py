"""Owns the start-up: wall time of `dtee-async true`, installed as users have it, against what Python itself takes."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from functools import partial
from statistics import median

from .common import PROJECT, Bench, alternate, clean_environment
from .report import Report

TITLE = "milliseconds from spawn to exit, compiled install in a venv of its own"

ROUNDS = 30
TIMEOUT_S = 120


def measure(bench: Bench, report: Report) -> None:
    """30 runs of each, in turn."""
    folder = bench.path("venv")
    python = os.path.join(folder, "bin", "python")
    if error := _install(folder, python):
        report.row(program=f"not measured: {error}")
        return
    commands = {
        "dtee-async true": [os.path.join(folder, "bin", "dtee-async"), "true"],
        "python -m dtee_async true": [python, "-m", "dtee_async", "true"],
        "python -c 'import asyncio'": [python, "-c", "import asyncio"],
        "python -c pass": [python, "-c", "pass"],
    }
    env = clean_environment()
    runs = alternate({name: partial(bench.run, argv, env=env) for name, argv in commands.items()}, max(5, bench.scaled(ROUNDS)))
    walls_ms = {name: [run.wall_s * 1000 for run in results] for name, results in runs.items()}
    for name, wall_ms in walls_ms.items():
        report.row(program=name, median_ms=median(wall_ms), best_ms=min(wall_ms))
    for other in ("python -c 'import asyncio'", "python -c pass"):
        report.ratio(f"dtee-async true / {other}, wall", walls_ms["dtee-async true"], walls_ms[other])


def _install(folder: str, python: str) -> str:
    """Install the project, not editable: pip compiles it, whatever PYTHONDONTWRITEBYTECODE says. What went wrong, or nothing.

    Without its dependencies: the one-command line must not need any.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check", "--no-deps", PROJECT]
    try:
        subprocess.run(command, check=True, capture_output=True, env=clean_environment(), timeout=TIMEOUT_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        lines = (error.stderr or b"pip took too long").decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else str(error)
    return ""
