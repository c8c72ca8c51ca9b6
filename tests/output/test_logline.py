"""The log line: found wherever it stands and however it is cut, nothing else taken for it, and soon."""

import re
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtee_async.core.exit import Exit
from dtee_async.core.write import Stream
from dtee_async.output.logline import PARTIAL_BYTES, LogLine
from dtee_async.testing import batch_of

OUT, ERR = Stream.STDOUT, Stream.STDERR


def founds(pattern, *batches):
    """After how many batches (of writes, or of bytes on stdout) the line was found; each element is one time that it was."""
    found, seen = [], 0
    line = LogLine(re.compile(pattern), lambda: found.append(seen))
    for batch in batches:
        seen += 1
        line.write(batch_of([(OUT, batch)] if isinstance(batch, bytes) else batch))
    line.end(Exit(0))
    assert line.close() == 0
    return found


@pytest.mark.parametrize(
    ("pattern", "batches", "expected"),
    [
        (rb"ready", [b"starting\n", b"ready\n"], [2]),
        (rb"ready", [b"ready\n", b"ready\n"], [1]),
        (rb"ready", [b"not yet\n"], []),
        (rb"^ready$", [b"starting\nready\ndone\n"], [1]),
        (rb"^ready$", [b"starting\r\nready\r\n"], [1]),
        (rb"^ready$", [b"not ready\nready not\n"], []),
        (rb"port \d+", [b"po", b"rt", b" ", b"80", b"80\n"], [4]),
        (rb"port \d+$", [b"port 80", b"80", b" closed\n", b"port 8080", b"\n"], [5]),
        (rb"\bready\b", [b"ready", b"ing\n", b"al", b"ready", b"\nready", b" now"], [6]),
        (rb"ready!", [b"ready", b"!"], [2]),  # a line that never ends
        (rb"ready\s+now", [b"ready\nnow\n"], []),  # those are two lines
        (rb"ready[^x]+now", [b"ready\nnow\nready or now\n"], [1]),
        (rb"(?s)ready.*now", [b"ready\n", b"now\n"], []),
        (rb".*ready", [b"steady, ready\n"], [1]),
        (rb".*?ready.*", [b"steady, ready\n"], [1]),
        (rb".*+ready", [b"ready\n"], []),
        (rb"\Aready\Z", [b"not ready\nready\nready not\n"], [1]),
        (rb"\Aready\Z", [b"not ready\nready not\n"], []),
        (rb"ready(?![\s\S]*error)", [b"ready\nerror\n"], [1]),
        (rb"(?<!un)ready", [b"unready\n", b"already\n"], [2]),
        (rb"(?i)READY", [b"Ready\n"], [1]),
        (rb"^$", [b"x\n", b"\n"], [2]),
        (rb"^$", [b"x\n", b"y\nz"], []),
        (rb"\A\Z", [b"x", b"y\n"], []),
        (rb"", [b"\n"], [1]),
        (rb"\xff\xfe", [b"\0\xff\xfe\n"], [1]),
    ],
)
def test_a_line_is_found_when_it_is_there(pattern, batches, expected):
    assert founds(pattern, *batches) == expected


def test_either_stream_may_have_it_and_they_are_put_together_apart():
    assert founds(rb"ready", [(OUT, b"re"), (ERR, b"ady\n"), (OUT, b"ad")]) == []
    assert founds(rb"ready", [(OUT, b"re"), (ERR, b"ady\n")], [(ERR, b"rea"), (OUT, b"ady\n")]) == [2]
    assert founds(rb"ready", [(OUT, b"x\n"), (ERR, b"ready\n")]) == [1]


@pytest.mark.parametrize(
    "batches",
    [
        [b"\x1b[1;32mserver\x1b[0m is \x1b[38;5;10mre\x1b[mady\x1b[K\n"],
        [b"server is re\x1b", b"[3", b"2", b"mady\n"],
        [b"server \x1b[?25lis ready"],
    ],
)
def test_colours_do_not_hide_it(batches):
    assert founds(rb"^server is ready", *batches) == [len(batches)]


def test_a_line_without_an_end_is_not_kept_for_ever():
    line = LogLine(re.compile(rb"ready"), lambda: found.append(True))
    found = []
    tracemalloc.start()
    try:
        for _ in range(64):
            line.write(batch_of([(OUT, b"x" * PARTIAL_BYTES), (ERR, b"y" * PARTIAL_BYTES)]))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 2 * PARTIAL_BYTES < kept < 3 * PARTIAL_BYTES
    line.write(batch_of([(OUT, b"rea")]))
    line.write(batch_of([(OUT, b"dy")]))
    assert found == [True]


def test_it_looks_at_nothing_any_more_once_it_was_found_or_closed():
    class Untouchable:
        def __getattr__(self, name):
            raise AssertionError(f"{name} was asked for")

    for end in (lambda line: line.write(batch_of([(OUT, b"ready")])), LogLine.close):
        line = LogLine(re.compile(rb"ready"), lambda: None)
        end(line)
        line.write(Untouchable())


@pytest.mark.parametrize("pattern", [rb"ready", rb".*ready.*", rb"^.*ready", rb"[Rr]eady", rb"ready(?!x)"])
def test_16_megabytes_take_no_time(pattern):
    """0.2 s at most where this was written; looked at with ".*" in front, as it stands, they take 13 s."""
    batch = batch_of([(OUT, b"x" * 999 + b"\n")] * 1_000)
    line = LogLine(re.compile(pattern), lambda: None)
    begun_s = time.process_time()
    for _ in range(16):
        line.write(batch)
    assert time.process_time() - begun_s < 3


PATTERNS = st.sampled_from(
    [
        *rb"a ab ^a b$ ^ab$ a.b .*b .+b a\s*b a[^c]*c \bab\b \Aa a\Z a(?!b) (?<!a)b (?<=\n)a (?<=a)b a(?=\n) (?>a*)b a*+b".split(),
        *rb"(?m)^b (?s)a.b (?s:a.*c) (?i)A$ ^$ b\B a|b (a|b)\1 (a)?b(?(1)c|a) (?m)(?-m:^b) (?s).*b|\Ac a\n (?s)a(?!.*b)".split(),
        rb"(?x) a b # c",
    ]
)


@given(PATTERNS, st.lists(st.text("abc \n", max_size=8).map(str.encode), max_size=12))
def test_what_ends_with_a_newline_is_found_as_line_by_line(pattern, pieces):
    compiled = re.compile(pattern)
    lines = b"".join(pieces).split(b"\n")[:-1]
    begun = b"".join(pieces).split(b"\n")[-1]
    found = founds(pattern, *pieces)
    assert len(found) <= 1
    if any(map(compiled.search, lines)):
        assert found
    elif found:  # then in one that had begun, which one of the pieces has cut
        assert any(compiled.search(line[:end]) for line in [*lines, begun] for end in range(len(line) + 1))


@given(PATTERNS, st.lists(st.text("abc ", max_size=4).map(lambda text: text.encode() + b"\n"), max_size=12))
def test_whole_lines_are_found_as_line_by_line(pattern, lines):
    compiled = re.compile(pattern)
    batches = [b"".join(lines[:6]), b"".join(lines[6:])]
    assert bool(founds(pattern, *batches)) == any(compiled.search(line[:-1]) for line in lines)
