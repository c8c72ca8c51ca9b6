"""A batch against the plainest model of it: a list of (stream, bytes)."""

from __future__ import annotations

import gc
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtee_async.core.batch import JOIN_BYTES, Batch
from dtee_async.core.write import Stream, Write

OUT, ERR = Stream.STDOUT, Stream.STDERR

WRITES = st.lists(st.tuples(st.sampled_from(Stream), st.binary(max_size=20)), max_size=70)


def received(writes, stamps=None):
    """A batch as a transport makes it, and the memory that its views point to."""
    memory = bytearray(b"".join(data for _, data in writes))
    views, begin = [], 0
    for _, data in writes:
        views.append(memoryview(memory)[begin : begin + len(data)])
        begin += len(data)
    return Batch(views, [len(data) for _, data in writes], bytes(stream for stream, _ in writes), stamps), memory


def contents(batch):
    return [(write.stream, bytes(write.data)) for write in batch]


@given(WRITES)
def test_iterating_gives_each_write_once_in_order_with_its_stream(writes):
    batch, _ = received(writes)
    assert contents(batch) == writes
    assert len(batch) == len(writes)
    assert batch.size_bytes == sum(len(data) for _, data in writes)


@given(WRITES, st.sampled_from([OUT, ERR, None]))
def test_the_chunks_of_a_stream_are_its_bytes_in_order_and_their_size(writes, stream):
    batch, _ = received(writes)
    chunks, size_bytes = batch.chunks(stream)
    expected = b"".join(data for one, data in writes if stream in (one, None))
    assert b"".join(chunks) == expected
    assert size_bytes == len(expected)


@pytest.mark.parametrize(("size", "chunks"), [(JOIN_BYTES // 4, 1), (JOIN_BYTES, 2)])
def test_small_writes_are_joined_and_large_ones_are_not_copied(size, chunks):
    batch, _ = received([(OUT, b"a" * size), (ERR, b"b"), (OUT, b"c" * size)])
    found, size_bytes = batch.chunks(OUT)
    assert len(found) == chunks
    assert b"".join(found) == b"a" * size + b"c" * size
    assert size_bytes == 2 * size


@given(WRITES)
def test_runs_are_as_long_as_they_can_be_and_keep_the_order(writes):
    batch, _ = received(writes)
    runs = [(stream, [bytes(view) for view in views]) for stream, views in batch.runs()]
    assert runs == [(stream, [data for _, data in group]) for stream, group in groupby(writes, key=lambda write: write[0])]


@given(WRITES)
def test_a_detached_batch_survives_that_the_receive_buffer_is_overwritten(writes):
    batch, memory = received(writes)
    detached = batch.detach()
    memory[:] = b"\xee" * len(memory)
    assert contents(detached) == writes
    assert len(detached) == len(writes)
    assert detached.size_bytes == batch.size_bytes
    assert b"".join(detached.chunks(ERR)[0]) == b"".join(data for stream, data in writes if stream is ERR)


def test_a_batch_that_is_not_detached_does_show_what_overwrites_it():
    batch, memory = received([(OUT, b"abc")])
    memory[:] = b"xyz"
    assert contents(batch) == [(OUT, b"xyz")]


def test_writes_of_no_bytes_are_kept():
    writes = [(OUT, b""), (ERR, b""), (OUT, b"a"), (ERR, b"")]
    batch, _ = received(writes)
    assert contents(batch) == contents(batch.detach()) == writes
    assert batch.chunks(ERR) == ([b""], 0)
    assert [(stream, list(map(bytes, views))) for stream, views in batch.runs()] == [
        (OUT, [b""]),
        (ERR, [b""]),
        (OUT, [b"a"]),
        (ERR, [b""]),
    ]


def test_an_empty_batch_has_nothing_and_breaks_nothing():
    batch, _ = received([])
    assert len(batch) == 0
    assert list(batch) == list(batch.runs()) == list(batch.detach()) == []
    assert batch.chunks(OUT) == batch.chunks(ERR) == batch.chunks(None) == ([], 0)


class Stamps:
    """Times and pids that are decoded when they are asked for, out of memory that will be used again."""

    def __init__(self, times_ns, pids):
        self.memory = [times_ns, pids]
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return tuple(self.memory[0]), tuple(self.memory[1])


def test_stamps_are_decoded_once_however_many_ask():
    stamps = Stamps([11, 22], [7, 8])
    batch, _ = received([(OUT, b"a"), (ERR, b"b")], stamps)
    assert list(batch) == [Write(OUT, b"a", 11, 7), Write(ERR, b"b", 22, 8)]
    assert batch.stamps() == batch.detach().stamps() == ((11, 22), (7, 8))
    list(batch.detach())
    assert stamps.calls == 1


def test_stamps_are_not_decoded_for_those_who_only_want_the_bytes():
    stamps = Stamps([11], [7])
    batch, _ = received([(OUT, b"a")], stamps)
    len(batch)
    batch.chunks(ERR)
    list(batch.runs())
    assert stamps.calls == 0


def test_a_detached_batch_has_its_own_stamps():
    stamps = Stamps([11], [7])
    batch, _ = received([(OUT, b"a")], stamps)
    detached = batch.detach()
    stamps.memory = [[99], [99]]
    assert detached.stamps() == ((11,), (7,))


@given(WRITES)
def test_without_stamps_every_time_and_pid_is_zero(writes):
    batch, _ = received(writes)
    zeros = (0,) * len(writes)
    assert tuple(map(tuple, batch.stamps())) == tuple(map(tuple, batch.detach().stamps())) == (zeros, zeros)


def test_who_asks_for_a_detached_batch_shares_it_with_the_others():
    batch, _ = received([(OUT, b"a")])
    assert batch.detach() is batch.detach()


def test_detaching_a_detached_batch_copies_nothing():
    detached = received([(OUT, b"a")])[0].detach()
    assert detached.detach() is detached


def test_a_detached_batch_is_freed_when_it_is_dropped_and_does_not_wait_for_the_garbage_collector():
    size_bytes = 123_457
    gc.disable()
    try:
        received([(OUT, b"a" * size_bytes)])[0].detach()
        assert [each for each in gc.get_objects() if isinstance(each, Batch) and each.size_bytes == size_bytes] == []
    finally:
        gc.enable()
