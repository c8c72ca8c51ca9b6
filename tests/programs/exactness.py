"""Commands that write one thing after the other to both streams, in every way that there is, and what holds of what was captured.

Each writes records ``NUMBER:STREAM:SIZE:...`` and a newline, so that what is captured says by itself whether it is exact. As
a program it runs all of them many times, and says as JSON how often each was run, how often it was wrong, what was wrong first,
and in which modes it was captured; with UID as that user, who need not be able to read this file or run this Python: all that
is needed from there is loaded before.

    python exactness.py MODE RUNS PROGRAMS [UID]
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from dtee_async.core.capture import CaptureSpec
from dtee_async.core.write import Stream, Write
from dtee_async.engine.captures import Captures
from dtee_async.engine.command import Command
from dtee_async.engine.selectloop import SelectLoop
from dtee_async.process.spawn import SpawnPlan
from dtee_async.testing import RecordingOutput
from dtee_async.transport import datagram, pipe, turnstile  # noqa: F401 - to have it before the privileges are dropped

RECORD = re.compile(rb"([a-z]*)(\d+):([12]):(\d*)[^\n]*\n")
SET_DUMPABLE = 4
LINES = 44


class Scenario(NamedTuple):
    """A command, made of the folder of the compiled programs and a seed, and how many records of which track it writes."""

    argv: object
    counts: dict[bytes, int]


def mixed(count, big, calls):
    return Scenario(lambda programs, seed: [f"{programs}/mixed_writer", str(seed), str(count), str(big), calls], {b"": count})


SHELL = """
i=0
say() { printf '%%s:%%s:\\n' $i $1; }
while [ $i -lt %d ]; do
    case $((i %% %d)) in
        0) say 1 ;;
        1) say 2 >&2 ;;
        2) (say 1) ;;
        3) (say 2) >&2 ;;
        4) say 1 | cat ;;
        5) say 2 | cat >&2 ;;
        6) { say 1 >&2; } 2>&1 ;;
        7) { say 2; } >&2 2>/dev/null ;;
        8) cat <<EOF >&2
$i:2:
EOF
        ;;
        9) say 2 >/dev/stderr ;;
        10) say 1 >/dev/stdout ;;
    esac
    i=$((i+1))
done
"""


def script(shell, ways):
    return Scenario(lambda programs, seed: [shell, "-c", SHELL % (LINES, ways)], {b"": LINES})


PYTHON = """
import sys
for i in range(12):
    head = f"{i}:{i % 2 + 1}:1000000:"
    print(head + "x" * (999_999 - len(head)), file=(sys.stdout, sys.stderr)[i % 2])
    (sys.stdout, sys.stderr)[i % 2].flush()
"""

PERL = """
$| = 1;
for my $i (0 .. 11) {
    my $record = sprintf("%d:%d:1000000:", $i, $i % 2 + 1);
    $record .= "x" x (999_999 - length $record) . "\\n";
    if ($i % 2) { print STDERR $record } else { print STDOUT $record }
}
"""

NODE = """
for (let i = 0; i < %d; i++) {
    const head = `${i}:${i %% 2 + 1}:%d:`;
    (i %% 2 ? console.error : console.log)(head + "x".repeat(%d - 1 - head.length));
}
"""


def node(count, size):
    return Scenario(lambda programs, seed: ["node", "-e", NODE % (count, size, size)], {b"": count})


MAKE = """.PHONY: all a b
all: a b
a b:
	@i=0; while [ $$i -lt 40 ]; do echo $@$$i:1:; i=$$((i+1)); echo $@$$i:2: >&2; i=$$((i+1)); done
