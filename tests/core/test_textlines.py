"""Lines for a program: whatever the cuts, the bytes and the limit, nothing is lost and nothing is moved."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtee_async import ConfigError, Line, Stream, Write
from dtee_async.core.textlines import LineSplitter

OUT, ERR = Stream.STDOUT, Stream.STDERR

DATA = st.lists(
    st.sampled_from([b"\n", b"\n\n", b"a", b"bcd", b"\r", b"\xff\xfe", b"\xe2\x82", b"", b"0123456789" * 3]) | st.binary(max_size=20)
).map(b"".join)
WRITES = st.lists(st.tuples(st.sampled_from(Stream), DATA), max_size=12)


def split(writes, limit_bytes=1 << 20):
    """All lines of writes that are made at 1, 2, 3, ... ns."""
    splitter = LineSplitter(limit_bytes)
    lines = [line for time_ns, (stream, data) in enumerate(writes, 1) for line in splitter.feed(Write(stream, data, time_ns, 7))]
    return lines + splitter.end()


def whole_lines(lines):
    """The data of each line, its parts joined, and whether it had a newline."""
    joined, held = [], b""
    for line in lines:
        held += line.data
        if line.complete:
            joined.append((held, True))
            held = b""
    return joined + ([(held, False)] if held else [])


@given(WRITES, st.integers(1, 40))
def test_joined_parts_are_the_stream_and_lines_are_those_of_split(writes, limit_bytes):
    lines = split(writes, limit_bytes)
    assert all(len(line.data) <= limit_bytes for line in lines)
    for stream in Stream:
        data = b"".join(data for each, data in writes if each == stream)
        *complete, rest = data.split(b"\n")
        expected = [(line, True) for line in complete] + ([(rest, False)] if rest else [])
        assert whole_lines(line for line in lines if line.stream == stream) == expected


@given(WRITES, st.integers(1, 40))
def test_a_part_is_as_long_as_it_may_be_and_the_last_one_is_never_empty(writes, limit_bytes):
    for stream in Stream:
        before = None
        for line in split([each for each in writes if each[0] == stream], limit_bytes):
            if before is not None and not before.complete:
                assert len(before.data) == limit_bytes
                assert line.data
            before = line


@given(WRITES)
def test_the_time_is_that_of_the_first_byte(writes):
    lines = split(writes)
    for stream in Stream:
        times, at_begin = [], True
        for time_ns, (each, data) in enumerate(writes, 1):
            for byte in data if each == stream else b"":
                if at_begin:
                    times.append(time_ns)
                at_begin = byte == ord("\n")
        assert [line.time_ns for line in lines if line.stream == stream] == times


@given(st.binary())
def test_text_and_back_is_the_data(data):
    assert Line(OUT, data, 0, complete=True).text.encode("utf-8", "surrogateescape") == data


def test_text_is_what_it_says_where_it_is_utf_8():
    assert Line(OUT, "größer €".encode(), 0, complete=True).text == "größer €"


def test_the_streams_do_not_mix_and_the_older_end_comes_first():
    lines = split([(ERR, b"e"), (OUT, b"a\nb"), (ERR, b"f\n"), (OUT, b"c"), (ERR, b"g")])
    assert lines == [
        Line(OUT, b"a", 2, complete=True),
        Line(ERR, b"ef", 1, complete=True),
        Line(OUT, b"bc", 2, complete=False),
        Line(ERR, b"g", 5, complete=False),
    ]


def test_a_line_of_exactly_the_limit_is_whole():
    assert split([(OUT, b"abc\n")], 3) == [Line(OUT, b"abc", 1, complete=True)]
    assert split([(OUT, b"abcd\n")], 3) == [Line(OUT, b"abc", 1, complete=False), Line(OUT, b"d", 1, complete=True)]


@pytest.mark.parametrize("limit_bytes", [0, -1])
def test_a_limit_that_no_byte_fits_into_is_refused(limit_bytes):
    with pytest.raises(ConfigError, match="limit_bytes: expected 1 or more, got"):
        LineSplitter(limit_bytes)


def test_lines_are_made_one_by_one():
    lines = LineSplitter().feed(Write(OUT, b"\n" * 1_000_000, 0, 0))
    assert next(lines) == Line(OUT, b"", 0, complete=True)
    assert iter(lines) is lines, "a list of a million lines takes a hundred times the memory of its bytes"
