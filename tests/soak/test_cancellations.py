"""Cancellation at any moment, in many ways: nothing is left, and what was captured is a beginning of the truth."""

import asyncio
import os
import random
import threading

import anyio
import pytest

import dtee_async
from dtee_async.process.group import members
from dtee_async.testing import open_fds

RUNS = int(os.environ.get("DTEE_CANCELLATIONS", "500"))
LONGEST_S = 0.06

TRUTH = b"".join(b"%d\n" % n for n in range(1, 200_001))
COMMAND = "sleep 100 & i=0; while [ $i -lt 200000 ]; do i=$((i+1)); echo $i >&$((1 + i % 2)); done"
WAYS = ("task", "anyio", "asyncio", "timeout_s", "twice")
KINDS = ("run", "writes", "lines", "stdin", "file")


class Unlucky:
    """One job that will be cancelled; what it got until then."""

    def __init__(self, chooser, folder):
        self.kind = chooser.choice(KINDS)
        self.way = chooser.choice(WAYS)
        self.after_s = chooser.random() * LONGEST_S
        self.capture = chooser.choice(("auto", "ordered", "turnstile"))
        self.log = folder / "log"
        self.log.write_bytes(b"")
        self.got = b""
        self.pid = 0
        self.result = None

    async def work(self, **options):
        if self.kind == "run" or "timeout_s" in options:
            await dtee_async.run(COMMAND, capture=self.capture, combined_append=self.log, **options)
            return
        stdin = endless() if self.kind == "stdin" else None
        files = {"combined_append": self.log} if self.kind == "file" else {}
        job = None
        try:
            async with dtee_async.open_job(COMMAND, stdin=stdin, capture=self.capture, limit_bytes=1 << 20, keep="head", **files) as job:
                self.pid = job.pid
                if self.kind == "lines":
                    async for line in job.lines():
                        self.got += line.data + b"\n" * line.complete
                else:
                    async for write in job:
                        self.got += write.data
        finally:
            self.result = job.result if job is not None else None

    async def cancelled(self):
        """Run it, and cancel it in its way."""
        if self.way == "anyio":
            with pytest.raises(TimeoutError), anyio.fail_after(self.after_s):
                await self.work()
        elif self.way == "asyncio":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(self.after_s):
                    await self.work()
        elif self.way == "timeout_s":
            with pytest.raises(dtee_async.CommandTimeoutError) as caught:
                await self.work(timeout_s=self.after_s)
            self.got, self.result = caught.value.result.combined, caught.value.result
        else:
            task = asyncio.create_task(self.work())
            await anyio.sleep(self.after_s)  # the random moment
            task.cancel()
            if self.way == "twice":
                await anyio.sleep(self.after_s / 100)
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    def check(self):
        assert TRUTH.startswith(self.got)
        assert TRUTH.startswith(self.log.read_bytes())
        if self.pid:
            assert members(self.pid) == []
        if self.result is not None:
            assert TRUTH.startswith(self.result.combined)
            assert self.result.combined.startswith(self.got)
            assert members(self.result.writes[0].pid) == [] if len(self.result.writes) else True


async def endless():
    while True:
        yield b"x" * 10_000


def children():
    with open(f"/proc/self/task/{threading.get_native_id()}/children") as file:
        return file.read()


def fds():
    """All but the watch for node, which the loop keeps for a second."""
    return {fd for fd, what in open_fds().items() if what != "anon_inode:inotify"}


async def settled(before):
    with anyio.move_on_after(5):
        while (fds(), threading.enumerate()) != before[:2]:
            await anyio.sleep(0.001)


async def cancel_many(seeds, folder):
    await dtee_async.run("true")  # what belongs to the loop is there from now on
    before = fds(), threading.enumerate(), children(), asyncio.all_tasks()
    captured = 0
    for seed in seeds:
        unlucky = Unlucky(random.Random(seed), folder)
        await unlucky.cancelled()
        try:
            unlucky.check()
            if unlucky.way == "twice":  # then nobody waits for what a thread is writing
                await settled(before)
            assert (fds(), threading.enumerate(), children(), asyncio.all_tasks()) == before
        except AssertionError as error:
            error.add_note(f"seed {seed}: {unlucky.kind}, {unlucky.way} after {unlucky.after_s:.4f} s")
            raise
        captured += len(unlucky.got)
    return captured


@pytest.mark.timeout(900)
async def test_many_cancellations(tmp_path):
    captured = await cancel_many(range(RUNS), tmp_path)
    print(f"{RUNS} cancellations, {captured:,} bytes until then")
    assert captured > 0
