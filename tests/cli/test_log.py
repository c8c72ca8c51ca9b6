"""The supervisor's log: words and fields for each event, through a real fan-in on a pipe; colours and prefixes."""

from __future__ import annotations

import errno
import json
import os
import re
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtee_async.cli.log import COLOURS, ERROR, INFO, WARNING, Log, prefixes, use_colour
from dtee_async.core.exit import Exit
from dtee_async.engine.fanin import FanIn
from dtee_async.engine.pumps import PumpProcess
from dtee_async.engine.selectloop import SelectLoop
from dtee_async.process.group import Member
from dtee_async.supervisor import events


@pytest.mark.parametrize(
    ("environment", "is_tty", "colour"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),  # no-color.org: when present and not an empty string
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": ""}, False, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, False, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
    ],
)
def test_colour_is_for_terminals_that_can_unless_somebody_says_otherwise(environment, is_tty, colour):
    assert use_colour(environment, is_tty=is_tty) is colour


def test_prefixes_are_padded_to_the_longest_name():
    assert prefixes(["web", "worker"], colour=False) == {
        "web": (b"web    | ", b"web    : "),
        "worker": (b"worker | ", b"worker : "),
    }


def test_no_jobs_have_no_prefixes():
    assert prefixes([], colour=True) == {}


def test_a_coloured_prefix_is_the_plain_one_in_a_colour_that_ends_before_the_line():
    assert prefixes(["web"], colour=True) == {"web": (b"\x1b[36mweb |\x1b[0m ", b"\x1b[36mweb :\x1b[0m ")}


def test_as_many_jobs_as_there_are_colours_all_look_different():
    found = prefixes([f"job{number}" for number in range(len(COLOURS))], colour=True)
    assert len({first[: first.index(b"m")] for first, _ in found.values()}) == len(COLOURS)


def test_with_more_jobs_than_colours_the_colours_start_again():
    names = [f"job{number:02}" for number in range(len(COLOURS) + 1)]
    found = prefixes(names, colour=True)
    first, last = found[names[0]][0], found[names[-1]][0]
    assert first.replace(b"job00", b"") == last.replace(names[-1].encode(), b"")


@given(st.lists(st.text("ab", min_size=1, max_size=8), unique=True, max_size=12), st.booleans())
def test_all_prefixes_are_equally_wide_and_tell_the_jobs_apart(names, colour):
    found = [tuple(re.sub(rb"\x1b\[\d+m", b"", part) for part in pair) for pair in prefixes(names, colour=colour).values()]
    assert len({len(part) for pair in found for part in pair}) <= 1
    assert len({part for pair in found for part in pair}) == 2 * len(names)


ENOSPC = OSError(errno.ENOSPC, "No space left on device")
DEAD = Exit(-11, core_dumped=True, max_rss_bytes=4096, user_s=0.25, system_s=0.125)

