"""``producer | dtee-async -O FILE - | consumer``, many times over and with much: every sink that lives has everything."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

PROGRAM = str(Path(sys.executable).parent / "dtee-async")
RUNS = int(os.environ.get("DUPLICATE_RUNS", "200"))
HUGE_BYTES = 5 << 30
CHUNK_BYTES = 1 << 20
MEMORY = Path("/dev/shm")
pytestmark = pytest.mark.timeout(1800)


class Plan(NamedTuple):
    """One run, drawn from its number."""

    data: bytes
    chooser: random.Random
    files: list[str]
    fifos: list[int | None]
    """After how many bytes the reader of each dies; None: it reads all."""
    mode: str
    dies_after: int | None
    """The consumer."""


def drawn(seed):
    chooser = random.Random(seed)
    data = chooser.randbytes(chooser.choice((0, chooser.randrange(100), chooser.randrange(200_000), chooser.randrange(6_000_000))))
    files = [chooser.choice("oO") for _ in range(chooser.randrange(4))]
    fifos = [chooser.choice((None, chooser.randrange(1, len(data) + 2))) for _ in range(chooser.randrange(3))]
    dies_after = chooser.choice((None, None, chooser.randrange(1, len(data) + 2)))
    mode = "warn-nopipe" if dies_after is not None or any(fifos) else chooser.choice(("", "warn", "exit"))
    return Plan(data, chooser, files, fifos, mode, dies_after)


def read(file, step, dies_after, digest, counted, slow):
    """Some readers take a millisecond a step: that is the slowness."""
    with file:
        while dies_after is None or counted[0] < dies_after:
            if not (piece := file.read(step)):
                return
            counted[0] += len(piece)
            digest.update(piece)
            if slow and counted[0] < 50 * step:
                time.sleep(0.001)


class Reader:
    """Reads a pipe to its end, or dies."""

    def __init__(self, opening, chooser, dies_after):
        self.dies_after, self.counted, self.digest = dies_after, [0], hashlib.sha256()
        step = chooser.choice((1000, 4096, 65_536, CHUNK_BYTES))
        slow = chooser.random() < 0.3

        def run():
            read(opening(), step, dies_after, self.digest, self.counted, slow)

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def check(self, data):
        self.thread.join()
        assert self.digest.digest() == hashlib.sha256(data[: self.counted[0]]).digest()
        if self.dies_after is None:
            assert self.counted[0] == len(data)


def feed(pipe, data, chooser):
    """In random pieces, some of them a moment after the one before."""
    view = memoryview(data)
    with suppress(BrokenPipeError), pipe:
        while view:
            size = chooser.choice((1, 4096, 10_000, 65_536, CHUNK_BYTES))
            view = view[pipe.write(view[:size]) :]
            if chooser.random() < 0.05:
                time.sleep(chooser.random() * 0.005)


def one_run(seed, folder):
    """Sinks that were checked, those that died, and the bytes of the source."""
    plan = drawn(seed)
    options = [f"--output-error={plan.mode}"] if plan.mode else []
    for number, letter in enumerate(plan.files):
        (folder / f"file{number}").write_bytes(b"old")
        options += [f"-{letter}", f"file{number}"]
    readers = []
    for number, dies_after in enumerate(plan.fifos):
        path = folder / f"fifo{number}"
        os.mkfifo(path)
        options += ["-O", str(path)]
        readers.append(Reader(lambda path=path: open(path, "rb", buffering=0), plan.chooser, dies_after))  # noqa: SIM115
    words = [PROGRAM, *options, "-"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, bufsize=0) as process:
        readers.append(Reader(lambda: process.stdout, plan.chooser, plan.dies_after))
        feed(process.stdin, plan.data, plan.chooser)
        for reader in readers:
            reader.check(plan.data)
        said = process.stderr.read()
        assert (process.wait(), said) == (0, b"")
    for number, letter in enumerate(plan.files):
        expected = (b"old" if letter == "o" else b"") + plan.data
        assert hashlib.sha256((folder / f"file{number}").read_bytes()).digest() == hashlib.sha256(expected).digest()
    return len(plan.files) + len(readers), sum(reader.dies_after is not None for reader in readers), len(plan.data)


@pytest.mark.parametrize("without", ["", "splice"])
def test_many_random_runs(tmp_path, monkeypatch, without):
    monkeypatch.setenv("DTEE_ASYNC_WITHOUT", without)
    totals = [0, 0, 0]
    runs = RUNS // 5 if without else RUNS
    for seed in range(runs):
        folder = tmp_path / str(seed)
        folder.mkdir()
        totals = [total + count for total, count in zip(totals, one_run(seed, folder), strict=True)]
        shutil.rmtree(folder)
    print(f"{runs} runs: {totals[0]} sinks, of which {totals[1]} were to die, {totals[2]:,} bytes from the sources")
    assert min(totals) > 0


def test_signals_in_the_middle_leave_prefixes(tmp_path):
    """INT and TERM at any moment: what is in the file is a beginning of what was written, and the consumer has no more than that."""
    data = random.Random(1).randbytes(3_000_000)
    for seed in range(RUNS // 4):
        chooser = random.Random(seed)
        number = chooser.choice((signal.SIGINT, signal.SIGTERM))
        (tmp_path / "a").unlink(missing_ok=True)
        with subprocess.Popen([PROGRAM, "-O", "a", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path, bufsize=0) as process:
            feeding = threading.Thread(target=feed, args=(process.stdin, data, chooser))
            feeding.start()
            got = process.stdout.read(chooser.randrange(1, 100_000))
            process.send_signal(number)
            got += process.stdout.read()
            feeding.join()
            assert process.wait() in (-number, 0)
        assert got == data[: len(got)]
        copied = (tmp_path / "a").read_bytes()
        assert copied == data[: len(copied)]


def digest_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(CHUNK_BYTES):
            digest.update(data)
    return digest.hexdigest()


def roomy(*folders):
    for folder in folders:
        if folder.is_dir() and os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > 2 * HUGE_BYTES:
            return folder
    pytest.skip(f"needs {2 * HUGE_BYTES:,} bytes free in one of {', '.join(map(str, folders))}")
    return None


def test_five_gigabytes_to_the_null_device_and_a_file(tmp_path):
    target = roomy(tmp_path, MEMORY) / f"dtee-async-soak-{os.getpid()}"
    block = random.Random(3).randbytes(CHUNK_BYTES)
    expected, counted = hashlib.sha256(), 0
    words = [PROGRAM, "-v", "-O", "/dev/null", "-O", str(target), "-"]
    try:
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            while counted < HUGE_BYTES:
                piece = counted.to_bytes(8) + block[8:]
                expected.update(piece)
                counted += process.stdin.write(piece)
            process.stdin.close()
            said = process.stderr.read()
            assert process.wait() == 0
        assert said.count(b"5.37 GB") == 3
        assert target.stat().st_size == counted == HUGE_BYTES
        assert digest_of(target) == expected.hexdigest()
    finally:
        target.unlink(missing_ok=True)


def test_a_sparse_file_of_five_gigabytes(tmp_path):
    path = tmp_path / "sparse"
    island = random.Random(4).randbytes(100_000)
    try:
        with open(path, "wb") as file:
            file.truncate(HUGE_BYTES)
            file.seek(3 << 30)
            file.write(island)
        expected = digest_of(path)
        digest, counted = hashlib.sha256(), 0
        words = [PROGRAM, "-v", "-O", "/dev/null", "-"]
        with open(path, "rb") as file, subprocess.Popen(words, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            while data := process.stdout.read(CHUNK_BYTES):
                digest.update(data)
                counted += len(data)
            said = process.stderr.read()
            assert process.wait() == 0
        assert (counted, digest.hexdigest()) == (HUGE_BYTES, expected)
        assert said.count(b"5.37 GB") == 2
    finally:
        path.unlink(missing_ok=True)
