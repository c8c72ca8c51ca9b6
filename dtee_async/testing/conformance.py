"""Owns what tests of transports and outputs share, ours and yours: conformance checks, a recording output, a scripted transport.

A check is a plain function that takes a factory and raises AssertionError:

    check_transport(lambda: DatagramTransport(receive_buffer()))
    check_output(lambda loop: MyOutput(path), lambda: path.read_bytes(), stream=None)
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby

from ..core.batch import Batch
from ..core.contracts import ChildFds, Flow, Loop, Output, T, Transport
from ..core.exit import Exit
from ..core.write import Stream, Write
from ..engine.protocol import Capture
from ..engine.selectloop import SelectLoop

SCRIPT: tuple[tuple[Stream, bytes], ...] = (
    (Stream.STDOUT, b"one\n"),
    (Stream.STDERR, b"two\n"),
    (Stream.STDERR, b""),
    (Stream.STDOUT, b"\xff\xfe not UTF-8, no newline"),
    (Stream.STDOUT, b"x" * 100_000 + b"\n"),
    (Stream.STDERR, b"y" * 5_000),
    (Stream.STDOUT, b"last"),
)
"""Writes of every kind that matters: short, empty, long, not text, without a newline."""


class RecordingOutput:
    """Keeps every write as a detached value, with its time and pid."""

    name = "recording"
    wants_stamps = True

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.exit: Exit | None = None
        self.flow: Flow | None = None
        self.closed: int = 0

    def open(self, flow: Flow) -> None:
        self.flow = flow

    def write(self, batch: Batch) -> None:
        assert not self.closed, "a write after close()"
        assert self.exit is None, "a write after end()"
        self.writes.extend(Write(write.stream, bytes(write.data), write.time_ns, write.pid) for write in batch)

    def end(self, exit: Exit) -> None:
        self.exit = exit

    def close(self) -> int:
        self.closed += 1
        return 0

    def data(self, stream: Stream | None = None) -> bytes:
        """The bytes of one stream, or of both in order."""
        return b"".join(write.data for write in self.writes if stream in (None, write.stream))


class ScriptedTransport:
    """A transport that plays batches, errors and pauses (None) from a script. Its fd is readable until the script ends."""

    mode = "scripted"
    exact = True
    apart = True

    def __init__(self, script: Iterable[Batch | OSError | None] = ()) -> None:
        self.script: deque[Batch | OSError | None] = deque(script)
        self.left: int = 0
        """How often writers_left() still answers yes."""
        self.recycled: int = 0
        self._ready, self._hold = os.pipe()
        os.write(self._hold, b"x")
        self.fds: tuple[int] = (self._ready,)
        self._closed = False

    def launch(self, spawn: Callable[[ChildFds], T]) -> T:
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            return spawn(ChildFds(null, null))
        finally:
            os.close(null)

    def receive(self) -> Batch | None:
        event = self.script.popleft() if self.script else None
        if isinstance(event, OSError):
            raise event
        return event

    def recycle(self, batch: Batch) -> None:
        self.recycled += 1

    def queue_limit(self) -> int:
        return 64

    def writers_left(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            os.close(self._ready)
            os.close(self._hold)


def batch_of(writes: Iterable[tuple[Stream, bytes]]) -> Batch:
    """A batch of these writes."""
    streams, data = zip(*writes, strict=True)
    return Batch([*data], [len(each) for each in data], bytes(streams))


def open_fds() -> dict[int, str]:
    """The open fds of this process, and what each is."""
    fds = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            fds[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the one of the listing itself
            continue
    return fds


def check_transport(make: Callable[[], Transport]) -> None:
    """Every promise of core.contracts.Transport that can be seen from outside, by a child that writes and leaves a writer behind."""
    before = open_fds()
    transport = make()
    try:
        assert transport.receive() is None, "something was received before anything was written"
        go_reader, go_writer = os.pipe()
        child = transport.launch(partial(_write_script, go_reader))
        os.close(go_reader)
        got = _receive_until(transport, lambda writes: sum(len(data) for _, data in writes) >= SCRIPT_BYTES)
        _assert_same(got, SCRIPT, exact=transport.exact, apart=transport.apart)
        assert child.wait() == 0
        _receive_all(transport)
        assert transport.writers_left(), "a process that the child left behind holds its stderr, but nobody is said to hold it"
        os.write(go_writer, b"x")
        got = _receive_until(transport, bool)
        _assert_same(got, LATE, exact=transport.exact, apart=transport.apart)
        os.close(go_writer)
        _wait_for(lambda: not (_receive_all(transport) or transport.writers_left()), "everything is closed, but somebody is said to write")
    finally:
        transport.close()
        transport.close()
    assert open_fds() == before, "fds are left open"


LATE = ((Stream.STDERR, b"late"),)
SCRIPT_BYTES = sum(len(data) for _, data in SCRIPT)
PATIENCE_S = 20.0

_CHILD = """
import os, sys
def put(stream, data):
    if not data:
        os.write(stream, data)
    while data:
        data = data[os.write(stream, data):]