SAID = [
    (
        events.JobStarted("web", 42, "make -j", "ordered", exact=True),
        ("info", "job started", {"job": "web", "pid": 42, "command": "make -j", "capture": "ordered", "exact": True}),
    ),
    (
        events.JobStarted("web", 42, "npm test", "turnstile", exact=True, reason="runs npm"),
        ("info", "job started", {"job": "web", "capture": "turnstile", "exact": True, "reason": "runs npm"}),
    ),
    (
        events.JobStarted("web", 42, "npm test", "pipe", exact=False, reason="no turnstile: Operation not permitted", fell_back=True),
        ("warning", "job started", {"job": "web", "capture": "pipe", "exact": False, "reason": "no turnstile: Operation not permitted"}),
    ),
    (
        events.JobUnguarded("web", OSError(errno.EMFILE, "the guardian process: Too many open files")),
        ("warning", "job not guarded", {"job": "web", "error": "the guardian process: Too many open files"}),
    ),
    (
        events.OutputLost("web", "process 7 runs node, which writes nothing to a datagram socket", 'capture = "turnstile"'),
        (
            "warning",
            "output may be lost",
            {
                "job": "web",
                "reason": "process 7 runs node, which writes nothing to a datagram socket",
                "remedy": '[jobs.web] capture = "turnstile"',
            },
        ),
    ),
    (
        events.JobFailedToStart("web", FileNotFoundError(errno.ENOENT, "No such file or directory", "nope"), 66),
        ("error", "job failed to start", {"job": "web", "error": "nope: No such file or directory", "status": 66}),
    ),
    (
        events.JobExited("web", Exit(0, max_rss_bytes=4096), 1.23456, writers_left=False),
        ("info", "job exited", {"job": "web", "status": 0, "duration_s": 1.235, "cpu_s": 0.0, "max_rss_bytes": 4096}),
    ),
    (
        events.JobExited("web", Exit(3), 1.0, writers_left=True),
        ("warning", "job exited", {"job": "web", "status": 3, "writers_left": True}),
    ),
    (
        events.JobExited("web", DEAD, 1.0, writers_left=False),
        ("warning", "job exited", {"job": "web", "signal": "SIGSEGV", "core_dumped": True, "cpu_s": 0.375}),
    ),
    (
        events.JobExited("web", Exit(-15), 1.0, writers_left=False, told=True),
        ("info", "job exited", {"job": "web", "signal": "SIGTERM"}),
    ),
    (
        events.JobExited("web", Exit(0), 1.0, writers_left=False, lossless=False),
        ("info", "job exited", {"job": "web", "status": 0, "lossless": False}),
    ),
    (
        events.JobExited("web", Exit(-40), 1.0, writers_left=False),
        ("warning", "job exited", {"job": "web", "signal": "SIG40", "core_dumped": False}),
    ),
    (
        events.JobLeftRunning("web", [Member(7, "sleep"), Member(8, "cat")]),
        ("warning", "job left running", {"job": "web", "processes": ["sleep (7)", "cat (8)"]}),
    ),
    (
        events.OutputFailed("web", "/var/log/web.log", ENOSPC),
        ("error", "output failed", {"job": "web", "output": "/var/log/web.log", "error": "No space left on device"}),
    ),
    (
        events.OutputDropped("web", "/mnt/web.log", 512),
        ("error", "output dropped", {"job": "web", "output": "/mnt/web.log", "bytes": 512}),
    ),
    (
        events.CaptureFailed("web", ENOSPC),
        ("error", "capture failed", {"job": "web", "error": "No space left on device"}),
    ),
    (events.JobReady("web", 1.23456), ("info", "job ready", {"job": "web", "after_s": 1.235})),
    (
        events.JobNotReady("web", "readiness probe failed: exited with status 1"),
        ("warning", "job not ready", {"job": "web", "reason": "readiness probe failed: exited with status 1"}),
    ),
    (
        events.JobUnhealthy("web", "sd_notify: no WATCHDOG=1 for 2 s", attempt=3),
        ("error", "job unhealthy", {"job": "web", "reason": "sd_notify: no WATCHDOG=1 for 2 s", "attempt": 3}),
    ),
    (events.JobStatus("web", "12 of 20 tables"), ("info", "job status", {"job": "web", "says": "12 of 20 tables"})),
    (events.JobRestarting("web", 0.98765, attempt=2), ("warning", "job restarting", {"job": "web", "delay_s": 0.988, "attempt": 2})),
    (
        events.JobGivenUp("web", "3 restarts in a row", attempt=4),
        ("error", "job given up", {"job": "web", "reason": "3 restarts in a row", "attempt": 4}),
    ),
    (
        events.JobSkipped("web", "db is Failed, and process_started is needed of it"),
        ("warning", "job skipped", {"job": "web", "reason": "db is Failed, and process_started is needed of it"}),
    ),
    (
        events.JobWaiting("web", "no more than max_parallel = 1 may run"),
        ("warning", "job waiting", {"job": "web", "reason": "no more than max_parallel = 1 may run"}),
    ),
    (
        events.StillWaiting("web", 42, 4.04, 10.0),
        ("warning", "still waiting", {"job": "web", "pid": 42, "waited_s": 4, "timeout_s": 10.0}),
    ),
    (
        events.ShutdownFailed("web", "shutdown.command: exited with status 9"),
        ("warning", "shutdown command failed", {"job": "web", "reason": "shutdown.command: exited with status 9"}),
    ),
    (
        events.JobNotEnded("web", [Member(7, "sleep")]),
        ("error", "job not ended", {"job": "web", "processes": ["sleep (7)"]}),
    ),
    (
        events.StraysKilled([Member(7, "sleep"), Member(8, "cat")], [Member(8, "cat")]),
        ("warning", "stray processes killed", {"processes": ["sleep (7)", "cat (8)"], "left": ["cat (8)"]}),
    ),
    (events.Stopping(0, now=False, job="web"), ("warning", "stopping all jobs", {"because": "web has ended"})),
    (events.Stopping(15, now=False), ("warning", "stopping all jobs", {"signal": "SIGTERM"})),
    (events.Stopping(2, now=True), ("warning", "killing all jobs", {"signal": "SIGINT"})),
]


