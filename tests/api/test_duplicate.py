"""``await duplicate(source, *sinks)``: every sink that survives has everything, whatever it is and however slow the others are."""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import random
import resource
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import anyio
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dtee_async import LoopError
from dtee_async.core import platforms
from dtee_async.engine.duplication import Duplication
from dtee_async.engine.selectloop import SelectLoop
from dtee_async.zerocopy import duplicate

SEEDS = range(12)

uvloop.new_event_loop().close()  # with the first one libuv opens a pipe for signals, which it keeps


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
    before = threading.active_count()
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
    assert threading.active_count() <= before + 1  # one whose write to a socket waits is left to itself
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


# The null device.


@pytest.fixture
def null():
    with open(os.devnull, "wb", buffering=0) as file:
        yield file


@pytest.mark.parametrize("size", [0, 1, 3_000_001])
async def test_the_null_device_alone(ends, null, size):
    result = await duplicate(ends.source(bytes(size)), null)
    assert (result.size_bytes, result.sinks) == (size, (("splice", size, None),))


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("twice", [False, True])
async def test_the_null_device_among_others(ends, tmp_path, null, place, twice):
    data = random.Random(place).randbytes(3_000_001)
    writer, digest = ends.sink(4096)
    with open(tmp_path / "a", "wb") as file:
        sinks = [writer, file]
        sinks[place:place] = [null] * (1 + twice)
        result = await duplicate(ends.source(data, steps=(1, 5000, 65_536)), *sinks)
    ends.close(writer)
    assert digest.result() == sha(data) == sha((tmp_path / "a").read_bytes())
    assert [sunk.size_bytes for sunk in result.sinks] == [len(data)] * len(sinks)
    assert result.sinks[place] == ("splice", len(data), None)


@pytest.mark.parametrize("first", [True, False])
async def test_the_null_device_beside_a_sink_that_dies(ends, null, first):
    data = bytes(1_000_000)
    sinks = [null, ends.dying(100_000)] if first else [ends.dying(100_000), null]
    result = await duplicate(ends.source(data), *sinks)
    assert [sunk.size_bytes for sunk in result.sinks if not sunk.error] == [len(data)]
    assert [sunk.error.errno for sunk in result.sinks if sunk.error] == [errno.EPIPE]


async def test_the_null_device_waits_for_a_slow_sink(ends, null):
    """Else it would have bytes that nobody can give the others again."""
    source, feed = ends.pipe()
    slow_reader, slow = ends.pipe()
    os.write(slow, bytes(65_536))
    os.write(feed, b"some")
    work = Working(source, [null, slow])
    work.duplication.start()
    await turns()
    assert (work.duplication.result.size_bytes, work.duplication.result.sinks[0].size_bytes) == (0, 4)
    assert await ends.call(os.read, slow_reader, 65_536) == bytes(65_536)
    assert await ends.call(os.read, slow_reader, 9) == b"some"
    ends.close(feed)
    await work.done.wait()
    assert work.duplication.result.size_bytes == 4


async def test_a_null_device_that_is_open_for_reading_is_left_out(ends):
    writer, digest = ends.sink()
    with open(os.devnull, "rb") as null:
        result = await duplicate(ends.source(b"some"), null, writer)
    ends.close(writer)
    assert digest.result() == sha(b"some")
    assert result.sinks[0].error.errno == errno.EBADF


# What the engine asks of it.


class Working:
    """A duplication on the running loop, and who was told to be lost."""

    def __init__(self, source, sinks, *, on_lost=lambda work: None, **more):
        self.lost = []
        self.done = asyncio.Event()
        self.done_calls = 0
        self.problems = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: self.problems.append(context))
        self._on_lost = on_lost
        fds = [sink if isinstance(sink, int) else sink.fileno() for sink in sinks]
        self.duplication = Duplication(asyncio.get_running_loop(), source, fds, self._is_done, on_lost=self._told, **more)

    def _is_done(self):
        self.done_calls += 1
        self.done.set()

    def _told(self, index, error):
        self.lost.append((index, error.errno))
        self._on_lost(self)


async def turns():
    """Let the loop hear of everything that has happened: it is asked for events twice."""
    for _ in range(2):
        turned = asyncio.Event()
        asyncio.get_running_loop().call_later(0.02, turned.set)
        await turned.wait()


async def test_each_lost_sink_is_told_once(ends):
    data = bytes(2_000_000)
    writer, digest = ends.sink()
    with open("/dev/full", "wb", buffering=0) as full:
        work = Working(ends.source(data), [ends.dying(1000), full, writer, ends.dying(70_000)])
        work.duplication.start()
        await work.done.wait()
    ends.close(writer)
    assert digest.result() == sha(data)
    assert sorted(work.lost) == [(0, errno.EPIPE), (1, errno.ENOSPC), (3, errno.EPIPE)]
    assert [bool(sunk.error) for sunk in work.duplication.result.sinks] == [True, True, False, True]


