"""The datagram transport: its contract, and what is peculiar to it."""

import array
import os
import socket
import subprocess
import sys
import time

import pytest

from dtee_async.core.write import Stream
from dtee_async.errors import CaptureError
from dtee_async.testing import check_transport, open_fds
from dtee_async.transport.datagram import DatagramTransport
from dtee_async.transport.recvmmsg import ReceiveBuffer
from dtee_async.transport.recvmsg import PlainBuffer


@pytest.fixture(params=[ReceiveBuffer, PlainBuffer])
def new_buffer(request):
    return request.param


@pytest.fixture
def transport(new_buffer):
    transport = DatagramTransport(new_buffer(), stamped=True)
    yield transport
    transport.close()


def child_fds(transport):
    """What launch() would give a child, for as long as the transport is open."""
    return {stream: sender.fileno() for stream, sender in transport._senders.items()}


def received(transport):
    writes = []
    while (batch := transport.receive()) is not None:
        writes += [write._replace(data=bytes(write.data)) for write in batch]
    return writes


@pytest.mark.parametrize("stamped", [True, False])
def test_it_keeps_the_contract(stamped, new_buffer):
    check_transport(lambda: DatagramTransport(new_buffer(), stamped=stamped))


def test_two_transports_share_a_buffer_without_mixing(new_buffer):
    buffer = new_buffer()
    one, other = DatagramTransport(buffer, stamped=True), DatagramTransport(buffer)
    for _ in range(3):
        os.write(child_fds(one)[Stream.STDOUT], b"one")
        os.write(child_fds(other)[Stream.STDERR], b"other")
        assert [(w.stream, w.data) for w in received(one)] == [(Stream.STDOUT, b"one")]
        assert [(w.stream, w.data) for w in received(other)] == [(Stream.STDERR, b"other")]
    one.close()
    other.close()


def test_the_order_across_streams_is_exact_for_20000_alternating_writes(transport, programs):
    child = subprocess.Popen([programs / "writes", "20000", "64", "2"], stdout=child_fds(transport)[1], stderr=child_fds(transport)[2])
    streams = []
    while len(streams) < 20_000:
        streams += [write.stream for write in received(transport)]
    assert child.wait() == 0
    assert streams == [Stream.STDERR, Stream.STDOUT] * 10_000


def test_each_write_carries_the_kernels_time_and_its_writer(transport):
    before = time.time_ns()
    child = subprocess.Popen(["sh", "-c", "echo a; echo b >&2"], stdout=child_fds(transport)[1], stderr=child_fds(transport)[2])
    assert child.wait() == 0
    writes = received(transport)
    after = time.time_ns()
    assert [write.pid for write in writes] == [child.pid] * 2
    assert before <= writes[0].time_ns <= writes[1].time_ns <= after


def test_no_path_is_left_when_it_is_made_and_the_directory_is_private(transport, monkeypatch, new_buffer):
    assert os.listdir(os.environ["TMPDIR"]) == []
    modes = []
    real = os.mkdir
    monkeypatch.setattr(os, "mkdir", lambda path, mode: (modes.append(mode), real(path, mode))[1])
    DatagramTransport(new_buffer()).close()
    assert modes == [0o700]


def same_length_as(path: bytes) -> bytes:
    return path[:-1] + bytes([path[-1] ^ 1])


@pytest.mark.parametrize("name", [None, b"/elsewhere", "same length", "same directory name"])
def test_a_stranger_that_connected_in_time_is_ignored(name, new_buffer):
    strangers = []

    class Observed(DatagramTransport):
        def _connect(self):
            super()._connect()
            stranger = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            strangers.append(stranger)
            if name is not None:
                folder = same_length_as(self._path) if name == "same length" else self._path + b"x"
                path = folder + b"/1" if isinstance(name, str) else os.fsencode(os.environ["TMPDIR"]) + name
                os.makedirs(os.path.dirname(path), exist_ok=True)
                stranger.bind(path)
                os.unlink(path)
                if isinstance(name, str):
                    os.rmdir(folder)
            stranger.connect(self._path + b"/0")
            stranger.send(b"queued before the start")

    transport = Observed(new_buffer())
    out = child_fds(transport)[Stream.STDOUT]
    for _ in range(3):
        os.write(out, b"ours 1")
        strangers[0].send(b"not ours")
        os.write(out, b"ours 2")
        assert [write.data for write in received(transport)] == [b"ours 1", b"ours 2"]
        strangers[0].send(b"alone")
        assert received(transport) == []
        os.write(child_fds(transport)[Stream.STDERR], b"3")
        assert [(write.stream, write.data) for write in received(transport)] == [(Stream.STDERR, b"3")]
    transport.close()
    strangers[0].close()


