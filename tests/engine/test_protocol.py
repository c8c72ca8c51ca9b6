"""Capture and Reading: the straight line, pauses, errors; and Capture as an ordinary asyncio protocol."""

import asyncio
import os
import socket

import pytest

from dtee_async.core.write import Stream
from dtee_async.engine.protocol import Capture, Reading
from dtee_async.engine.selectloop import SelectLoop
from dtee_async.errors import CaptureError
from dtee_async.testing import RecordingOutput, ScriptedTransport, batch_of

OUT, ERR = Stream.STDOUT, Stream.STDERR
ONE, TWO, THREE = (batch_of([(OUT, data)]) for data in (b"1", b"2", b"3"))


class Full(RecordingOutput):
    """Is full after every batch."""

    def write(self, batch):
        super().write(batch)
        self.flow.pause()


def start(loop, transport, *outputs):
    capture = Capture(loop, outputs, lambda *_: None)
    capture.open()
    reading = Reading(loop, transport, capture)
    reading.resume_reading()
    return capture, reading


@pytest.fixture
def loop():
    with SelectLoop() as loop:
        yield loop


def test_every_output_gets_every_batch_in_order(loop):
    transport = ScriptedTransport([ONE, TWO, None, THREE])
    outputs = [RecordingOutput(), RecordingOutput()]
    _, reading = start(loop, transport, *outputs)
    loop.run_until(lambda: not transport.script)
    reading.close()
    assert [output.data() for output in outputs] == [b"123", b"123"]


def test_the_memory_of_a_huge_batch_goes_back_and_only_of_a_huge_one(loop):
    transport = ScriptedTransport([ONE, batch_of([(OUT, bytes(5 << 20))]), TWO])
    _, reading = start(loop, transport, RecordingOutput())
    loop.run_until(lambda: not transport.script)
    reading.close()
    assert transport.recycled == 1


def test_reading_stops_while_one_output_is_full_and_goes_on_when_the_last_has_room(loop):
    transport = ScriptedTransport([ONE, TWO, THREE])
    full, other, third = Full(), RecordingOutput(), Full()
    capture, reading = start(loop, transport, full, other, third)
    loop.run_until(lambda: capture.blocked == 2)
    loop.call_later(0.01, full.flow.resume)
    loop.run_until(lambda: capture.blocked == 1)
    assert other.data() == b"1"
    third.flow.resume()
    loop.run_until(lambda: capture.blocked == 2)
    assert other.data() == b"12"
    reading.close()


def test_pausing_and_resuming_twice_counts_once(loop):
    output = RecordingOutput()
    capture, reading = start(loop, ScriptedTransport(), output)
    for call in (output.flow.pause, output.flow.pause):
        call()
    assert capture.blocked == 1
    for call in (output.flow.resume, output.flow.resume):
        call()
    assert capture.blocked == 0
    reading.close()


def test_an_error_of_the_system_is_kept_and_reading_goes_on(loop):
    lost = CaptureError(105, "No buffer space available")
    transport = ScriptedTransport([ONE, lost, TWO])
    output = RecordingOutput()
    capture, reading = start(loop, transport, output)
    loop.run_until(lambda: not transport.script)
    reading.close()
    assert output.data() == b"12"
    assert capture.error is lost


def test_an_error_that_does_not_pass_closes_our_end_so_that_the_child_fails_and_does_not_hang(loop):
    transport = ScriptedTransport([ONE, *[CaptureError(5, "Input/output error")] * 2, TWO])
    output = RecordingOutput()
    capture, _ = start(loop, transport, output)
    loop.run_until(lambda: len(transport.script) == 1)
    assert output.data() == b"1"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(transport.fds[0])


async def test_capture_works_on_a_standard_datagram_endpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loop = asyncio.get_running_loop()
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind("0")
    receiver.setblocking(False)
    senders = []
    for name in ("1", "2"):
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sender.bind(name)
        sender.connect("0")
        senders.append(sender)
    output, got = RecordingOutput(), asyncio.Event()
    capture = Capture(loop, [output], lambda *_: None)
    capture.open()

    class Standard(asyncio.DatagramProtocol):
        def datagram_received(self, data, addr):
            capture.datagram_received(data, addr)
            if len(output.writes) == 3:
                got.set()

    endpoint, _ = await loop.create_datagram_endpoint(Standard, sock=receiver)
    senders[0].send(b"a")
    senders[1].send(b"b")
    senders[0].send(b"c")
    await got.wait()
    endpoint.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for sender in senders:
        sender.close()
    assert [(write.stream, write.data) for write in output.writes] == [(OUT, b"a"), (ERR, b"b"), (OUT, b"c")]
