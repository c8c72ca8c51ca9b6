"""The datagram transport on systems that have less than Linux, and the mode that is chosen there."""

import errno
import os
import socket
import subprocess
import time
from contextlib import suppress

import pytest

from dtee_async.core import platforms
from dtee_async.core.capture import CaptureSpec
from dtee_async.core.platforms import LINUX, PLATFORMS, platform_of
from dtee_async.core.write import Stream
from dtee_async.engine import captures
from dtee_async.engine.captures import Captures
from dtee_async.engine.protocol import Capture, Reading
from dtee_async.engine.selectloop import SelectLoop
from dtee_async.errors import CaptureError
from dtee_async.process.spawn import SpawnPlan
from dtee_async.testing import RecordingOutput, check_transport
from dtee_async.transport.buffer import LARGEST_BYTES, SLOT_BYTES, receive_buffer
from dtee_async.transport.datagram import MANY, DatagramTransport
from dtee_async.transport.recvmmsg import ReceiveBuffer
from dtee_async.transport.recvmsg import PlainBuffer

SETS = ["recvmmsg", "timestamps", "credentials", "memory_folder", "recvmmsg,timestamps,credentials", "all"]
BUFFERS = [ReceiveBuffer, PlainBuffer]


@pytest.fixture
def without(monkeypatch):
    """Switch facilities off: names with commas between."""
    return lambda names: monkeypatch.setattr(platforms, "switched_off", frozenset(names.split(",")))


def writer(transport, stream=Stream.STDOUT):
    return transport._senders[stream].fileno()


def received(transport):
    writes = []
    while (batch := transport.receive()) is not None:
        writes += [write._replace(data=bytes(write.data)) for write in batch]
    return writes


@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize("names", SETS[:-1])
def test_it_keeps_the_contract_without(without, names, stamped):
    without(names)
    check_transport(lambda: DatagramTransport(receive_buffer(), stamped=stamped))


@pytest.mark.parametrize("names", SETS)
def test_the_order_is_exact_for_20000_alternating_writes_without(without, programs, names):
    without(names)
    transport = DatagramTransport(receive_buffer())
    command = [programs / "writes", "20000", "64", "2"]
    child = subprocess.Popen(command, stdout=writer(transport), stderr=writer(transport, Stream.STDERR))
    streams = []
    while len(streams) < 20_000:
        streams += [write.stream for write in received(transport)]
    assert child.wait() == 0
    assert streams == [Stream.STDERR, Stream.STDOUT] * 10_000
    transport.close()


@pytest.mark.parametrize(("names", "kind"), [("", ReceiveBuffer), *((names, PlainBuffer) for names in SETS if names != "memory_folder")])
def test_which_receive_call_is_used(without, names, kind):
    without(names)
    assert type(receive_buffer()) is kind


@pytest.mark.parametrize("names", SETS)
def test_times_are_ours_and_pids_unknown_where_the_kernel_does_not_tell_them(without, names):
    without(names)
    transport = DatagramTransport(receive_buffer(), stamped=True)
    child = subprocess.Popen(["sh", "-c", "echo a; echo b >&2"], stdout=writer(transport), stderr=writer(transport, Stream.STDERR))
    assert child.wait() == 0
    written_ns = time.time_ns()
    writes = received(transport)
    assert [write.data for write in writes] == [b"a\n", b"b\n"]
    if platforms.has("timestamps"):
        assert writes[0].time_ns <= writes[1].time_ns <= written_ns
    else:
        assert written_ns <= writes[0].time_ns <= writes[1].time_ns <= time.time_ns()
    assert [write.pid for write in writes] == [child.pid if platforms.has("credentials") else 0] * 2
    transport.close()


def test_without_proc_it_cannot_be_known_who_still_writes(without):
    without("proc")
    transport = DatagramTransport(receive_buffer())
    os.write(writer(transport), b"x")
    assert [write.data for write in received(transport)] == [b"x"]
    assert not transport.writers_left()
    assert transport.queue_limit() == MANY
    transport.close()


def test_without_a_folder_in_memory_the_sockets_are_made_in_tmp(without, monkeypatch):
    without("memory_folder")
    monkeypatch.delenv("TMPDIR")
    parents = []
    real = os.mkdir
    monkeypatch.setattr(os, "mkdir", lambda path, mode: (parents.append(os.path.dirname(path)), real(path, mode)))
    DatagramTransport(receive_buffer()).close()
    assert parents == [b"/tmp"]


