"""What is typed on our terminal: every key, on every loop, and our terminal is itself again afterwards."""

import asyncio
import fcntl
import os
import select
import signal
import sys
import termios
import tty
from contextlib import contextmanager, suppress

import pytest
import uvloop

from dtee_async.engine.command import Command
from dtee_async.engine.keyboard import Keyboard, window_size
from dtee_async.engine.selectloop import SelectLoop
from dtee_async.process.spawn import SpawnPlan
from dtee_async.testing import RecordingOutput
from dtee_async.transport.pty import PtyTransport
from dtee_async.transport.recvmmsg import ReceiveBuffer

OUTPUT, LOCAL, CHARACTERS = 1, 3, 6


class AsyncLoop:
    """run_until() for the loops of asyncio."""

    def __init__(self, factory):
        self._loop = factory()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._loop.close()

    def __getattr__(self, name):
        return getattr(self._loop, name)

    def run_until(self, done):
        async def until():
            while not done():
                await asyncio.sleep(0)

        self._loop.run_until_complete(until())


LOOPS = {"select": SelectLoop, "asyncio": lambda: AsyncLoop(asyncio.SelectorEventLoop), "uvloop": lambda: AsyncLoop(uvloop.new_event_loop)}


@pytest.fixture(params=LOOPS)
def loop(request):
    with LOOPS[request.param]() as loop:
        yield loop


@pytest.fixture(scope="module", autouse=True)
def first_uvloop():
    """The first one opens fds that stay open."""
    uvloop.new_event_loop().close()


@pytest.fixture(scope="module")
def buffer():
    return ReceiveBuffer()


class Ours:
    """Our own terminal: ``keys`` is where a person types, ``fd`` is what a program has as its stdin."""

    def __init__(self):
        self.keys, self.fd = os.openpty()

    def settings(self):
        return termios.tcgetattr(self.fd)

    def type(self, data):
        assert os.write(self.keys, data) == len(data)


@pytest.fixture
def ours():
    ours = Ours()
    yield ours
    os.close(ours.keys)
    os.close(ours.fd)


class Running:
    """A command on an interactive terminal, and our keyboard on it."""

    def __init__(self, loop, transport):
        self.loop = loop
        self.transport = transport
        self.output = RecordingOutput()
        self.outcomes = []
        self.command = Command(loop, transport, [self.output], lambda *_: None, self.outcomes.append, linger_s=0)

    def until(self, text):
        self.loop.run_until(lambda: text in self.output.data() or self.outcomes)
        assert text in self.output.data()

    def wait(self):
        self.loop.run_until(lambda: bool(self.outcomes))
        return self.outcomes[0].exit


@pytest.fixture
def start(loop, buffer):
    @contextmanager
    def start(*argv, source, full_screen=True):
        running = Running(loop, PtyTransport(buffer, interactive=True))
        with Keyboard(loop, running.transport.terminal_fd, full_screen=full_screen, source=source) as running.keyboard:
            pid = running.command.start(SpawnPlan(argv))
            try:
                yield running
            finally:
                if not running.outcomes:
                    os.kill(pid, signal.SIGKILL)
                    running.wait()

    return start


# What is typed.


def test_a_line_is_typed_on_the_terminal_of_the_command(start, ours):
    with start("cat", source=ours.fd) as running:
        ours.type(b"a line\r")
        running.until(b"a line\r\na line\r\n")
        ours.type(b"\x04")
        assert running.wait().returncode == 0


def test_ctrl_c_is_a_key_like_all_others_and_ends_the_command(start, ours):
    with start("sh", "-c", "echo ready; exec sleep 100", source=ours.fd) as running:
        running.until(b"ready")
        ours.type(b"\x03")
        assert running.wait().signal == signal.SIGINT


def test_every_byte_reaches_a_command_that_wants_them_all(start, ours):
    every = bytes(range(256))
    code = """
import os, tty
tty.setraw(0)
os.write(1, b"ready")
data = b""
while len(data) < 256:
    data += os.read(0, 256)
os.write(1, data)
"""
    with start(sys.executable, "-c", code, source=ours.fd) as running:
        running.until(b"ready")
        ours.type(every)
        assert running.wait().returncode == 0
    assert running.output.data() == b"ready" + every


def test_the_terminal_of_the_command_has_the_keys_of_ours(start, ours):
    attributes = ours.settings()
    attributes[CHARACTERS][termios.VINTR] = b"\x18"
    termios.tcsetattr(ours.fd, termios.TCSANOW, attributes)
    with start("sh", "-c", "stty -a; exec sleep 100", source=ours.fd) as running:
        running.until(b"intr = ^X")
        ours.type(b"\x18")
        assert running.wait().signal == signal.SIGINT


