"""The select loop: the six calls that the engine asks of a loop."""

import os
import threading

import pytest

from dtee_async.engine.selectloop import SelectLoop


@pytest.fixture
def loop():
    with SelectLoop() as loop:
        yield loop


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_a_reader_is_called_as_long_as_there_is_something_to_read(loop, pipe):
    reader, writer = pipe
    os.write(writer, b"abc")
    got = []
    loop.add_reader(reader, lambda: got.append(os.read(reader, 1)))
    loop.run_until(lambda: len(got) == 3)
    assert got == [b"a", b"b", b"c"]
    assert loop.remove_reader(reader) is True
    assert loop.remove_reader(reader) is False


def test_a_writer_is_called_when_there_is_room_and_not_before(loop, pipe):
    reader, writer = pipe
    os.write(writer, bytes(65_536))
    order = []
    loop.add_writer(writer, lambda: order.append("writable"))
    loop.call_later(0.01, lambda: (order.append("read"), os.read(reader, 65_536)))
    loop.run_until(lambda: "writable" in order)
    assert order[:2] == ["read", "writable"]
    loop.remove_writer(writer)


def test_arguments_are_passed_on_and_one_fd_can_be_read_and_written(loop):
    import socket

    one, other = socket.socketpair()
    got = []
    loop.add_reader(one.fileno(), got.append, "read")
    loop.add_writer(one.fileno(), got.append, "write")
    loop.run_until(lambda: bool(got))
    assert set(got) == {"write"}
    loop.remove_writer(one.fileno())
    got.clear()
    other.send(b"x")
    loop.run_until(lambda: bool(got))
    assert set(got) == {"read"}
    one.close()
    other.close()


def test_timers_fire_in_order_and_not_when_cancelled(loop):
    fired = []
    loop.call_later(0.02, fired.append, 2)
    loop.call_later(0.01, fired.append, 1)
    loop.call_later(0.015, fired.append, "never").cancel()
    loop.run_until(lambda: len(fired) == 2)
    assert fired == [1, 2]


def test_a_call_from_another_thread_wakes_the_loop(loop):
    got = []
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(got.append, "x"))
    loop.call_later(5, got.append, "too late")
    thread.start()
    loop.run_until(lambda: bool(got))
    thread.join()
    assert got == ["x"]


def test_a_callback_removed_by_an_earlier_one_in_the_same_round_is_not_called(loop):
    first, second = os.pipe(), os.pipe()
    calls = []

    def read(name, other):
        calls.append(name)
        loop.remove_reader(other)

    loop.add_reader(first[0], read, "first", second[0])
    loop.add_reader(second[0], read, "second", first[0])
    os.write(first[1], b"x")
    os.write(second[1], b"x")
    loop.run_until(lambda: len(calls) >= 1)
    assert len(calls) == 1
    for fd in (*first, *second):
        os.close(fd)