@pytest.mark.parametrize("stamped", [True, False])
def test_a_child_cannot_hand_us_an_fd(stamped, new_buffer):
    transport = DatagramTransport(new_buffer(), stamped=stamped)
    before = open_fds()
    with socket.socket(fileno=os.dup(child_fds(transport)[1])) as child:
        rights = array.array("i", [0, 0, 0])
        child.sendmsg([b"take these"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    assert [write.data for write in received(transport)] == [b"take these"]
    assert open_fds() == before
    os.write(child_fds(transport)[2], b"and go on")
    assert [(write.stream, write.data) for write in received(transport)] == [(Stream.STDERR, b"and go on")]
    transport.close()


def test_the_largest_possible_write_arrives_whole_and_a_larger_one_fails_in_the_child(transport):
    largest = transport.largest_write_bytes
    assert largest >= 2 * 212_992 - 64  # what a stock kernel allows
    data = os.urandom(largest)
    os.write(child_fds(transport)[1], data)
    assert received(transport)[0].data == data
    with pytest.raises(OSError, match="Message too long|No buffer space"):
        os.write(child_fds(transport)[1], data + b"x" * 4096)


def test_a_batch_is_bounded_when_writes_are_large(transport):
    out = child_fds(transport)[1]
    sizes = []
    for _ in range(20):
        for _ in range(5):
            os.write(out, bytes(300_000))
        while (batch := transport.receive()) is not None:
            sizes.append(batch.size_bytes)
            transport.recycle(batch)
    assert sum(sizes) == 20 * 5 * 300_000
    assert max(sizes) <= 1 << 20


def test_a_tmpdir_that_is_too_long_is_a_clear_error(monkeypatch, new_buffer):
    long = os.path.join(os.environ["TMPDIR"], "x" * 100)
    os.mkdir(long)
    monkeypatch.setenv("TMPDIR", long)
    with pytest.raises(CaptureError, match="too long for a socket address.*set TMPDIR"):
        DatagramTransport(new_buffer())
    assert os.listdir(long) == []
    os.rmdir(long)


def test_a_missing_tmpdir_is_a_clear_error(monkeypatch, new_buffer):
    monkeypatch.setenv("TMPDIR", "/nonexistent/folder")
    with pytest.raises(CaptureError, match="temporary directory: No such file or directory: '/nonexistent/folder'"):
        DatagramTransport(new_buffer())


def test_it_works_in_a_small_address_space():
    code = "import resource; from dtee_async.transport.recvmmsg import ReceiveBuffer\n"
    code += "size = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
    code += "resource.setrlimit(resource.RLIMIT_AS, (size + (100 << 20), size + (100 << 20)))\n"
    code += "print(ReceiveBuffer().slots)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "16\n"


def test_without_tmpdir_the_sockets_are_made_in_memory_or_else_in_tmp(monkeypatch, new_buffer):
    monkeypatch.delenv("TMPDIR")
    parents = []
    real = os.mkdir

    def mkdir(path, mode):
        parents.append(os.path.dirname(path))
        if len(parents) == 2:
            raise OSError(30, "Read-only file system")
        real(path, mode)

    monkeypatch.setattr(os, "mkdir", mkdir)
    for _ in range(2):
        check_transport(lambda: DatagramTransport(new_buffer()))
    assert parents == [b"/dev/shm", b"/dev/shm", b"/tmp"]
