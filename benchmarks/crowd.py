"""Owns the neighbours: ten jobs that stream, alone and beside fifty that crash at once and are restarted."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable

from .common import Bench, WrongOutputError, alternate
from .report import Report

TITLE = "10 jobs that stream 100 MB each into a file, alone and beside 50 that crash and restart with back-off"

ROUNDS = 3
STREAMS = 10
CRASHING = 50
SIZE_BYTES = 100_000_000
LINE = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-\n"
STREAM = """
import os, sys
block, left = sys.argv[1].encode().decode("unicode_escape").encode() * 256, int(sys.argv[2])
while left > 0:
    left -= os.write(1, block[:left])
"""


def measure(bench: Bench, report: Report) -> None:
    """The wall time of the streams: the last of them ends the run."""
    size_bytes = bench.scaled(SIZE_BYTES)
    results = alternate({"alone": _contender(bench, size_bytes, 0), "in a crowd": _contender(bench, size_bytes, CRASHING)}, ROUNDS)
    for name, each in results.items():
        report.row(what=name, mb_per_s=STREAMS * size_bytes / min(each) / 1e6, wall_s=min(each))
    report.ratio("streams: in a crowd / alone, time", results["in a crowd"], results["alone"], at_most=1 / 0.8)


def _contender(bench: Bench, size_bytes: int, crashing: int) -> Callable[[], float]:
    folder = bench.path(f"crowd-{crashing}")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "jobs.toml")
    with open(path, "w", encoding="utf-8") as file:
        for job in range(STREAMS):
            command = [sys.executable, "-I", "-S", "-c", STREAM, LINE.decode(), str(size_bytes)]
            words = ", ".join('"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"' for word in command)
            file.write(f'[jobs.stream{job}]\ncommand = [{words}]\nout_overwrite = "{job}.log"\n')
        # They crash until the streams have ended: what waits for all streams ends the run.
        for job in range(crashing):
            file.write(f'[jobs.crash{job}]\ncommand = "exit 1"\navailability.restart = "on_failure"\n')
        file.write('[jobs.end]\ncommand = ["true"]\navailability.exit_on_end = true\n')
        for job in range(STREAMS):
            file.write(f'depends_on.stream{job}.condition = "process_completed"\n')
    argv = bench.ours("--jobs", path, "--no-summary")
    expected = hashlib.sha256((LINE * (size_bytes // len(LINE) + 1))[:size_bytes]).hexdigest()

    def run() -> float:
        wall_s = bench.run(argv).wall_s
        for job in range(STREAMS):
            with open(os.path.join(folder, f"{job}.log"), "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    raise WrongOutputError(f"stream {job} beside {crashing} crashing jobs is not what was written")
        return wall_s

    return run
