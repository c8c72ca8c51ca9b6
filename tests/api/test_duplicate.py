"""``await duplicate(source, *sinks)``: every sink that survives has everything, whatever it is and however slow the others are."""

import asyncio
import errno
import fcntl
import hashlib
import os
import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

from dtee_async import LoopError
from dtee_async.core import platforms
from dtee_async.engine.duplication import Duplication
from dtee_async.engine.selectloop import SelectLoop
from dtee_async.zerocopy import duplicate

SEEDS = range(12)


def write_all(fd, data, step=1 << 20):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:step]) :]


def read_all(fd, step=1 << 16):
    digest = hashlib.sha256()
    while data := os.read(fd, step):
        digest.update(data)
    return digest.hexdigest()


def sha(data):
    return hashlib.sha256(data).hexdigest()


class Ends:
    """Pipes, and threads at their ends."""

    def __init__(self):
        self.fds = set()
        self.pool = ThreadPoolExecutor()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for fd in set(self.fds):
            self.close(fd)
        self.pool.shutdown()

    def pipe(self):
        ends = os.pipe()
        self.fds |= {*ends}
        return ends

    def close(self, fd):
        self.fds.discard(fd)
        os.close(fd)

    def call(self, function, *arguments):
        """In a thread, which waits instead of the loop."""
        return asyncio.wrap_future(self.pool.submit(function, *arguments))

    def source(self, data, *, steps=(1 << 20,)):
        reader, writer = self.pipe()

        def write():
            view, chooser = memoryview(data), random.Random(len(data))
            while view:
                view = view[os.write(writer, view[: chooser.choice(steps)]) :]
            self.close(writer)

        self.pool.submit(write)
        return reader

    def sink(self, step=1 << 16):
        reader, writer = self.pipe()
        return writer, self.pool.submit(read_all, reader, step)

    def dying(self, after):
        reader, writer = self.pipe()

        def read():
            left = after
            while left > 0:
                left -= len(os.read(reader, left))
            self.close(reader)

        self.pool.submit(read)
        return writer


@pytest.fixture
def ends():
    with Ends() as ends:
        yield ends


@pytest.mark.parametrize("size", [0, 1, 4096, 65_536, 3_000_001])
async def test_to_a_pipe_a_file_and_the_end_of_a_file(ends, tmp_path, size):
    data = random.Random(size).randbytes(size)
    (tmp_path / "b").write_bytes(b"old")
    writer, digest = ends.sink()
    with open(tmp_path / "a", "wb") as file, open(tmp_path / "b", "ab") as appending:
        result = await duplicate(ends.source(data), writer, file, appending)
    ends.close(writer)
    assert digest.result() == sha(data)
    assert (tmp_path / "a").read_bytes() == data
    assert (tmp_path / "b").read_bytes() == b"old" + data
    assert result.size_bytes == size
    assert [(sink.size_bytes, sink.error) for sink in result.sinks] == [(size, None)] * 3
    if size:
        assert [sink.way for sink in result.sinks] == ["tee", "splice", "copy"]


