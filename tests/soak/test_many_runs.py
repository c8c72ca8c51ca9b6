"""Very many ``run()`` in one loop, no more than some at once: each is complete, memory does not grow, and no process is left."""

import asyncio
import hashlib
import random
import subprocess
import sys

import pytest

import dtee_async

AT_ONCE = 32
MEGABYTE = 1_000_000

ROUNDS = """
import asyncio, sys, uvloop, dtee_async

def rss_kib():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))

async def main():
    at_once = asyncio.Semaphore(32)

    async def one():
        async with at_once:
            result = await dtee_async.run(["head", "-c", "1000000", "/dev/zero"], check=True)
            assert len(result.stdout) == 1_000_000 and result.exact

    for _ in range(4):
        await asyncio.gather(*(one() for _ in range(200)))
        print(rss_kib())

with asyncio.Runner(loop_factory=uvloop.new_event_loop if sys.argv[1] == "uvloop" else None) as runner:
    runner.run(main())
"""


@pytest.mark.timeout(300)
async def test_a_thousand_short_ones():
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(number):
        async with at_once:
            return await dtee_async.run(["sh", "-c", f"echo {number}; exit {number % 7}"])

    results = await asyncio.gather(*map(one, range(1000)))
    assert [(result.combined, result.returncode) for result in results] == [(b"%d\n" % number, number % 7) for number in range(1000)]


@pytest.mark.timeout(300)
async def test_two_hundred_of_a_megabyte_are_complete():
    at_once = asyncio.Semaphore(AT_ONCE)
    program = "import random, os; data = random.Random({}).randbytes(1_000_000)\nwhile data: data = data[os.write(1 + len(data) % 2, data[:4096]):]"

    async def one(number):
        async with at_once:
            return await dtee_async.run([sys.executable, "-ISc", program.format(number)], check=True)

    for number, result in enumerate(await asyncio.gather(*map(one, range(200)))):
        assert hashlib.sha256(result.combined).digest() == hashlib.sha256(random.Random(number).randbytes(MEGABYTE)).digest()


@pytest.mark.timeout(300)
def test_memory_does_not_grow_with_their_number(loop_name):
    done = subprocess.run([sys.executable, "-c", ROUNDS, loop_name], stdout=subprocess.PIPE, text=True, check=True)
    first, *_, last = map(int, done.stdout.split())
    print(f"{loop_name}: {first // 1024} MiB after 200 runs, {last // 1024} MiB after 800")
    assert last < first * 1.1 + 4096
