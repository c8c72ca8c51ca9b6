"""LineRenderer: whoever strips the prefixes has the job's bytes again."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dtee_async.core.lines import LINE_BYTES, LineRenderer

PREFIX, CONTINUED = b"web | ", b"web : "


def render(steps):
    """What is on the screen after feeding the bytes, flushing wherever a step is None, and at the end."""
    lines = LineRenderer(PREFIX, CONTINUED)
    return b"".join(lines.flush() if step is None else lines.feed(step) for step in [*steps, None])


def pieces(screen):
    """The pieces as (is a continuation, bytes); every one must be whole and have one of the prefixes."""
    assert screen.endswith(b"\n") or not screen
    found = []
    for piece in screen.split(b"\n")[:-1]:
        assert piece.startswith((PREFIX, CONTINUED))
        found.append((piece.startswith(CONTINUED), piece[len(PREFIX) :]))
    return found


def reassemble(screen):
    """The job's bytes, all but a newline at the very end."""
    data = b""
    for number, (is_continuation, piece) in enumerate(pieces(screen)):
        data += piece if is_continuation or number == 0 else b"\n" + piece
    return data


TEXT = st.one_of(
    st.lists(st.sampled_from([b"\n", b"a", b"b", b"\r", b"\0", b"\xff", b"\xc3"]), max_size=12).map(b"".join),
    st.binary(max_size=30),
)
STEPS = st.lists(st.one_of(TEXT, st.none()), max_size=12)
LONG_TEXT = st.lists(
    st.one_of(
        st.sampled_from([LINE_BYTES - 1, LINE_BYTES, LINE_BYTES + 1, 2 * LINE_BYTES, 2 * LINE_BYTES + 1]).map(lambda size: b"x" * size),
        st.sampled_from([b"\n", b"\n\n", b"ab", b"ab\ncd", b""]),
    ),
    max_size=4,
).map(b"".join)
LONG_STEPS = st.lists(st.one_of(LONG_TEXT, st.none()), max_size=5)


@given(st.one_of(STEPS, LONG_STEPS))
@example([b"a", None, b"\n"])
@example([b"a", None, b"\n\n"])
@example([b"x" * (LINE_BYTES + 1), None, b"\n", b"y"])
def test_the_jobs_bytes_can_be_read_off_the_screen(steps):
    data = b"".join(step for step in steps if step is not None)
    assert reassemble(render(steps)) == data.removesuffix(b"\n")


@given(st.one_of(STEPS, LONG_STEPS))
def test_no_piece_is_longer_than_the_limit(steps):
    assert all(len(piece) <= LINE_BYTES for _, piece in pieces(render(steps)))


@given(st.one_of(STEPS, LONG_STEPS))
def test_the_first_piece_is_never_a_continuation_and_no_continuation_is_empty(steps):
    found = pieces(render(steps))
    assert not found or not found[0][0]
    assert all(piece for is_continuation, piece in found if is_continuation)


@given(st.lists(st.one_of(TEXT, LONG_TEXT), max_size=6))
def test_where_the_chunks_are_cut_makes_no_difference(chunks):
    assert render(chunks) == render([b"".join(chunks)])


@given(st.lists(TEXT, max_size=6))
def test_whole_short_lines_appear_at_once_each_with_the_prefix(chunks):
    lines = LineRenderer(PREFIX, CONTINUED)
    shown = b"".join(map(lines.feed, chunks))
    *whole, rest = b"".join(chunks).split(b"\n")
    assert shown == b"".join(PREFIX + line + b"\n" for line in whole)
    assert lines.held_bytes == len(rest)


@pytest.mark.parametrize("size", [LINE_BYTES - 1, LINE_BYTES])
def test_a_line_of_up_to_64_kib_is_not_split(size):
    assert pieces(render([b"x" * size + b"\n"])) == [(False, b"x" * size)]
    assert pieces(render([b"x" * size, b"\n"])) == [(False, b"x" * size)]


@pytest.mark.parametrize("newline", [b"", b"\n"])
@pytest.mark.parametrize("extra", [1, LINE_BYTES])
def test_a_longer_line_is_split_after_exactly_64_kib(extra, newline):
    screen = render([b"x" * (LINE_BYTES + extra) + newline])
    assert pieces(screen) == [(False, b"x" * LINE_BYTES), (True, b"x" * extra)]


def test_a_long_line_does_not_wait_for_its_newline():
    lines = LineRenderer(PREFIX, CONTINUED)
    assert lines.feed(b"x" * LINE_BYTES) == b""
    assert lines.feed(b"y") == PREFIX + b"x" * LINE_BYTES + b"\n"
    assert lines.held_bytes == 1


def test_the_line_after_a_split_one_has_the_prefix_again():
    screen = render([b"x" * (LINE_BYTES + 1) + b"\nshort\n"])
    assert pieces(screen)[-1] == (False, b"short")


def test_bytes_that_are_not_utf8_pass_unharmed():
    every_byte = bytes(value for value in range(256) if value != ord("\n"))
    assert render([every_byte + b"\n"]) == PREFIX + every_byte + b"\n"


def test_the_newline_of_a_line_that_was_shown_adds_no_empty_piece():
    lines = LineRenderer(PREFIX, CONTINUED)
    assert lines.feed(b"password: ") == b""
    assert lines.flush() == PREFIX + b"password: \n"
    assert lines.feed(b"\n") == b""
    assert lines.feed(b"welcome\n") == PREFIX + b"welcome\n"


def test_the_rest_of_a_line_that_was_shown_is_marked_as_its_rest():
    lines = LineRenderer(PREFIX, CONTINUED)
    lines.feed(b"50 %")
    lines.flush()
    assert lines.feed(b" 100 %\nnext\n") == CONTINUED + b" 100 %\n" + PREFIX + b"next\n"


def test_flushing_with_nothing_held_shows_nothing():
    lines = LineRenderer(PREFIX, CONTINUED)
    assert lines.flush() == b""
    lines.feed(b"a\n")
    assert lines.flush() == b""
    lines.feed(b"b")
    lines.flush()
    assert lines.flush() == b""


def test_an_empty_line_is_a_prefix_alone():
    assert render([b"\n\n"]) == (PREFIX + b"\n") * 2