def test_what_is_typed_after_the_end_of_the_command_stops_nothing(start, ours):
    with start("true", source=ours.fd) as running:
        running.wait()
        ours.type(b"more")
        running.loop.run_until(lambda: not ready(ours.fd))


def ready(fd):
    return bool(select.select([fd], [], [], 0)[0])


# Our terminal.


def test_our_terminal_is_raw_until_the_end_and_then_as_before(start, ours):
    before = ours.settings()
    with start("cat", source=ours.fd):
        settings = ours.settings()
        assert not settings[LOCAL] & (termios.ICANON | termios.ECHO | termios.ISIG)
        assert not settings[OUTPUT] & termios.OPOST
    assert ours.settings() == before


def test_where_others_write_too_the_ends_of_lines_are_still_mended(start, ours):
    before = ours.settings()
    with start("cat", source=ours.fd, full_screen=False):
        settings = ours.settings()
        assert not settings[LOCAL] & (termios.ICANON | termios.ECHO | termios.ISIG)
        assert settings[OUTPUT] & termios.OPOST
    assert ours.settings() == before


def test_our_terminal_is_as_before_after_an_exception(start, ours):
    before = ours.settings()
    with pytest.raises(ZeroDivisionError), start("cat", source=ours.fd):
        1 / 0  # noqa: B018
    assert ours.settings() == before


def test_our_terminal_is_as_before_when_the_loop_fails(ours, terminal):
    class FailingLoop:
        def add_reader(self, *_):
            raise ZeroDivisionError

        def remove_reader(self, *_):
            raise ZeroDivisionError

    before = ours.settings()
    keyboard = Keyboard(FailingLoop(), terminal.keys, full_screen=True, source=ours.fd)
    with pytest.raises(ZeroDivisionError):
        keyboard.start()
    assert ours.settings() == before


def test_it_can_be_closed_twice_and_unstarted(loop, ours, terminal):
    before = ours.settings()
    keyboard = Keyboard(loop, terminal.keys, full_screen=True, source=ours.fd)
    assert ours.settings() == before
    keyboard.close()
    keyboard.close()
    assert ours.settings() == before


def test_it_can_be_made_raw_again(loop, ours, terminal):
    before = ours.settings()
    with Keyboard(loop, terminal.keys, full_screen=True, source=ours.fd) as keyboard:
        raw = ours.settings()
        termios.tcsetattr(ours.fd, termios.TCSANOW, before)  # as a shell does it while we are stopped
        keyboard.make_raw()
        assert ours.settings() == raw
    keyboard.make_raw()
    assert ours.settings() == before


def test_our_stdin_stays_blocking(loop, ours, terminal):
    """It is shared with other programs."""
    reader, writer = os.pipe()
    for source in (ours.fd, reader):
        with Keyboard(loop, terminal.keys, full_screen=True, source=source):
            assert os.get_blocking(source)
        assert os.get_blocking(source)
    os.close(reader)
    os.close(writer)


def test_a_terminal_that_hangs_up_is_the_end_of_what_is_typed(start, ours):
    with start("cat", source=ours.fd) as running:
        ours.type(b"last\r")
        running.until(b"last\r\nlast\r\n")
        os.close(ours.keys)
        assert running.wait().returncode == 0
    ours.keys = os.dup(ours.fd)


# Something else as our stdin.


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_pipe_is_typed_to_its_end(start, end):
    reader, writer = os.pipe()
    with start("cat", source=reader) as running:
        os.write(writer, b"one\ntwo" + end)
        os.close(writer)
        assert running.wait().returncode == 0
    os.close(reader)
    assert running.output.data().count(b"two") == 2


def test_a_file_is_typed_to_its_end(start, tmp_path):
    (tmp_path / "in").write_bytes(b"".join(b"%07d\n" % i for i in range(5000)))
    with open(tmp_path / "in", "rb") as file, start("sh", "-c", f"cat >{tmp_path}/out", source=file.fileno()) as running:
        assert running.wait().returncode == 0
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()


def test_nothing_is_typed_and_that_is_the_end(start):
    with open(os.devnull, "rb") as null, start("cat", source=null.fileno()) as running:
        assert running.wait().returncode == 0


def test_stdin_can_be_closed(start):
    closed = os.dup(0)
    os.close(closed)
    with start("cat", source=(1 << 16) - 1) as running:
        assert running.wait().returncode == 0


