"""Owns the supervisor's own log: its events as structlog lines on stderr, and the colours."""

from __future__ import annotations

import dataclasses
import re
import signal
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import structlog

from ..core.write import Stream
from ..supervisor.events import (
    CaptureFailed,
    Event,
    JobExited,
    JobFailedToStart,
    JobGivenUp,
    JobLeftRunning,
    JobNotEnded,
    JobNotReady,
    JobReady,
    JobRestarting,
    JobSkipped,
    JobStarted,
    JobStatus,
    JobUnguarded,
    JobUnhealthy,
    JobWaiting,
    OutputDropped,
    OutputFailed,
    OutputLost,
    ShutdownFailed,
    StillWaiting,
    Stopping,
    StraysKilled,
)

if TYPE_CHECKING:
    from ..engine.fanin import FanIn

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


def use_colour(environment: Mapping[str, str], *, is_tty: bool) -> bool:
    """NO_COLOR and FORCE_COLOR win (no-color.org, force-color.org), else: on a terminal that can."""
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR"):
        return True
    return is_tty and environment.get("TERM") != "dumb"


def prefixes(names: list[str], *, colour: bool) -> dict[str, tuple[bytes, bytes]]:
    """For each job, what stands before a line (``web  | ``) and before the rest of one that was split (``web  : ``)."""
    width = max(map(len, names), default=0)
    found = {}
    for index, name in enumerate(names):
        begin, end = (f"\x1b[{COLOURS[index % len(COLOURS)]}m", "\x1b[0m") if colour else ("", "")
        found[name] = tuple(f"{begin}{name:<{width}} {mark}{end} ".encode() for mark in "|:")
    return {name: (first, rest) for name, (first, rest) in found.items()}


class _Lines:
    """What structlog calls with a finished line."""

    def __init__(self, stderr: FanIn) -> None:
        self._stderr = stderr

    def msg(self, line: str) -> None:
        self._stderr.write(line.encode("utf-8", "surrogateescape") + b"\n", Stream.STDERR)

    debug = info = warning = error = msg


class Log:
    """Writes events through the fan-in of stderr, so that they are never in the middle of a job's line, and never block."""

    def __init__(self, stderr: FanIn, form: str, *, colour: bool) -> None:
        self._stderr = stderr
        self._json = form == "json"
        renderer: structlog.typing.Processor
        if form == "json":
            renderer = structlog.processors.JSONRenderer()
        else:
            renderer = structlog.dev.ConsoleRenderer(colors=colour, pad_event_to=18, sort_keys=False)
        self._log = structlog.wrap_logger(
            _Lines(stderr),
            processors=[structlog.processors.add_log_level, _TIMES[form], renderer],
            wrapper_class=structlog.make_filtering_bound_logger("INFO"),
        )

    def tell(self, event: Event) -> None:
        """Log an event of the supervisor."""
        level, text, fields = _words(event)
        if isinstance(event, StillWaiting) and not self._json:
            text, fields = f"still waiting for {event.job} ({event.pid}, {event.waited_s:.0f} s of {event.timeout_s:g})", {}
        self._log.log(level, text, **fields)

    def show(self, text: str) -> None:
        """Lines as they are."""
        self._stderr.write(text.encode("utf-8", "surrogateescape"), Stream.STDERR)

    def say(self, level: int, text: str, **fields: object) -> None:
        """Log something of our own."""
        self._log.log(level, text, **fields)


_TIMES = {
    "json": structlog.processors.TimeStamper(fmt="iso", utc=True),
    "console": structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False),
}
INFO, WARNING, ERROR = 20, 30, 40


Words = tuple[int, str, dict[str, object]]


_SAID: Mapping[type, tuple[int, str]] = {
    JobReady: (INFO, "job ready"),
    JobStatus: (INFO, "job status"),
    JobRestarting: (WARNING, "job restarting"),
    JobNotReady: (WARNING, "job not ready"),
    JobSkipped: (WARNING, "job skipped"),
    JobWaiting: (WARNING, "job waiting"),
    JobUnguarded: (WARNING, "job not guarded"),
    JobLeftRunning: (WARNING, "job left running"),
    ShutdownFailed: (WARNING, "shutdown command failed"),
    StraysKilled: (WARNING, "stray processes killed"),
    JobFailedToStart: (ERROR, "job failed to start"),
    JobUnhealthy: (ERROR, "job unhealthy"),
    JobGivenUp: (ERROR, "job given up"),
    JobNotEnded: (ERROR, "job not ended"),
    OutputFailed: (ERROR, "output failed"),
    OutputDropped: (ERROR, "output dropped"),
    CaptureFailed: (ERROR, "capture failed"),
}
"""Events whose fields are said as they are."""

_NAMES = {"members": "processes", "size_bytes": "bytes", "text": "says"}
"""How some fields are called in the log."""


def _words(event: Event) -> Words:
    level, text, fields = _of(event)
    attempt = getattr(event, "attempt", 1)
    return level, text, {**fields, "attempt": attempt} if attempt > 1 else fields


def _of(event: Event) -> Words:
    match event:
        case JobStarted(job, pid, command, mode, exact, reason, fell_back):
            fields = {"job": job, "pid": pid, "command": command, "capture": mode, "exact": exact}
            return (WARNING if fell_back else INFO), "job started", {**fields, "reason": reason} if reason else fields
        case JobExited():
            return _exited(event)
        case OutputLost(job, reason, remedy):
            return WARNING, "output may be lost", {"job": job, "reason": reason, "remedy": f"[jobs.{_toml_key(job)}] {remedy}"}
        case Stopping(number, now, job):
            text = "killing all jobs" if now else "stopping all jobs"
            return WARNING, text, {"because": f"{job} has ended"} if job else {"signal": _signal_name(number)}
        case StillWaiting(job, pid, waited_s, timeout_s):
            fields = {"job": job, "pid": pid, "waited_s": round(waited_s), "timeout_s": timeout_s}
            return WARNING, "still waiting", fields
        case _:
            level, text = _SAID[type(event)]
            return level, text, {_NAMES.get(key, key): _plain(value) for key, value in _fields(event)}


def _fields(event: Event) -> Iterator[tuple[str, object]]:
    for field in dataclasses.fields(event):
        value = getattr(event, field.name)
        if field.name != "attempt" and value != []:
            yield field.name, value


def _plain(value: object) -> object:
    if isinstance(value, OSError):
        return _error(value)
    if isinstance(value, list):
        return [f"{member.name} ({member.pid})" for member in value]
    return round(value, 3) if isinstance(value, float) else value


def _exited(event: JobExited) -> Words:
    exit = event.exit
    how: dict[str, object] = (
        {"status": exit.returncode} if exit.signal is None else {"signal": _signal_name(exit.signal), "core_dumped": exit.core_dumped}
    )
    fields = {
        "job": event.job,
        **how,
        "duration_s": round(event.duration_s, 3),
        "cpu_s": round(exit.user_s + exit.system_s, 3),
        "max_rss_bytes": exit.max_rss_bytes,
    }
    if event.writers_left:
        fields["writers_left"] = True
    if not event.lossless:
        fields["lossless"] = False
    return (WARNING if exit.returncode and not event.told else INFO), "job exited", fields


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _error(error: OSError) -> str:
    where = f"{error.filename!s}: " if error.filename is not None else ""
    return f"{where}{error.strerror}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"SIG{number}"