@pytest.mark.parametrize("seed", SEEDS)
async def test_random_sizes_slow_sinks_and_sinks_that_die(ends, tmp_path, seed):
    chooser = random.Random(seed)
    data = chooser.randbytes(chooser.randrange(2_000_000))
    steps = [chooser.choice((1, 100, 4096, 5000, 65_536, 1 << 20)) for _ in range(3)] + [65_536]
    source = ends.source(data, steps=steps)
    readers = [ends.sink(chooser.choice((777, 4096, 10_000, 1 << 16))) for _ in range(chooser.randrange(4))]
    dying = [ends.dying(chooser.randrange(1, len(data) // 2)) for _ in range(chooser.randrange(3))]
    files = [open(tmp_path / f"{number}", chooser.choice(("wb", "ab"))) for number in range(chooser.randrange(3))]  # noqa: SIM115
    sinks = [writer for writer, _ in readers] + dying + files or [ends.dying(1)]
    chooser.shuffle(sinks)
    result = await duplicate(source, *sinks, enlarge=chooser.random() < 0.5)
    for writer, digest in readers:
        ends.close(writer)
        assert digest.result() == sha(data)
    for file in files:
        file.close()
        assert sha((tmp_path / file.name).read_bytes()) == sha(data)
    failed = [sink for sink, told in zip(sinks, result.sinks, strict=True) if told.error]
    assert {*failed} <= {*sinks} - {writer for writer, _ in readers} - {*files}
    if readers or files:
        assert result.size_bytes == len(data)
    os.set_blocking(source, False)
    while os.read(source, 1 << 20):  # what a run without survivors left: its writer must end
        os.set_blocking(source, True)


async def test_a_slow_sink_holds_nobody_back_within_the_pipe_and_everybody_beyond(ends):
    source, feed = ends.pipe()
    slow_reader, slow = ends.pipe()
    fast_reader, fast = ends.pipe()
    capacity = fcntl.fcntl(slow, 1032)
    os.write(slow, bytes(capacity))  # full before it begins
    os.write(feed, b"x" * capacity)
    task = asyncio.create_task(duplicate(source, slow, fast))
    assert await ends.call(os.read, fast_reader, capacity) == b"x" * capacity
    os.set_blocking(feed, False)
    with pytest.raises(BlockingIOError):
        os.write(feed, b"y")
    assert len(await ends.call(os.read, slow_reader, capacity)) == capacity
    assert await ends.call(os.read, slow_reader, capacity) == b"x" * capacity
    ends.close(feed)
    assert (await task).size_bytes == capacity


async def test_a_full_disk_leaves_one_out(ends):
    writer, digest = ends.sink()
    data = bytes(1_000_000)
    with open("/dev/full", "wb", buffering=0) as full:
        result = await duplicate(ends.source(data), full, writer)
    ends.close(writer)
    assert digest.result() == sha(data)
    assert result.sinks[0].error.errno == errno.ENOSPC
    assert result.sinks[1].error is None


async def test_when_all_have_failed_it_ends_and_the_rest_stays(ends):
    source, feed = ends.pipe()
    reader, writer = ends.pipe()
    ends.close(reader)
    os.write(feed, b"rest")
    result = await duplicate(source, writer)
    assert result.sinks[0].error.errno == errno.EPIPE
    assert os.read(source, 9) == b"rest"


async def test_the_same_pipe_is_left_out(ends):
    source, feed = ends.pipe()
    os.write(feed, b"x")
    assert (await duplicate(source, feed)).sinks[0].error.errno == errno.EINVAL


async def test_a_sparse_file_as_the_source(ends, tmp_path):
    path = tmp_path / "sparse"
    with open(path, "wb") as file:
        file.truncate(3 << 20)
        file.seek(1 << 20)
        file.write(b"island")
    writer, digest = ends.sink()
    with open(path, "rb") as file, open(tmp_path / "copy", "wb") as copy:
        await duplicate(file, writer, copy)
    ends.close(writer)
    assert digest.result() == sha(path.read_bytes())
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()


async def test_sockets_at_both_ends(ends):
    data = random.Random(1).randbytes(2_000_000)
    ours, theirs = socket.socketpair()
    to, far = socket.socketpair()
    with ours, theirs, to, far:

        def send():
            theirs.sendall(data)
            theirs.shutdown(socket.SHUT_WR)

        ends.pool.submit(send)
        digest = ends.pool.submit(lambda: read_all(far.fileno()))
        result = await duplicate(ours, to)
        to.shutdown(socket.SHUT_WR)
        assert digest.result() == sha(data)
        assert result.sinks[0].way == "copy"
        assert os.get_blocking(ours.fileno())
        assert os.get_blocking(to.fileno())


async def test_nothing_given_is_made_non_blocking_or_closed(ends, tmp_path):
    writer, digest = ends.sink()
    source = ends.source(b"x")
    with open(tmp_path / "a", "wb") as file:
        await duplicate(source, writer, file)
        assert [os.get_blocking(fd) for fd in (source, writer, file.fileno())] == [True] * 3
    ends.close(writer)


def kinds(name, ends, tmp_path):
    """Source and sinks of a duplication that does not end by itself."""
    source, feed = ends.pipe()
    reader, writer = ends.pipe()
    os.write(feed, b"some")
    match name:
        case "quiet source":
            return source, [writer, os.open(tmp_path / "a", os.O_WRONLY | os.O_CREAT)], []
        case "stuck sink":
            os.write(writer, bytes(65536))
            return source, [writer], []
        case "sockets":
            one, other = socket.socketpair()
            to, far = socket.socketpair()
            to.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    to.send(bytes(4096))
            to.setblocking(True)
            other.send(b"x")
            return one, [to, writer], [one, other, to, far]


@pytest.mark.parametrize("name", ["quiet source", "stuck sink", "sockets"])
@pytest.mark.parametrize("way", ["task", "scope"])
async def test_cancelling(ends, tmp_path, name, way):
    source, sinks, things = kinds(name, ends, tmp_path)
    begun = asyncio.Event()
    asyncio.get_running_loop().call_soon(begun.set)
    if way == "task":
        task = asyncio.create_task(duplicate(source, *sinks))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: duplicate(source, *sinks))
                await begun.wait()
                scope.cancel()
    assert threading.active_count() <= 2 + len(ends.pool._threads)
    for thing in things:
        thing.close()
    for sink in sinks:
        if isinstance(sink, int) and sink not in ends.fds:
            os.close(sink)


async def test_wrong_arguments(ends):
    reader, writer = ends.pipe()
    with pytest.raises(ValueError, match="needs a sink"):
        await duplicate(reader)
    for source, sink in ((-1, writer), (reader, -1), (writer, writer)):
        with pytest.raises(OSError) as caught:
            await duplicate(source, sink)
        assert caught.value.errno == errno.EBADF
    with pytest.raises(TypeError):
        await duplicate(reader, "name")


async def test_a_system_without_tee(ends, monkeypatch):
    monkeypatch.setattr(platforms, "switched_off", frozenset({"splice"}))
    reader, writer = ends.pipe()
    with pytest.raises(OSError) as caught:
        await duplicate(reader, writer)
    assert caught.value.errno == errno.ENOSYS


def test_outside_asyncio():
    with pytest.raises(LoopError):
        duplicate(0, 1).send(None)


def test_on_the_select_loop(ends, tmp_path):
    data = random.Random(2).randbytes(3_000_000)
    writer, digest = ends.sink()
    done = []
    with SelectLoop() as loop, open(tmp_path / "a", "wb") as file:
        work = Duplication(loop, ends.source(data), [writer, file.fileno()], lambda: done.append(1))
        work.start()
        loop.run_until(lambda: bool(done))
        work.close()
    ends.close(writer)
    assert digest.result() == sha(data)
    assert (tmp_path / "a").read_bytes() == data
    assert done == [1]