@pytest.mark.parametrize("kind", BUFFERS)
def test_a_write_that_was_cut_is_reported_and_what_follows_arrives(kind):
    room = 64 * 1024
    transport = DatagramTransport(kind(room))
    out = writer(transport)
    data = os.urandom(room + 1)
    for piece in (b"before", data[:room], data, b"after"):
        os.write(out, piece)
    output = RecordingOutput()
    with SelectLoop() as loop:
        capture = Capture(loop, [output], lambda *_: None)
        capture.open()
        reading = Reading(loop, transport, capture)
        reading.resume_reading()
        loop.run_until(lambda: len(output.writes) == 4)
        reading.close()
    assert [write.data for write in output.writes] == [b"before", data[:room], data[:room], b"after"]
    assert isinstance(capture.error, CaptureError)
    assert (capture.error.errno, "a write was cut" in capture.error.strerror) == (errno.EMSGSIZE, True)


@pytest.mark.parametrize("kind", BUFFERS)
def test_a_write_that_just_fits_is_not_said_to_be_cut(kind):
    transport = DatagramTransport(kind(64 * 1024))
    os.write(writer(transport), bytes(64 * 1024))
    assert [len(write.data) for write in received(transport)] == [64 * 1024]
    transport.close()


def test_no_write_of_a_child_is_larger_than_a_slot():
    transport = DatagramTransport(ReceiveBuffer())
    for stream in Stream:
        sent = transport._senders[stream].getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - 32
        assert sent < transport._buffer.slot_bytes
    transport.close()


def test_the_send_buffer_is_as_large_as_a_write_can_be_or_as_we_are_allowed():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        for option in (socket.SO_SNDBUF, 32):  # SO_SNDBUFFORCE
            with suppress(PermissionError):
                probe.setsockopt(socket.SOL_SOCKET, option, SLOT_BYTES // 2)
        largest = min(LARGEST_BYTES, probe.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - 32)
    transport = DatagramTransport(receive_buffer())
    data = os.urandom(largest)
    assert transport.largest_write_bytes == len(data)
    assert os.write(writer(transport), data) == len(data)
    assert [write.data for write in received(transport)] == [data]
    transport.close()


@pytest.mark.parametrize("platform", [platform for platform in PLATFORMS if platform.addressed], ids=lambda platform: platform.name)
def test_the_buffers_are_as_large_as_the_platform_says(platform):
    transport = DatagramTransport(PlainBuffer(), platform=platform)
    sender, receiver = transport._senders[Stream.STDERR], transport._receiver
    for of, option, wanted in (
        (sender, socket.SO_SNDBUF, platform.send_buffer_bytes),
        (receiver, socket.SO_RCVBUF, platform.receive_buffer_bytes),
    ):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as untouched:
            default = untouched.getsockopt(socket.SOL_SOCKET, option)
            untouched.setsockopt(socket.SOL_SOCKET, option, wanted or 1 << 21)
            expected = max(default, untouched.getsockopt(socket.SOL_SOCKET, option))
        if platform is not LINUX or option == socket.SO_SNDBUF:
            assert of.getsockopt(socket.SOL_SOCKET, option) >= min(default, expected) >= 8192
        if platform is not LINUX and wanted > default:
            assert of.getsockopt(socket.SOL_SOCKET, option) == expected
    transport.close()


@pytest.mark.parametrize("name", ["gnu0", "sunos5"])
def test_ordered_is_refused_where_senders_have_no_addresses(name):
    with pytest.raises(CaptureError, match="a datagram does not tell its sender"):
        DatagramTransport(PlainBuffer(), platform=platform_of(name))


@pytest.mark.parametrize(("name", "mode"), [("linux", "ordered"), ("freebsd14", "pipe"), ("netbsd10", "pipe"), ("gnu0", "pipe")])
def test_auto_takes_what_is_reliable_on_the_system(monkeypatch, name, mode):
    monkeypatch.setattr(captures, "HERE", platform_of(name))
    made = Captures()
    capturing = made.open(CaptureSpec(), SpawnPlan(["true"]))
    assert (capturing.transport.mode, bool(capturing.reason)) == (mode, mode == "pipe")
    capturing.transport.close()
    made.close()


def test_without_seccomp_there_is_no_turnstile_and_it_is_said(without):
    without("seccomp")
    made = Captures()
    capturing = made.open(CaptureSpec("turnstile"), SpawnPlan(["true"]))
    assert (capturing.transport.mode, capturing.fell_back, "no seccomp" in capturing.reason) == ("pipe", True, True)
    capturing.transport.close()
    made.close()