def test_stdin_can_be_what_nobody_can_read(start, tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    with start("cat", source=folder) as running:
        assert running.wait().returncode == 0
    os.close(folder)


def test_somebody_else_was_quicker(start):
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    with start("cat", source=reader) as running:
        running.keyboard._read()
        os.write(writer, b"typed\n")
        running.until(b"typed\r\ntyped\r\n")
    os.close(reader)
    os.close(writer)


def test_without_epoll(start, ours, monkeypatch):
    monkeypatch.delattr(select, "epoll")
    with start("cat", source=ours.fd) as running:
        ours.type(b"a line\r")
        running.until(b"a line\r\na line\r\n")
    with start("cat", source=(1 << 16) - 1) as running:
        assert running.wait().returncode == 0


# Byte by byte, on a terminal that changes nothing.


@pytest.fixture
def terminal():
    terminal = Ours()
    tty.setraw(terminal.fd)
    os.set_blocking(terminal.keys, False)
    os.set_blocking(terminal.fd, False)
    yield terminal
    os.close(terminal.keys)
    if terminal.fd is not None:
        os.close(terminal.fd)


def read_all(fd):
    data = b""
    with suppress(BlockingIOError):
        while True:
            data += os.read(fd, 65536)
    return data


@pytest.mark.parametrize(
    ("typed", "expected"),
    [(b"", b"\x04"), (b"a\n", b"a\n\x04"), (b"a\r", b"a\r\x04"), (b"a", b"a\x04\x04")],
)
def test_the_end_is_typed_once_and_before_it_the_end_of_an_open_line(loop, terminal, typed, expected):
    reader, writer = os.pipe()
    os.write(writer, typed)
    os.close(writer)
    got = bytearray()
    with Keyboard(loop, terminal.keys, full_screen=True, source=reader):
        loop.add_reader(terminal.fd, lambda: got.extend(read_all(terminal.fd)))
        loop.run_until(lambda: len(got) >= len(expected))
        spin(loop)
        loop.remove_reader(terminal.fd)
    assert bytes(got) == expected
    os.close(reader)


def spin(loop):
    """Let it do what it can do without anything that happens outside."""
    rounds = []
    loop.call_soon_threadsafe(rounds.append, 1)
    loop.run_until(lambda: loop.call_soon_threadsafe(rounds.append, 1) or len(rounds) > 20)


def test_no_key_that_ends_the_input_is_none(loop, terminal):
    attributes = termios.tcgetattr(terminal.fd)
    attributes[CHARACTERS][termios.VEOF] = b"\0"
    termios.tcsetattr(terminal.fd, termios.TCSANOW, attributes)
    with open(os.devnull, "rb") as null, Keyboard(loop, terminal.keys, full_screen=True, source=null.fileno()):
        spin(loop)
    assert read_all(terminal.fd) == b""


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_what_the_terminal_does_not_take_stays_where_it_is(loop, terminal, tmp_path, kind):
    data = os.urandom(60_000) + b"."  # less than a pipe holds
    if kind == "pipe":
        source, writer = os.pipe()
        os.write(writer, data)
        os.close(writer)
    else:
        (tmp_path / "in").write_bytes(data)
        source = os.open(tmp_path / "in", os.O_RDONLY)

    def left():
        return int.from_bytes(fcntl.ioctl(source, termios.FIONREAD, bytes(4)), sys.byteorder)

    got = bytearray()
    with Keyboard(loop, terminal.keys, full_screen=True, source=source):
        loop.run_until(lambda: left() < len(data) - 12_000)
        spin(loop)
        assert left() > len(data) - 12_000 - 3 * 4096
        loop.add_reader(terminal.fd, lambda: got.extend(read_all(terminal.fd)))
        loop.run_until(lambda: len(got) >= len(data) + 2)
        loop.remove_reader(terminal.fd)
    os.close(source)
    assert bytes(got) == data + b"\x04\x04"


def test_what_cannot_be_typed_any_more_is_not_read_any_more(loop):
    reader, writer = os.pipe()
    os.write(writer, b"to nobody")
    with Keyboard(loop, reader, full_screen=True, source=reader):  # a terminal that cannot be written to
        loop.run_until(lambda: not ready(reader))
        os.write(writer, b"and no more")
        spin(loop)
        assert ready(reader)
    os.close(reader)
    os.close(writer)


# The size.


def test_the_size_of_a_window(ours):
    assert window_size(ours.fd) is None  # it has none yet
    termios.tcsetwinsize(ours.fd, (40, 111))
    assert window_size(ours.fd) == (40, 111)


def test_what_is_no_terminal_has_no_size():
    with open(os.devnull, "rb") as null:
        assert window_size(null.fileno()) is None