for stream, data in %r:
    put(stream, data)
if os.fork():
    os._exit(0)
go = int(sys.argv[1])
os.read(go, 1)
put(2, b"late")
os.dup2(go, 1)
os.dup2(go, 2)
os.read(go, 1)
"""


def _write_script(go: int, fds: ChildFds) -> subprocess.Popen[bytes]:
    """A child that writes SCRIPT and leaves a process behind, which writes LATE and closes its stderr when it is told to by the pipe."""
    words = [sys.executable, "-I", "-S", "-c", _CHILD % ([(int(stream), data) for stream, data in SCRIPT],), str(go)]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=fds.stdout, stderr=fds.stderr, pass_fds=[go])  # noqa: S603


def _receive_until(transport: Transport, done: Callable[[list[tuple[Stream, bytes]]], bool]) -> list[tuple[Stream, bytes]]:
    got: list[tuple[Stream, bytes]] = []

    def enough() -> bool:
        got.extend(_receive_all(transport))
        return done(got)

    _wait_for(enough, "what was written did not arrive", transport)
    return got


def _wait_for(condition: Callable[[], bool], failure: str, transport: Transport | None = None) -> None:
    """Until the condition holds, asked whenever an fd of the transport is readable, or at least every 10 ms."""
    until_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until_s, failure
        select.select(transport.fds if transport else [], [], [], 0.01)


def _receive_all(transport: Transport) -> list[tuple[Stream, bytes]]:
    got = []
    while (batch := transport.receive()) is not None:
        got += [(write.stream, bytes(write.data)) for write in batch]
        transport.recycle(batch)
    return got


def _assert_same(got: Iterable[tuple[Stream, bytes]], expected: Iterable[tuple[Stream, bytes]], *, exact: bool, apart: bool) -> None:
    """Equal as far as the transport promises: a pipe has no borders between writes, and not every transport has an order or two streams."""
    got, expected = [*got], [*expected]
    if not apart:
        expected = [(Stream.STDOUT, data) for _, data in expected]
    if exact:
        _assert_equal(_runs(got), _runs(expected))
    else:
        for stream in Stream:
            _assert_equal(_runs(each for each in got if each[0] == stream), _runs(each for each in expected if each[0] == stream))


def _runs(writes: Iterable[tuple[Stream, bytes]]) -> list[tuple[Stream, bytes]]:
    return [(stream, b"".join(data for _, data in run)) for stream, run in groupby(writes, lambda write: write[0])]


def _assert_equal(got: list[tuple[Stream, bytes]], expected: list[tuple[Stream, bytes]]) -> None:
    def brief(writes: list[tuple[Stream, bytes]]) -> list[tuple[str, int, bytes]]:
        return [(stream.name, len(data), data[:20]) for stream, data in writes]

    assert got == expected, f"received {brief(got)}, expected {brief(expected)}"


def check_output(make: Callable[[Loop], Output], read_back: Callable[[], bytes], *, stream: Stream | None, rounds: int = 20) -> None:
    """Every promise of core.contracts.Output that can be seen from outside, with the views of each batch overwritten after the call.

    ``read_back`` gives what has arrived at the destination; ``stream``: what the output selects (None: both, in order).
    """
    before = open_fds()
    expected = b"".join(data for each, data in SCRIPT if stream in (None, each)) * rounds
    errors: list[OSError] = []
    with SelectLoop() as loop:
        output = make(loop)
        capture = Capture(loop, [output], lambda _, error: errors.append(error))
        capture.open()
        for _ in range(rounds):
            memory = bytearray(b"".join(data for _, data in SCRIPT))
            capture.datagrams_received(_views(memory))
            memory[:] = b"?" * len(memory)
            loop.run_until(lambda: not capture.blocked)
        output.end(Exit(0))
        loop.run_until(lambda: not capture.blocked)
        assert output.close() == 0, "close() says that bytes were dropped, though the output said it was done"
    assert not errors, f"errors were reported: {errors}"
    got = read_back()
    assert got == expected, f"{len(got)} bytes arrived, expected {len(expected)}; or they differ"
    assert open_fds() == before, "fds are left open"


def _views(memory: bytearray) -> Batch:
    view, begin, views = memoryview(memory), 0, []
    for _, data in SCRIPT:
        views.append(view[begin : begin + len(data)])
        begin += len(data)
    return Batch([*views], [len(data) for _, data in SCRIPT], bytes(stream for stream, _ in SCRIPT))
