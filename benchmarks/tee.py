"""Owns the comparison with tee of coreutils: `python benchmarks/tee.py [--quick | --mib N]`; see `make bench-tee`."""

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
DTEE_ASYNC = os.path.join(os.path.dirname(sys.executable), "dtee-async")
MIB = 1 << 20
PRODUCER = """
import os, sys
block, left = bytes(range(256)) * 512, int(sys.argv[1])
while left > 0:
    left -= os.write(1, block[:left])
"""
CONSUMER = "import os\nwhile os.read(0, 1 << 20): pass"


class Run(NamedTuple):
    """Wall time from start to end, and the processor time of the contender alone, without its children."""

    wall_s: float
    cpu_s: float


CONTENDERS: dict[str, Callable[[Sequence[str]], list[str]]] = {
    "tee": lambda paths: ["tee", *paths],
    "dtee-async -": lambda paths: [DTEE_ASYNC, *[word for path in paths for word in ("-O", path)], "-"],
}


def processor_s(pid: int) -> float:
    """The processor time of a process that has ended and is not reaped, without its children (proc_pid_stat(5))."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def timed(argv: Sequence[str], size: int, paths: Sequence[str], *, to_pipe: bool, piped: bool) -> Run:
    """One pipeline: [producer |] contender | consumer, or > /dev/null. Raises RuntimeError when a file is not as large as it should be."""
    begin = perf_counter()
    producer = subprocess.Popen([sys.executable, "-c", PRODUCER, str(size)], stdout=subprocess.PIPE) if piped else None
    contender = subprocess.Popen(argv, stdin=producer and producer.stdout, stdout=subprocess.PIPE if to_pipe else subprocess.DEVNULL)
    consumer = subprocess.Popen([sys.executable, "-c", CONSUMER], stdin=contender.stdout) if to_pipe else None
    for end in (producer and producer.stdout, contender.stdout):
        if end:
            end.close()
    os.waitid(os.P_PID, contender.pid, os.WEXITED | os.WNOWAIT)
    run = Run(perf_counter() - begin, processor_s(contender.pid))
    for process in (producer, contender, consumer):
        if process and process.wait():
            raise RuntimeError(f"{process.args}: status {process.returncode}")
    for path in paths:
        if path.startswith("/dev/null"):
            continue
        if os.path.getsize(path) != size:
            raise RuntimeError(f"{argv}: {path} has {os.path.getsize(path)} bytes")
        os.unlink(path)
    return run


def measure(name: str, size: int, paths: Sequence[str], *, to_pipe: bool = True) -> None:
    """Tee and ours by turns; the best of each is printed."""
    runs: dict[str, list[Run]] = {}
    for _ in range(ROUNDS):
        for who, command in CONTENDERS.items():
            runs.setdefault(who, []).append(timed(command(paths), size, paths, to_pipe=to_pipe, piped=True))
    show(name, size, runs)


def measure_command(name: str, size: int, path: str) -> None:
    """`CMD | tee FILE | consumer`, and `dtee-async --capture=pipe -O FILE CMD | consumer`, the processor time of CMD left out."""
    command = [sys.executable, "-c", PRODUCER, str(size)]
    runs: dict[str, list[Run]] = {}
    for _ in range(ROUNDS):
        runs.setdefault("tee", []).append(timed(["tee", path], size, [path], to_pipe=True, piped=True))
        ours = [DTEE_ASYNC, "--capture=pipe", "-O", path, *command]
        runs.setdefault("dtee-async CMD", []).append(timed(ours, size, [path], to_pipe=True, piped=False))
    show(name, size, runs)


def show(name: str, size: int, runs: dict[str, list[Run]]) -> None:
    """One line for each contender: its best throughput and processor time, as ratios to those of tee."""
    best = {who: Run(min(run.wall_s for run in times), min(run.cpu_s for run in times)) for who, times in runs.items()}
    tee = best["tee"]
    for who, run in best.items():
        speed, cpu = tee.wall_s / run.wall_s, run.cpu_s / tee.cpu_s if tee.cpu_s else float("nan")
        print(f"{name:24} {who:16} {size / run.wall_s / 1e9:6.2f} GB/s {speed:6.2f} {run.cpu_s:8.2f} s CPU {cpu:6.2f}", flush=True)


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=4096)
    parser.add_argument("--quick", action="store_const", dest="mib", const=256)
    parser.add_argument("--disk", default="/var/tmp", help="a folder on a disk")
    arguments = parser.parse_args()
    size = arguments.mib * MIB
    print(f"{arguments.mib} MiB, best of {ROUNDS}; throughput and processor time as ratios to tee's")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, tempfile.TemporaryDirectory(dir=arguments.disk) as disk:
        measure("pipe to pipe", size, [])
        measure("/dev/null", size, [], to_pipe=False)
        measure("pipe and /dev/null", size, ["/dev/null"])
        measure("pipe and a tmpfs file", size, [f"{memory}/a"])
        measure("pipe and a disk file", size, [f"{disk}/a"])
        measure("pipe and three files", size, three(memory, disk, size))
        measure_command("a command, tmpfs file", size, f"{memory}/a")
        measure_command("a command, disk file", size, f"{disk}/a")


def three(memory: str, disk: str, size: int) -> list[str]:
    """Where three files fit: in memory, or on the disk."""
    free = os.statvfs(memory)
    folder = memory if free.f_bavail * free.f_frsize > 3.5 * size else disk
    return [f"{folder}/{name}" for name in "abc"]


if __name__ == "__main__":
    main()
