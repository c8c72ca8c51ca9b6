"""Writes kept in memory: all of them, or the first or last so many bytes, whatever the borders of batches."""

import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dtee_async import ConfigError, Stream
from dtee_async.core.batch import Batch
from dtee_async.output.memory import BLOCK_BYTES, BoundedMemory, MemoryOutput

WRITE = st.tuples(st.sampled_from(Stream), st.binary(max_size=8))
BATCHES = st.lists(st.lists(WRITE, min_size=1, max_size=5), max_size=8)


def batch_at(begin, writes):
    """A batch whose times and pids count on from ``begin``."""
    streams, data = zip(*writes, strict=True)
    numbers = range(begin, begin + len(writes))
    return Batch([*data], [len(each) for each in data], bytes(streams), lambda: ([*numbers], [n + 1000 for n in numbers]))


def feed(memory, batches):
    count = 0
    for writes in batches:
        memory.write(batch_at(count, writes))
        count += len(writes)
    return memory.captured()


def columns(captured):
    return [(write.stream, bytes(write.data), write.time_ns, write.pid, write.whole) for write in captured]


def flat(batches):
    return [(stream, data, n, n + 1000, True) for n, (stream, data) in enumerate(write for batch in batches for write in batch)]


@given(BATCHES)
def test_all_writes_are_kept(batches):
    memory = MemoryOutput()
    assert columns(feed(memory, batches)) == flat(batches)
    assert memory.dropped_bytes == 0


@given(BATCHES, st.integers(0, 60), st.sampled_from(["head", "tail"]))
@example([[(Stream.STDOUT, b"x")]], 0, "tail")
@example([[(Stream.STDOUT, b"")], [(Stream.STDERR, b"")]], 0, "tail")
def test_the_first_or_the_last_bytes_are_kept_and_the_rest_is_counted(batches, limit_bytes, keep):
    everything = flat(batches)
    data = b"".join(write[1] for write in everything)
    memory = BoundedMemory(limit_bytes, keep)
    captured = feed(memory, batches)
    assert captured.data == (data[:limit_bytes] if keep == "head" else data[max(0, len(data) - limit_bytes) :])
    assert memory.dropped_bytes == len(data) - len(captured.data)
    cut = [write for write in columns(captured) if not write[4]]
    assert len(cut) <= 1
    by_time = {write[2]: write for write in everything}
    for stream, part, time_ns, pid, whole in columns(captured):
        of = by_time[time_ns]
        assert (of[0], of[3]) == (stream, pid)
        assert part == of[1] if whole else (of[1].startswith(part) if keep == "head" else of[1].endswith(part))


@pytest.mark.parametrize("keep", ["head", "tail"])
def test_memory_is_bounded_for_tiny_writes_too(keep):
    limit_bytes = 4 * BLOCK_BYTES
    memory = BoundedMemory(limit_bytes, keep)
    tracemalloc.start()
    for n in range(3 * limit_bytes // 8):
        memory.write(batch_at(n, [(Stream.STDOUT, b"8 bytes\n")]))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(memory.captured().data) == limit_bytes
    assert peak_bytes < 20 * limit_bytes


@pytest.mark.parametrize(("limit_bytes", "keep"), [(-1, "head"), (10, "middle")])
def test_what_cannot_be_kept_is_refused(limit_bytes, keep):
    with pytest.raises(ConfigError, match="expected .* got"):
        BoundedMemory(limit_bytes, keep)