def test_every_event_has_an_example_here():
    assert {type(event) for event, _ in SAID} == set(typing.get_args(events.Event))


def logged(form, use, *, colour=False):
    """What the pipe behind the fan-in gets when ``use`` is called with a log."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as pipe:
        with os.fdopen(writer, "wb"), SelectLoop() as loop:
            stderr = FanIn(loop, "stderr", failed=pytest.fail).use_fd(writer, PumpProcess(loop))
            use(Log(stderr, form, colour=colour))
            stderr.close()
        return pipe.read()


@pytest.mark.parametrize(("event", "said"), SAID, ids=lambda value: type(value).__name__)
def test_each_event_is_one_json_line_with_its_level_words_and_fields(event, said):
    level, words, fields = said
    (line,) = logged("json", lambda log: log.tell(event)).splitlines()
    found = json.loads(line)
    assert (found["level"], found["event"]) == (level, words)
    assert found | fields == found
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", found["timestamp"])


@pytest.mark.parametrize(("event", "said"), SAID, ids=lambda value: type(value).__name__)
def test_each_event_is_one_plain_line_on_a_console_without_colour(event, said):
    level, words, fields = said
    output = logged("console", lambda log: log.tell(event))
    assert output.count(b"\n") == 1
    assert output.endswith(b"\n")
    assert b"\x1b" not in output
    assert re.match(rf"\d\d:\d\d:\d\d\.\d+ \[{level} *\] {re.escape(words)} ".encode(), output)
    for key in fields if not isinstance(event, events.StillWaiting) else ():
        assert f" {key}=".encode() in output


def test_on_a_console_it_is_one_sentence_whom_a_stop_waits_for():
    output = logged("console", lambda log: log.tell(events.StillWaiting("web", 42, 4.04, 10.0, attempt=2)))
    assert output.endswith(b" still waiting for web (42, 4 s of 10)\n")


def test_a_clean_exit_says_nothing_about_writers_left_or_loss():
    found = json.loads(logged("json", lambda log: log.tell(events.JobExited("web", Exit(0), 1.0, writers_left=False))))
    assert not {"writers_left", "lossless", "signal"} & found.keys()


def test_only_what_is_not_the_first_attempt_has_a_number():
    for attempt, shown in ((0, None), (1, None), (2, 2)):
        found = json.loads(logged("json", lambda log, attempt=attempt: log.tell(events.JobStatus("web", "well", attempt))))
        assert found.get("attempt") == shown


def test_strays_of_whom_none_is_left_say_nothing_of_it():
    assert "left" not in json.loads(logged("json", lambda log: log.tell(events.StraysKilled([Member(7, "sleep")], []))))


def test_a_mode_that_needs_no_reason_has_none():
    found = json.loads(logged("json", lambda log: log.tell(events.JobStarted("web", 42, "make", "ordered", exact=True))))
    assert "reason" not in found


def test_colours_are_used_when_they_are_asked_for():
    assert b"\x1b[" in logged("console", lambda log: log.tell(events.Stopping(15, now=False)), colour=True)


@pytest.mark.parametrize(("level", "name"), [(INFO, "info"), (WARNING, "warning"), (ERROR, "error")])
def test_something_of_our_own_is_said_at_its_level(level, name):
    found = json.loads(logged("json", lambda log: log.say(level, "all jobs ended", jobs=2)))
    assert (found["level"], found["event"], found["jobs"]) == (name, "all jobs ended", 2)


def test_what_is_less_than_info_is_not_said():
    assert logged("json", lambda log: log.say(10, "debug")) == b""


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_command_and_a_path_that_are_not_utf8_or_have_a_newline_stay_one_line(form):
    strange = os.fsdecode(b"caf\xe9\n\x1b[31m")

    def use(log):
        log.tell(events.JobStarted("web", 1, strange, "ordered", exact=True))
        log.tell(events.OutputFailed("web", strange, ENOSPC))
        log.tell(events.JobFailedToStart("web", FileNotFoundError(errno.ENOENT, "No such file", strange), 66))

    output = logged(form, use)
    assert output.count(b"\n") == 3
    assert b"\x1b" not in output
