"""Owns one contender of library.py at one task: `library_contender.py CONTENDER TASK FOLDER SCALE` prints what came of it, as JSON.

A contender reads a command's lines, of both streams, in the way that its own documentation shows, and hands on each with its stream.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import anyio

import dtee_async

Take = Callable[[int, bytes], Awaitable[None]]
Read = Callable[[list[str], Take], Awaitable[None]]
Text = Callable[[list[str]], Awaitable[str]]

PIPE = subprocess.PIPE
RESULT_BYTES = 1 << 20


async def lines_of(stream: int, chunks: AsyncIterable[bytes], take: Take) -> None:
    """For libraries that give chunks."""
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            await take(stream, line)
    if rest:
        await take(stream, rest)


async def _read_lines(stream: int, reader: asyncio.StreamReader, take: Take) -> None:
    async for line in reader:
        await take(stream, line.rstrip(b"\n"))


async def with_asyncio(argv: list[str], take: Take) -> None:
    """create_subprocess_exec, and a reader for each stream."""
    process = await asyncio.create_subprocess_exec(*argv, stdout=PIPE, stderr=PIPE)
    async with asyncio.TaskGroup() as group:
        group.create_task(_read_lines(1, process.stdout, take))
        group.create_task(_read_lines(2, process.stderr, take))
    await process.wait()


async def with_anyio(argv: list[str], take: Take) -> None:
    """open_process, and a reader for each stream."""
    async with await anyio.open_process(argv) as process, anyio.create_task_group() as group:
        group.start_soon(lines_of, 1, process.stdout, take)
        group.start_soon(lines_of, 2, process.stderr, take)


async def anyio_text(argv: list[str]) -> str:
    """What anyio makes text by."""
    from anyio.streams.text import TextReceiveStream

    async with await anyio.open_process(argv) as process:
        return "".join([text async for text in TextReceiveStream(process.stdout)])


async def with_trio(argv: list[str], take: Take) -> None:
    """run_process, and a reader for each stream."""
    import trio

    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, argv, stdout=PIPE, stderr=PIPE))
        nursery.start_soon(lines_of, 1, process.stdout, take)
        nursery.start_soon(lines_of, 2, process.stderr, take)


async def with_shellous(argv: list[str], take: Take) -> None:
    """A command with both streams captured, and a reader for each."""
    from shellous import sh

    async with sh(*argv).stdout(sh.CAPTURE).stderr(sh.CAPTURE) as run, asyncio.TaskGroup() as group:
        group.create_task(_read_lines(1, run.stdout, take))
        group.create_task(_read_lines(2, run.stderr, take))


async def shellous_text(argv: list[str]) -> str:
    """What shellous makes text by."""
    from shellous import sh

    return await sh(*argv)


async def with_lines(argv: list[str], take: Take) -> None:
    """open_job, and its lines."""
    async with dtee_async.open_job(argv) as job:
        async for line in job.lines():
            await take(line.stream, line.data)


async def lines_text(argv: list[str]) -> str:
    """What we make text by."""
    async with dtee_async.open_job(argv) as job:
        return "".join([line.text + "\n" async for line in job.lines()])


async def with_writes(argv: list[str], take: Take) -> None:
    """open_job, and its writes, which are lines here where the command writes lines."""
    async with dtee_async.open_job(argv) as job:
        async for write in job:
            await take(write.stream, write.data.rstrip(b"\n"))


async def with_run(argv: list[str], take: Take) -> None:
    """run, with a bound, and what it kept."""
    for write in (await dtee_async.run(argv, limit_bytes=4 * RESULT_BYTES)).writes:
        await take(write.stream, bytes(write.data).rstrip(b"\n"))


class Contender(NamedTuple):
    """``text``: how it makes text of stdout; None: it has nothing for that. ``has_scopes``: it is to be cancelled by a cancel scope."""

    read: Read
    text: Text | None = None
    backend: str = "asyncio"
    has_scopes: bool = False


CONTENDERS = {
    "asyncio": Contender(with_asyncio),
    "anyio": Contender(with_anyio, anyio_text, has_scopes=True),
    "trio": Contender(with_trio, backend="trio", has_scopes=True),
    "shellous": Contender(with_shellous, shellous_text),
    "open_job-lines": Contender(with_lines, lines_text),
    "open_job-writes": Contender(with_writes),
    "run": Contender(with_run),
}


class Task:
    """The tasks; each gives a number or a word."""

    WRITES = 4000
    HOLD_S = 5.0
    AT_ONCE = 32

    def __init__(self, contender: Contender, folder: str, scale: float) -> None:
        self.read, self.text, _, self.has_scopes = contender
        self.folder = folder
        self.scale = scale

    def _writes(self, count: int, size_bytes: int) -> list[str]:
        return [os.path.join(self.folder, "writes"), str(count), str(size_bytes), "2"]

    async def order(self) -> int | str:
        """Lines that do not follow the one before, of so many that alternate between the streams."""
        program = f"import os\nfor i in range({self.WRITES}): os.write(1 + i % 2, b'%d\\n' % i)"
        got: list[int] = []

        async def take(_: int, line: bytes) -> None:
            got.append(int(line))

        await self.read([sys.executable, "-S", "-c", program], take)
        if sorted(got) != list(range(self.WRITES)):
            return f"{self.WRITES - len(set(got))} lost"
        return sum(line != before + 1 for before, line in zip([-1, *got], got, strict=False))

    async def cpu(self) -> float:
        """Our processor time in us for each 64-byte line, of both streams."""
        count, seen = int(40_000 * self.scale), 0

        async def take(_: int, _line: bytes) -> None:
            nonlocal seen
            seen += 1

        each_us = []
        for _ in range(3):
            begin_s, seen = time.process_time(), 0
            await self.read(self._writes(count, 64), take)
            each_us.append((time.process_time() - begin_s) / count * 1e6)
            assert seen == count, seen
        return min(each_us)

    async def memory(self) -> float:
        """Our peak RSS in MiB after 400 MiB, which the consumer takes at 100 MiB/s or slower."""
        size_bytes, taken_bytes, pauses = 16384, 0, 0

        async def take(_: int, line: bytes) -> None:
            nonlocal taken_bytes, pauses
            taken_bytes += len(line) + 1
            if taken_bytes >> 20 > pauses:
                pauses += 1
                await anyio.sleep(0.01)

        await self.read(self._writes(int(400 * self.scale * (1 << 20)) // size_bytes, size_bytes), take)
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM:")) / 1024

    async def line(self) -> str:
        """What becomes of a line of 1 MiB, from a program that writes it in pieces."""
        parts: list[int] = []

        async def take(_: int, line: bytes) -> None:
            parts.append(len(line))

        await self.read(["sh", "-c", f"head -c {1 << 20} /dev/zero | tr '\\0' x; echo"], take)
        if parts == [1 << 20]:
            return "whole"
        return f"{len(parts)} parts" if sum(parts) == 1 << 20 else f"{(1 << 20) - sum(parts)} bytes lost"

    async def not_utf8(self) -> str:
        """What its text makes of a byte that is not UTF-8."""
        if self.text is None:
            return "bytes only"
        text = await self.text(["sh", "-c", "printf 'caf\\351\\n'"])
        return "kept" if text.encode("utf-8", "surrogateescape") == b"caf\xe9\n" else "changed"

    async def grandchild(self) -> float:
        """Seconds until the reading ends, when the command ends at once and leaves a process with its stdout for 5 s."""
        await self.read(["true"], _ignore)  # what is made once
        begin_s = time.monotonic()
        await self.read(["sh", "-c", f"echo begun; sleep {self.HOLD_S} &"], _ignore)
        return time.monotonic() - begin_s

    async def cancel(self) -> str:
        """Who is left when the reading of a command, which has a child of its own, is cancelled; and how long the cancelling takes."""
        path = os.path.join(self.folder, f"pids-{os.getpid()}")
        argv = ["sh", "-c", f"sleep 30 & echo $$ $! >{path}.new; mv {path}.new {path}; wait"]
        begin_s = await (self._cancel_scope if self.has_scopes else self._cancel_task)(argv, path)
        took_s = time.monotonic() - begin_s
        with open(path, encoding="ascii") as file:
            pids = dict(zip(("command", "its child"), map(int, file.read().split()), strict=True))
        until_s = time.monotonic() + 1
        while any(map(_lives, pids.values())) and time.monotonic() < until_s:
            await anyio.sleep(0.01)
        left = [name for name, pid in pids.items() if _lives(pid)]
        for pid in pids.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return f"{took_s:.2f} s, left: {' and '.join(left) or 'nobody'}"

    async def _cancel_task(self, argv: list[str], path: str) -> float:
        task = asyncio.create_task(self.read(argv, _ignore))
        await _exists(path)
        begin_s = time.monotonic()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return begin_s

    async def _cancel_scope(self, argv: list[str], path: str) -> float:
        async with anyio.create_task_group() as group:
            group.start_soon(self.read, argv, _ignore)
            await _exists(path)
            begin_s = time.monotonic()
            group.cancel_scope.cancel()
        return begin_s

    async def rate(self) -> float:
        """Runs of `true` per second."""
        count, wall_s, _ = await self._many()
        return count / wall_s

    async def run_cpu(self) -> float:
        """Our processor time in ms for each run of `true`."""
        count, _, cpu_s = await self._many()
        return cpu_s / count * 1000

    async def _many(self) -> tuple[int, float, float]:
        """1,000 runs of `true`, no more than 32 at once: how many, seconds, and seconds of our processor time."""
        count, semaphore = int(1000 * self.scale), anyio.Semaphore(self.AT_ONCE)

        async def one() -> None:
            async with semaphore:
                await self.read(["true"], _ignore)

        await one()  # what is made once
        begin_s, begin_cpu_s = time.monotonic(), time.process_time()
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(one)
        return count, time.monotonic() - begin_s, time.process_time() - begin_cpu_s


async def _ignore(_: int, _line: bytes) -> None:
    """Nobody wants it."""


async def _exists(path: str) -> None:
    while not os.path.exists(path):
        await anyio.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _name(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if isinstance(error, OSError) else type(error).__name__


def main() -> None:
    """One task of one contender; an error is an answer too."""
    who, what, folder, scale = sys.argv[1:]
    contender = CONTENDERS[who]
    task = getattr(Task(contender, folder, float(scale)), what)
    try:
        answer = anyio.run(task, backend=contender.backend)
    except Exception as error:  # noqa: BLE001
        answer = _name(error)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