async def test_a_sink_is_told_that_fails_after_the_source_has_ended(ends, tmp_path):
    """All is in our pipe in front of it by then."""
    source, feed = ends.pipe()
    os.write(feed, bytes(5000))
    ends.close(feed)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with open(tmp_path / "a", "wb") as file, open(tmp_path / "b", "ab") as appending:
        work = Working(source, [file, appending])
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            work.duplication.start()
            await work.done.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(work.lost) == [(0, errno.EFBIG), (1, errno.EFBIG)]
    assert [sunk.size_bytes for sunk in work.duplication.result.sinks] == [1000, 1000]


@pytest.mark.parametrize("lost", ["heard", "moved", "written"])
async def test_closing_from_inside_on_lost(ends, tmp_path, lost):
    source, feed = ends.pipe()
    reader, writer = ends.pipe()
    other_reader, other = ends.pipe()
    ends.close(reader)
    with open("/dev/full", "wb", buffering=0) as full, open(tmp_path / "a", "wb") as file:
        sinks = [full, other, file] if lost == "written" else [writer, other, file]
        work = Working(source, sinks, on_lost=lambda work: work.duplication.close(), lazy=lost == "moved")
        os.write(feed, b"some")
        work.duplication.start()
        await work.done.wait()
        work.duplication.close()
    assert (work.done_calls, work.problems) == (1, [])
    assert work.lost == [(0, errno.ENOSPC if lost == "written" else errno.EPIPE)]
    assert work.duplication.failure is None


@pytest.mark.parametrize("lazy", [False, True])
async def test_closing_when_the_last_is_lost_ends_it_once(ends, lazy):
    source, feed = ends.pipe()
    reader, writer = ends.pipe()
    ends.close(reader)
    os.write(feed, b"some")
    work = Working(source, [writer], on_lost=lambda work: work.duplication.close(), lazy=lazy)
    work.duplication.start()
    await work.done.wait()
    await turns()
    assert (work.lost, work.done_calls, work.problems) == ([(0, errno.EPIPE)], 1, [])
    assert os.read(source, 9) == b"some"


async def test_a_sink_that_is_broken_is_left_out_at_once_or_when_there_is_something_for_it(ends):
    for lazy in (False, True):
        source, feed = ends.pipe()
        reader, writer = ends.pipe()
        other_reader, other = ends.pipe()
        work = Working(source, [writer, other], lazy=lazy)
        work.duplication.start()
        ends.close(reader)
        await turns()
        assert work.lost == ([] if lazy else [(0, errno.EPIPE)])
        os.write(feed, b"some")
        assert await ends.call(os.read, other_reader, 9) == b"some"
        await turns()
        assert work.lost == [(0, errno.EPIPE)]
        ends.close(feed)
        await work.done.wait()


@pytest.mark.parametrize("others", [0, 1])
async def test_lazy_nobody_is_lost_at_the_end_of_the_source(ends, others):
    """splice(2) and tee(2) say EPIPE before they look whether there is anything."""
    source, feed = ends.pipe()
    reader, writer = ends.pipe()
    work = Working(source, [writer, *(ends.sink()[0] for _ in range(others))], lazy=True)
    work.duplication.start()
    os.write(feed, b"some")
    assert await ends.call(os.read, reader, 9) == b"some"
    ends.close(reader)
    ends.close(feed)
    await work.done.wait()
    assert (work.lost, work.duplication.result.sinks[0]) == ([], ("tee", 4, None))


# finish(): a writer that never ends.


async def test_finish_moves_what_is_there_and_ends(ends, tmp_path):
    source, feed = ends.pipe()
    reader, writer = ends.pipe()
    os.write(feed, b"some")
    with open(tmp_path / "a", "wb") as file:
        work = Working(source, [writer, file])
        work.duplication.start()
        work.duplication.finish()
        await work.done.wait()
    assert (os.read(reader, 9), (tmp_path / "a").read_bytes()) == (b"some", b"some")
    assert work.duplication.result.size_bytes == 4


async def test_finish_with_a_slow_sink_waits_for_it(ends):
    source, feed = ends.pipe()
    reader, writer = ends.pipe()
    os.write(writer, bytes(65_536))
    os.write(feed, b"some")
    work = Working(source, [writer])
    work.duplication.start()
    work.duplication.finish()
    await turns()
    assert not work.done.is_set()
    assert await ends.call(os.read, reader, 65_536) == bytes(65_536)
    assert await ends.call(os.read, reader, 9) == b"some"
    await work.done.wait()


