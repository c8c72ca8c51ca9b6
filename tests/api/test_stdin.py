"""What a command is given to read: bytes, a file, a stream of bytes, ours, or a pipe that the caller writes to."""

import asyncio
import hashlib
import subprocess
import sys

import anyio
import pytest

import dtee_async
from dtee_async import open_job, run

BIG = bytes(range(256)) * 4096 * 3
"""More than a pipe holds."""


async def test_bytes_more_than_a_pipe_holds():
    result = await run("sha256sum", stdin=BIG)
    assert result.stdout.split()[0].decode() == hashlib.sha256(BIG).hexdigest()


@pytest.mark.parametrize("data", [b"", b"one\n"])
async def test_few_bytes_or_none(data):
    assert (await run("cat", stdin=data)).stdout == data


@pytest.mark.parametrize("command", ["true", "head -c 1", "exec <&-; echo on"])
async def test_bytes_for_a_command_that_does_not_want_them_all(command):
    result = await run(command, stdin=BIG, check=True)
    assert result.stdout in (b"", BIG[:1], b"on\n")


async def test_bytes_for_a_command_that_is_ended():
    with pytest.raises(dtee_async.CommandTimeoutError):
        await run("exec sleep 100", stdin=BIG, timeout_s=0.1)


async def test_nothing():
    assert (await run("cat; readlink /proc/self/fd/0")).stdout == b"/dev/null\n"


async def test_a_file_from_where_it_stands_and_it_stays_open(tmp_path):
    (tmp_path / "input").write_bytes(b"0123456789")
    with open(tmp_path / "input", "rb", buffering=0) as file:
        file.seek(3)
        assert (await run("cat", stdin=file)).stdout == b"3456789"
        assert file.tell() == 10


@pytest.mark.parametrize("code", ["dtee_async.run_sync('cat', stdin='inherit')", "dtee_async.run_sync('cat', stdin=sys.stdin)"])
def test_ours(code):
    words = [sys.executable, "-c", f"import sys, dtee_async; sys.stdout.buffer.write({code}.stdout)"]
    assert subprocess.run(words, input=b"from outside", stdout=subprocess.PIPE, check=True).stdout == b"from outside"


async def chunks_of(data, size_bytes):
    for begin in range(0, len(data), size_bytes):
        yield data[begin : begin + size_bytes]


@pytest.mark.parametrize("size_bytes", [1000, 100_000, len(BIG)])
async def test_an_iterator(size_bytes):
    result = await run("sha256sum", stdin=chunks_of(BIG, size_bytes))
    assert result.stdout.split()[0].decode() == hashlib.sha256(BIG).hexdigest()


async def test_an_iterator_that_raises_is_the_error_and_the_command_reads_the_end():
    log = []

    async def broken():
        yield b"one\n"
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        async with open_job("cat; echo end", stdin=broken()) as job:
            log += [line.data async for line in job.lines()]
            await job.wait()
    assert log == [b"one", b"end"]
    assert job.result is not None
    with pytest.raises(KeyError, match="broken"):
        await run("cat", stdin=broken())


async def test_an_error_of_the_iterator_is_not_taken_for_one_of_the_pipe():
    async def relayed():
        yield b"one\n"
        raise anyio.BrokenResourceError

    with pytest.raises(anyio.BrokenResourceError):
        await run("cat", stdin=relayed())


async def test_an_iterator_of_something_else_is_an_error():
    async def text():
        yield "text"

    with pytest.raises(TypeError):
        await run("cat", stdin=text())


@pytest.mark.parametrize("way", ["waits", "has more"])
async def test_an_iterator_is_closed_when_the_command_has_ended(way):
    log = []

    async def endless():
        try:
            while True:
                yield b"x" * (10 if way == "waits" else 100_000)
                if way == "waits":
                    await asyncio.get_running_loop().create_future()
        finally:
            log.append("closed")

    result = await run("head -c 10", stdin=endless())
    assert (result.stdout, log) == (b"x" * 10, ["closed"])


async def test_an_iterator_is_closed_when_run_is_cancelled():
    begun, log = asyncio.Event(), []

    async def endless():
        try:
            yield b"x"
            begun.set()
            await asyncio.get_running_loop().create_future()
        finally:
            log.append("closed")

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def cancel():
                await begun.wait()
                scope.cancel()

            group.start_soon(cancel)
            await run("cat", stdin=endless())
    assert log == ["closed"]


async def test_a_pipe_is_a_conversation():
    async with open_job("while read -r word; do echo got $word; done; echo end", stdin="pipe") as job:
        lines = job.lines()
        for word in (b"one", b"two"):
            await job.stdin.send(word + b"\n")
            assert (await anext(lines)).data == b"got " + word
        await job.stdin.aclose()
        await job.stdin.aclose()
        assert [line.data async for line in lines] == [b"end"]
        assert (await job.wait()).returncode == 0
        with pytest.raises(anyio.ClosedResourceError):
            await job.stdin.send(b"late")


async def test_a_pipe_pushes_back():
    async with open_job("exec sleep 100", stdin="pipe") as job:
        sent = 0
        with anyio.move_on_after(0.2) as scope:
            while True:
                await job.stdin.send(b"y" * 1000)
                sent += 1000
        assert scope.cancelled_caught
        assert sent < 200_000


async def test_a_pipe_whose_reader_is_gone():
    async with open_job("exec <&-; echo closed; exec sleep 100", stdin="pipe") as job:
        assert (await anext(job.lines())).data == b"closed"
        with pytest.raises(anyio.BrokenResourceError):
            await job.stdin.send(b"x")


async def test_a_pipe_whose_reader_goes_while_we_wait():
    async with open_job("read -r line; exec <&-; exec sleep 100", stdin="pipe") as job:
        with pytest.raises(anyio.BrokenResourceError), anyio.fail_after(20):
            await job.stdin.send(b"line\n" + BIG)


async def test_a_pipe_that_is_closed_while_somebody_waits():
    async with open_job("exec sleep 100", stdin="pipe") as job:
        errors = []

        async def send():
            try:
                await job.stdin.send(BIG)
            except anyio.ClosedResourceError as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            await job.stdin.aclose()
        assert len(errors) == 1


@pytest.mark.parametrize("stdin", ["text", 3.5, [b"x"]])
async def test_something_else_is_one_clear_error_and_leaves_nothing(stdin, tmp_path):
    with pytest.raises(TypeError, match='stdin: expected bytes, a file, an async iterator of bytes, "inherit" or "pipe", got'):
        await run("cat", stdin=stdin, out_append=tmp_path / "log")


@pytest.mark.parametrize("stdin", [b"data", "pipe"])
async def test_a_command_that_does_not_start_leaves_nothing(stdin):
    with pytest.raises(dtee_async.CommandNotFoundError):
        async with open_job(["nonexistent-command"], stdin=stdin):
            pass
