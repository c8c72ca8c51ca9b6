"""Captured against a list of writes, and the views of a Result."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtee_async.core.exit import Exit
from dtee_async.core.result import Captured, Result
from dtee_async.core.write import Stream, Write

OUT, ERR = Stream.STDOUT, Stream.STDERR

WRITES = st.lists(
    st.builds(Write, st.sampled_from(Stream), st.binary(max_size=8), st.integers(0, 2**62), st.integers(0, 2**22), st.booleans()),
    max_size=12,
)


def captured(writes):
    return Captured(
        b"".join(write.data for write in writes),
        [len(write.data) for write in writes],
        bytes(write.stream for write in writes),
        [write.time_ns for write in writes],
        [write.pid for write in writes],
        bytes(write.whole for write in writes),
    )


THREE = [Write(OUT, b"one", 1, 10), Write(ERR, b"", 2, 11), Write(OUT, b"three", 3, 10)]


@given(WRITES)
def test_iterating_gives_the_writes(writes):
    assert list(captured(writes)) == writes
    assert len(captured(writes)) == len(writes)


@given(st.data(), WRITES)
def test_every_index_that_a_list_has_works_negative_ones_too(data, writes):
    index = data.draw(st.integers(-len(writes) - 2, len(writes) + 2))
    if -len(writes) <= index < len(writes):
        assert captured(writes)[index] == writes[index]
    else:
        with pytest.raises(IndexError):
            captured(writes)[index]


@given(st.data(), WRITES)
def test_every_slice_that_a_list_has_works(data, writes):
    part = data.draw(st.slices(len(writes)))
    assert captured(writes)[part] == writes[part]


@given(WRITES, st.sampled_from(Stream))
def test_of_a_stream_joins_its_bytes_in_order(writes, stream):
    assert captured(writes).of(stream) == b"".join(write.data for write in writes if write.stream is stream)


def test_a_capture_of_nothing_is_empty():
    nothing = captured([])
    assert list(nothing) == nothing[:] == []
    assert nothing.of(OUT) == nothing.of(ERR) == nothing.data == b""
    with pytest.raises(IndexError):
        nothing[0]
    with pytest.raises(IndexError):
        nothing[-1]


def test_a_capture_is_a_sequence():
    writes = captured(THREE)
    assert THREE[2] in writes
    assert writes.index(THREE[1]) == 1
    assert list(reversed(writes)) == THREE[::-1]


def test_a_write_is_a_view_and_not_a_copy():
    writes = captured(THREE)
    assert writes[2].data.obj is writes.data


def result(exit, writes=()):
    return Result(
        "make",
        exit,
        captured(list(writes)),
        mode="ordered",
        exact=True,
        lossless=True,
        reason="",
        writers_left=False,
        started=datetime(2024, 2, 29, tzinfo=UTC),
        duration_s=0.5,
    )


def test_a_result_shows_each_stream_and_both():
    made = result(Exit(0), [Write(OUT, b"a", 0, 0), Write(ERR, b"b", 0, 0), Write(OUT, b"c", 0, 0)])
    assert (made.stdout, made.stderr, made.combined) == (b"ac", b"b", b"abc")


def test_a_result_shows_how_the_command_ended():
    assert (result(Exit(3)).returncode, result(Exit(3)).signal) == (3, None)
    assert (result(Exit(-15)).returncode, result(Exit(-15)).signal) == (-15, 15)


def test_a_result_shows_what_the_command_used():
    made = result(Exit(0, max_rss_bytes=4096, user_s=0.25, system_s=0.5))
    assert (made.max_rss, made.cpu) == (4096, 0.75)
