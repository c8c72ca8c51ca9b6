"""Owns the comparison of duplicate() with tee of coreutils: `python benchmarks/tee.py [--quick | --mib N]`; see `make bench-tee`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROUNDS = 5
MIB = 1 << 20
OURS = """
import asyncio, sys
sys.path.insert(0, sys.argv.pop())
from dtee_async.zerocopy import duplicate
files = [open(path, "wb") for path in sys.argv[1:]]
result = asyncio.run(duplicate(0, 1, *files, enlarge={enlarge}))
sys.exit(any(sink.error for sink in result.sinks))
"""
PRODUCER = """
import os, sys
block, left = bytes(range(256)) * 512, int(sys.argv[1])
while left > 0:
    left -= os.write(1, block[:left])
"""
CONSUMER = "import os\nwhile os.read(0, 1 << 20): pass"


class Run(NamedTuple):
    """Wall time from start to end, and the processor time of the contender alone."""

    wall_s: float
    cpu_s: float


def contenders() -> dict[str, Callable[[Sequence[str]], list[str]]]:
    """For each program its command line for these files."""

    def ours(enlarge: bool) -> Callable[[Sequence[str]], list[str]]:  # noqa: FBT001
        return lambda paths: [sys.executable, "-c", OURS.format(enlarge=enlarge), *paths, PROJECT]

    return {"tee": lambda paths: ["tee", *paths], "duplicate": ours(False), "duplicate, enlarge": ours(True)}


def timed(argv: Sequence[str], size: int, paths: Sequence[str], *, to_pipe: bool) -> Run:
    """One pipeline: producer | contender | consumer, or > /dev/null. Raises RuntimeError when a file is not as large as it should be."""
    with subprocess.Popen([sys.executable, "-c", PRODUCER, str(size)], stdout=subprocess.PIPE) as producer:
        begin = perf_counter()
        contender = subprocess.Popen(argv, stdin=producer.stdout, stdout=subprocess.PIPE if to_pipe else subprocess.DEVNULL)
        producer.stdout.close()
        consumer = subprocess.Popen([sys.executable, "-c", CONSUMER], stdin=contender.stdout) if to_pipe else None
        if contender.stdout:
            contender.stdout.close()
        _, status, usage = os.wait4(contender.pid, 0)
        wall_s = perf_counter() - begin
        contender.returncode = os.waitstatus_to_exitcode(status)
        if consumer:
            consumer.wait()
    if contender.returncode or any(os.path.getsize(path) != size for path in paths):
        raise RuntimeError(f"{argv}: wrong output, status {contender.returncode}")
    for path in paths:
        os.unlink(path)
    return Run(wall_s, usage.ru_utime + usage.ru_stime)


def measure(name: str, size: int, paths: Sequence[str], *, to_pipe: bool) -> None:
    """All contenders in turns; the best of each is printed."""
    runs: dict[str, list[Run]] = {}
    for _ in range(ROUNDS):
        for who, command in contenders().items():
            runs.setdefault(who, []).append(timed(command(paths), size, paths, to_pipe=to_pipe))
    base = min(run.cpu_s for run in runs["tee"])
    for who, times in runs.items():
        wall_s, cpu_s = min(run.wall_s for run in times), min(run.cpu_s for run in times)
        print(f"{name:24} {who:20} {size / wall_s / 1e9:7.2f} GB/s {cpu_s:8.3f} s CPU {cpu_s / base:6.2f} of tee", flush=True)


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=4096)
    parser.add_argument("--quick", action="store_const", dest="mib", const=256)
    parser.add_argument("--disk", default="/var/tmp", help="a folder on a disk")
    arguments = parser.parse_args()
    size = arguments.mib * MIB
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, tempfile.TemporaryDirectory(dir=arguments.disk) as disk:
        measure("pipe to pipe", size, [], to_pipe=True)
        measure("/dev/null", size, [], to_pipe=False)
        measure("pipe and a tmpfs file", size, [f"{memory}/a"], to_pipe=True)
        measure("pipe and a disk file", size, [f"{disk}/a"], to_pipe=True)
        measure("pipe and three files", size, [f"{memory}/{name}" for name in "abc"], to_pipe=True)


if __name__ == "__main__":
    main()