"""

MAKING = 'printf %s "$0" | make -s -j2 -f -'

ORDERED = {
    "mixed": mixed(150, 200_000, "wvpm"),
    "bash": script("bash", 9),
    "dash": script("dash", 9),
    "make": Scenario(lambda programs, seed: ["sh", "-c", MAKING, MAKE], {b"a": 40, b"b": 40}),
}
TURNSTILE = ORDERED | {
    "mixed": mixed(80, 3_000_000, "wvpfstV"),
    "bash": script("bash", 11),
    "dash": script("dash", 11),
    "python": Scenario(lambda programs, seed: [sys.executable, "-I", "-S", "-c", PYTHON], {b"": 12}),
    "perl": Scenario(lambda programs, seed: ["perl", "-e", PERL], {b"": 12}),
    "node": node(2000, 40),
    "node, 1 MB": node(12, 1_000_000),
}
AUTO = {name: TURNSTILE[name] for name in ("node", "node, 1 MB")}
PIPE = {name: TURNSTILE[name] for name in ("mixed", "bash", "python", "node")}
SCENARIOS = {"ordered": ORDERED, "turnstile": TURNSTILE, "auto": AUTO, "pipe": PIPE}


def capture(captures, mode, argv, before_reading=lambda pid: None, **options):
    """Run a command in a capture mode: what is known of its end, its writes, and the capture."""
    plan = SpawnPlan([str(word) for word in argv], environment={**os.environ, "MAKEFLAGS": "", "MAKELEVEL": ""}, **options)
    capturing = captures.open(CaptureSpec(mode), plan, stamped=True)
    output, outcomes = RecordingOutput(), []
    with SelectLoop() as loop:
        command = Command(loop, capturing.transport, [output], lambda *_: None, outcomes.append, linger_s=0)
        before_reading(command.start(plan))
        loop.run_until(lambda: bool(outcomes))
    return outcomes[0], output.writes, capturing


def runs(writes):
    """The bytes of each run of the same stream."""
    return [(stream, b"".join(data for _, data in run)) for stream, run in groupby(writes, lambda write: write[0])]


def problem(writes, counts):
    """What is wrong with these writes: None, if they are exactly the records, each whole, in their order, on their streams."""
    data = b"".join(write.data for write in writes)
    at, seen, expected = 0, dict.fromkeys(counts, 0), []
    for match in RECORD.finditer(data):
        track, number, stream, size = match.groups()
        if match.start() != at:
            return f"no record: {data[at : at + 60]}"
        if int(number) != seen.get(track):
            return f"{track} {number} instead of {seen.get(track)}"
        if size and int(size) != len(match[0]):
            return f"{track} {number} has {len(match[0])} bytes of {size}"
        seen[track] += 1
        expected.append((Stream(int(stream)), match[0]))
        at = match.end()
    if at != len(data):
        return f"no record: {data[at : at + 60]}"
    if seen != counts:
        return f"{seen} of {counts} records"
    if runs(expected) != runs([(write.stream, write.data) for write in writes]):
        return "a record is on the wrong stream"
    return None


def in_order(writes):
    """What two streams have without an order across them, in the order of the numbers: each has to be in that order by itself."""
    found = []
    for stream in Stream:
        data = b"".join(write.data for write in writes if write.stream is stream)
        records = [(int(line.partition(b":")[0] or 0), line) for line in data.splitlines(keepends=True)]
        if records != sorted(records, key=lambda record: record[0]):
            return writes
        found += [(number, Write(stream, line, 0, 0)) for number, line in records]
    return [write for _, write in sorted(found, key=lambda one: one[0])]


def run(captures, mode, name, programs, seed):
    """Run a scenario once: the capture mode, and what is wrong, or None."""
    scenario = SCENARIOS[mode][name]
    outcome, writes, capturing = capture(captures, mode, scenario.argv(programs, seed))
    transport = capturing.transport
    if transport.mode != mode != "auto":
        return transport.mode, f"not {mode}: {capturing.reason}"
    if outcome.exit.returncode or outcome.error:
        return mode, f"{outcome}: {writes[-1:]}"
    if mode == "ordered" and name == "mixed" and len(writes) != sum(scenario.counts.values()):
        return mode, f"{len(writes)} writes"
    return transport.mode, problem(writes if transport.exact else in_order(writes), scenario.counts)


def drop_privileges(captures, uid):
    """Become a user who may have no access to this Python: the guardian, which is another process of it, is started before."""
    captures.guardian.watch(os.pipe()[0])
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    ctypes.CDLL(None).prctl(SET_DUMPABLE, 1, 0, 0, 0)  # /proc/self is ours then


def folder_of(uid, programs):
    """A folder of this user, with the programs."""
    folder = tempfile.mkdtemp(dir="/tmp")
    shutil.copytree(programs, folder, dirs_exist_ok=True)
    os.chmod(folder, 0o755)
    os.chown(folder, uid, uid)
    os.chdir(folder)
    os.environ |= {"HOME": folder, "TMPDIR": folder}
    return folder


def names(mode):
    return [name for name in SCENARIOS[mode] if name != "python" or os.access(sys.executable, os.X_OK)]


def count(captures, mode, times, programs):
    """Of each scenario: how often it was run, how often it was wrong, what was wrong first, and in which modes it was captured."""
    counted = {}
    for name in names(mode):
        results = [run(captures, mode, name, programs, seed) for seed in range(times)]
        problems = [found for _, found in results if found]
        counted[name] = times, len(problems), problems[:1], sorted({used for used, _ in results})
    return counted


def main(mode, times, programs, uid=None):
    captures, folder = Captures(), None
    if uid is not None:
        folder = programs = folder_of(int(uid), programs)
        drop_privileges(captures, int(uid))
    counted = count(captures, mode, int(times), Path(programs))
    if folder is not None:
        assert os.geteuid() == int(uid)
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(counted), flush=True)
    os._exit(0)  # a guardian of another user ends when we are gone: it cannot be killed


if __name__ == "__main__":
    main(*sys.argv[1:])