@pytest.mark.parametrize("kind", ["pipe", "null", "file"])
async def test_finish_with_a_writer_that_never_ends(ends, tmp_path, null, kind):
    source, feed = ends.pipe()
    stopped = threading.Event()

    def write():
        with contextlib.suppress(OSError):
            while not stopped.is_set():
                os.write(feed, b"y" * 4096)
        ends.close(feed)

    writing = ends.pool.submit(write)
    writer, digest = ends.sink()
    with open(tmp_path / "a", "wb") as file:
        work = Working(source, [{"pipe": writer, "null": null, "file": file}[kind], null])
        work.duplication.start()
        await turns()
        work.duplication.finish()
        await work.done.wait()
    stopped.set()
    ends.close(source)  # it would wait for room in it
    await asyncio.wrap_future(writing)
    ends.close(writer)
    digest.result()
    assert work.duplication.result.size_bytes > 0
    assert {sunk.size_bytes for sunk in work.duplication.result.sinks} == {work.duplication.result.size_bytes}


# Random programs.

KINDS = ("pipe", "file", "append", "null", "socket")
OLD = b"old"


class Step(NamedTuple):
    """A write of the source, and whether the loop hears of it before the next."""

    size: int
    pause: bool


class Wish(NamedTuple):
    """A sink: what it is, how much its reader takes at once, and after how much it closes (pipes and sockets)."""

    kind: str
    step: int
    closes_after: int | None


STEPS = st.lists(st.builds(Step, st.sampled_from([1, 4095, 4096, 5000, 65_536, 65_537, 300_000]), st.booleans()), max_size=6)
WISHES = st.lists(
    st.builds(Wish, st.sampled_from(KINDS), st.sampled_from([777, 4096, 65_536]), st.none() | st.integers(0, 200_000)),
    min_size=1,
    max_size=5,
)


class Made:
    """A sink, its reader in a thread, and what came out."""

    def __init__(self, wish, folder, number):
        self.wish = wish
        self.path = folder / str(number)
        self.reader = None
        self.got = bytearray()
        match wish.kind:
            case "pipe":
                reader, self.fd = os.pipe()
                self.reader = open(reader, "rb", buffering=0)  # noqa: SIM115
            case "socket":
                ours, theirs = socket.socketpair()
                self.fd, self.reader = theirs.detach(), open(ours.detach(), "rb", buffering=0)  # noqa: SIM115
            case "null":
                self.fd = os.open(os.devnull, os.O_WRONLY)
            case kind:
                self.path.write_bytes(OLD)
                self.fd = os.open(self.path, os.O_WRONLY | (os.O_APPEND if kind == "append" else os.O_TRUNC))

    def read(self):
        with self.reader:
            while self.wish.closes_after is None or len(self.got) < self.wish.closes_after:
                if not (data := self.reader.read(self.wish.step)):
                    return
                self.got += data

    def check(self, data, sunk):
        if self.wish.kind in ("file", "append"):
            before = OLD if self.wish.kind == "append" else b""
            assert sha(self.path.read_bytes()) == sha(before + data)
        elif self.reader is not None:
            assert sha(self.got) == sha(data[: len(self.got)])
            assert sunk.size_bytes >= len(self.got)
        if sunk.error is None:
            assert sunk.size_bytes == len(data)
            assert self.reader is None or self.wish.closes_after is not None or len(self.got) == len(data)
        else:
            assert (self.wish.closes_after is not None, sunk.error.errno in (errno.EPIPE, errno.ECONNRESET)) == (True, True)


@pytest.mark.parametrize("factory", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors])
@given(steps=STEPS, wishes=WISHES, lazy=st.booleans(), enlarge=st.booleans())
def test_random_programs(tmp_path, factory, steps, wishes, lazy, enlarge):
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run_program(tmp_path, steps, wishes, lazy=lazy, enlarge=enlarge))


async def run_program(folder, steps, wishes, **more):
    data = random.Random(len(steps)).randbytes(sum(step.size for step in steps))
    source, feed = os.pipe()
    sinks = [Made(wish, folder, number) for number, wish in enumerate(wishes)]
    survives = any(sink.reader is None or sink.wish.closes_after is None for sink in sinks)
    with ThreadPoolExecutor() as pool:
        readings = [pool.submit(sink.read) for sink in sinks if sink.reader is not None]
        work = Working(source, [sink.fd for sink in sinks], **more)
        work.duplication.start()
        writing = pool.submit(write_steps, feed, data, steps)
        await work.done.wait()
        os.close(source)
        await asyncio.wrap_future(writing)
        for sink in sinks:
            os.close(sink.fd)
        for reading in readings:
            reading.result()
    result = work.duplication.result
    assert work.duplication.failure is None
    assert sorted(index for index, _ in work.lost) == [index for index, sunk in enumerate(result.sinks) if sunk.error]
    if survives:
        assert result.size_bytes == len(data)
    for sink, sunk in zip(sinks, result.sinks, strict=True):
        sink.check(data[: max(result.size_bytes, sunk.size_bytes)], sunk)


def write_steps(feed, data, steps):
    view = memoryview(data)
    with contextlib.suppress(BrokenPipeError):
        for step in steps:
            write_all(feed, view[: step.size])
            view = view[step.size :]
            if step.pause:
                threading.Event().wait(0.002)
    os.close(feed)
