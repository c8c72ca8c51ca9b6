"""Owns what tests of transports and outputs share, ours and yours: conformance checks, a recording output, a scripted transport.

A check is a plain function that takes a factory and raises AssertionError:

    check_transport(lambda: DatagramTransport(ReceiveBuffer()))
    check_output(lambda loop: MyOutput(path), lambda: path.read_bytes(), stream=None)
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from .core.batch import Batch
from .core.contracts import Flow, Loop, Output, Transport
from .core.exit import Exit
from .core.write import Stream, Write
from .engine.protocol import Capture
from .engine.selectloop import SelectLoop

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
        self.closed = 0

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

    def __init__(self, script: Iterable[Batch | OSError | None] = ()) -> None:
        self.script = deque(script)
        self.left = 0
        """How often writers_left() still answers yes."""
        self.recycled = 0
        self._ready, self._hold = os.pipe()
        os.write(self._hold, b"x")
        self._children = {stream: os.open(os.devnull, os.O_WRONLY) for stream in Stream}
        self._closed = False

    @property
    def child_fds(self) -> Mapping[Stream, int]:
        return self._children

    def release_child_fds(self) -> None:
        for fd in self._children.values():
            os.close(fd)
        self._children = {}

    def fileno(self) -> int:
        return self._ready

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
            self.release_child_fds()
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
    """Every promise of core.contracts.Transport that can be seen from outside."""
    before = open_fds()
    transport = make()
    try:
        assert transport.receive() is None, "something was received before anything was written"
        fds = transport.child_fds
        got: list[tuple[Stream, bytes]] = []
        for stream, data in SCRIPT:
            assert os.write(fds[stream], data) == len(data)
            got += _receive_all(transport)
        expected = SCRIPT if transport.exact else tuple(write for write in SCRIPT if write[1])
        _assert_same(got, expected)
        burst = [(Stream(1 + i % 2), b"%d\n" % i) for i in range(min(10, transport.queue_limit() - 1))]
        for stream, data in burst:
            os.write(fds[stream], data)
        got = _receive_all(transport)
        if transport.exact:
            _assert_same(got, burst)
        assert transport.writers_left(), "the child's fds are open, but nobody is said to hold them"
        copy = os.dup(fds[Stream.STDERR])
        transport.release_child_fds()
        assert not transport.child_fds, "release_child_fds() left some"
        assert transport.writers_left(), "a copy of the child's stderr is open, but nobody is said to hold it"
        os.write(copy, b"late")
        os.close(copy)
        _assert_same(_receive_all(transport), [(Stream.STDERR, b"late")])
        assert not transport.writers_left(), "everything is closed, but somebody is said to write"
    finally:
        transport.close()
        transport.close()
    assert open_fds() == before, "fds are left open"


def _receive_all(transport: Transport) -> list[tuple[Stream, bytes]]:
    got = []
    while (batch := transport.receive()) is not None:
        got += [(write.stream, bytes(write.data)) for write in batch]
        transport.recycle(batch)
    return got


def _assert_same(got: Iterable[tuple[Stream, bytes]], expected: Iterable[tuple[Stream, bytes]]) -> None:
    def brief(writes: Iterable[tuple[Stream, bytes]]) -> list[tuple[str, int, bytes]]:
        return [(stream.name, len(data), data[:20]) for stream, data in writes]

    assert [*got] == [*expected], f"received {brief(got)}, expected {brief(expected)}"


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
