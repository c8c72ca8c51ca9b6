"""The pipe transport: its contract, and what is peculiar to it."""

import fcntl
import os
import resource
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dtee_async.core.write import Stream
from dtee_async.errors import CaptureError
from dtee_async.testing import check_transport, open_fds
from dtee_async.transport.pipe import LARGE_PIPE_BYTES, PipeTransport
from dtee_async.transport.recvmmsg import ReceiveBuffer

OUT, ERR = Stream
BOUND_S = 20


@pytest.fixture(scope="module")
def buffer():
    return ReceiveBuffer()


@pytest.fixture
def transport(buffer):
    transport = PipeTransport(buffer)
    yield transport
    transport.close()


def run(transport, *argv):
    """What a command writes until nobody holds its streams any more."""
    child = transport.launch(lambda fds: subprocess.Popen([*map(str, argv)], stdout=fds.stdout, stderr=fds.stderr))
    writes = []
    while transport.fds:
        assert select.select(transport.fds, [], [], BOUND_S)[0], "nothing comes"
        writes += received(transport)
    assert child.wait() == 0
    return writes


def received(transport):
    writes = []
    while (batch := transport.receive()) is not None:
        writes += [write._replace(data=bytes(write.data)) for write in batch]
    return writes


def data(writes, stream):
    return b"".join(write.data for write in writes if write.stream is stream)


@pytest.mark.parametrize("pipe_bytes", [0, LARGE_PIPE_BYTES])
def test_it_keeps_the_contract(buffer, pipe_bytes):
    check_transport(lambda: PipeTransport(buffer, pipe_bytes=pipe_bytes))


def test_it_says_what_it_can(transport):
    assert (transport.mode, transport.exact, transport.apart) == ("pipe", False, True)


def test_each_stream_is_complete_and_in_its_order(transport, programs, random_writes):
    _, out, err = random_writes(7, 3000, 300_000)
    writes = run(transport, programs / "random_writer", 7, 3000, 300_000)
    assert (data(writes, OUT), data(writes, ERR)) == (out, err)


def test_a_piece_is_not_said_to_be_a_write_of_somebody(transport):
    before_ns = time.time_ns()
    (write,) = run(transport, "echo", "x")
    assert (write.stream, write.data, write.pid, write.whole) == (OUT, b"x\n", 0, False)
    assert before_ns <= write.time_ns <= time.time_ns()


def test_several_writes_are_one_piece_when_they_are_read_at_once(transport):
    child = transport.launch(lambda fds: subprocess.Popen(["sh", "-c", "echo a; echo b; echo e >&2"], stdout=fds.stdout, stderr=fds.stderr))
    assert child.wait() == 0
    assert [(write.stream, write.data) for write in received(transport)] == [(OUT, b"a\nb\n"), (ERR, b"e\n")]


def test_the_pipes_are_large_if_that_is_wanted_and_of_the_default_size_if_not(buffer, transport):
    small = PipeTransport(buffer, pipe_bytes=0)
    sizes = [[fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) for fd in each.fds] for each in (transport, small)]
    assert sizes == [[LARGE_PIPE_BYTES] * 2, [65_536] * 2]
    small.close()


def test_one_write_that_fits_comes_as_one_piece(transport):
    writes = run(transport, sys.executable, "-c", "import os; os.write(2, bytes(1 << 20))")
    assert [(write.stream, len(write.data)) for write in writes] == [(ERR, 1 << 20)]


def test_what_an_exited_child_left_in_pipes_that_it_made_larger_is_all_received(buffer):
    code = "import fcntl, os\nfor fd in (1, 2): fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, 1 << 20); os.write(fd, bytes(1 << 20))"
    transport = PipeTransport(buffer, pipe_bytes=0)
    child = transport.launch(lambda fds: subprocess.Popen([sys.executable, "-c", code], stdout=fds.stdout, stderr=fds.stderr))
    assert child.wait() == 0
    writes = received(transport)
    assert (len(data(writes, OUT)), len(data(writes, ERR))) == (1 << 20, 1 << 20)
    assert not transport.writers_left()
    transport.close()


def test_a_stream_that_has_come_to_its_end_is_polled_no_more(transport, fifo):
    go = fifo("go")
    script = 'exec >/dev/null; read -r line <"$0"; echo last >&2'
    child = transport.launch(lambda fds: subprocess.Popen(["sh", "-c", script, go], stdout=fds.stdout, stderr=fds.stderr))
    before = out, err = transport.fds
    assert select.select([out], [], [], BOUND_S)[0]
    assert received(transport) == []
    assert transport.fds == (err,)
    assert before == (out, err)
    assert transport.writers_left()
    go.write_text("\n")
    writes = []
    while transport.fds:
        assert select.select(transport.fds, [], [], BOUND_S)[0]
        writes += received(transport)
    assert [(write.stream, write.data) for write in writes] == [(ERR, b"last\n")]
    assert not transport.writers_left()
    assert child.wait() == 0


def test_a_child_gets_no_end_of_the_pipes_but_its_own(transport):
    """Also one that inherits whatever is inheritable."""
    pipes = {os.readlink(f"/proc/self/fd/{fd}").encode() for fd in transport.fds}
    script = "for fd in /proc/$$/fd/*; do echo ${fd##*/} $(readlink $fd); done"
    transport.launch(lambda fds: subprocess.Popen(["sh", "-c", script], stdout=fds.stdout, stderr=fds.stderr, close_fds=False).wait())
    seen = [line.split() for line in data(received(transport), OUT).splitlines()]
    assert [fd for fd, what in seen if what in pipes] == [b"1", b"2"]


def test_two_share_a_buffer_without_mixing(buffer):
    one, other = PipeTransport(buffer), PipeTransport(buffer)
    kept = [transport.launch(lambda fds: (os.dup(fds.stdout), os.dup(fds.stderr))) for transport in (one, other)]
    for _ in range(3):
        os.write(kept[0][0], b"one")
        os.write(kept[1][1], b"other")
        assert [(write.stream, write.data) for write in received(one)] == [(OUT, b"one")]
        assert [(write.stream, write.data) for write in received(other)] == [(ERR, b"other")]
    for fd in (*kept[0], *kept[1]):
        os.close(fd)
    one.close()
    other.close()


def test_without_room_for_fds_there_is_none_and_nothing_is_left(buffer):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [fd for fd in range(10_000) if not Path(f"/proc/self/fd/{fd}").exists()]
    for room in range(4):
        before = open_fds()
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[room], limits[1]))
        try:
            with pytest.raises(CaptureError, match="pipe: Too many open files"):
                PipeTransport(buffer)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert open_fds() == before


def test_what_the_spawn_raises_is_raised_and_closing_leaves_nothing(buffer):
    before = open_fds()
    transport = PipeTransport(buffer)
    with pytest.raises(KeyError, match="of mine"):
        transport.launch(lambda fds: {}["of mine"])
    assert transport.receive() is None
    transport.close()
    transport.close()
    assert (transport.fds, transport.writers_left(), transport.receive()) == ((), False, None)
    assert open_fds() == before
