"""Owns what a supervisor tells about its jobs: one frozen value an event."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.exit import Exit
from ..process.group import Member


@dataclass(frozen=True, slots=True)
class JobStarted:
    """The command runs. ``mode`` is the capture mode; ``exact``: the order across its streams is exact.

    ``reason``: why it is this mode, where that is not evident; ``fell_back``: another was asked for and cannot be had.
    """

    job: str
    pid: int
    command: str
    mode: str
    exact: bool
    reason: str = ""
    fell_back: bool = False


@dataclass(frozen=True, slots=True)
class JobUnguarded:
    """The job runs, but would outlive the supervisor, should that be killed by KILL: there can be no guardian."""

    job: str
    error: OSError


@dataclass(frozen=True, slots=True)
class JobFailedToStart:
    """The command could not be started; ``status`` counts as its exit status."""

    job: str
    error: OSError
    status: int


@dataclass(frozen=True, slots=True)
class JobExited:
    """The command ended, and all its outputs have what they could take."""

    job: str
    exit: Exit
    duration_s: float
    writers_left: bool
    lossless: bool = True


@dataclass(frozen=True, slots=True)
class OutputLost:
    """Output of the job is, or may be, missing; ``reason``: what was seen. ``remedy`` is a line for its table in the jobs file."""

    job: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class JobLeftRunning:
    """The command ended by itself and left these in its process group; they are left alone."""

    job: str
    members: list[Member]


@dataclass(frozen=True, slots=True)
class OutputFailed:
    """A write to one output failed; said once per run of failures. The others go on."""

    job: str
    output: str
    error: OSError


@dataclass(frozen=True, slots=True)
class OutputDropped:
    """An output was stuck when everything had to stop: it had taken these bytes and not delivered them."""

    job: str
    output: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CaptureFailed:
    """Output may have been lost, or the exit status could not be known."""

    job: str
    error: OSError


@dataclass(frozen=True, slots=True)
class Stopping:
    """Every job is told to end, by this signal of ours; ``now``: killed at once."""

    signal: int
    now: bool


Event = (
    JobStarted
    | JobUnguarded
    | JobFailedToStart
    | JobExited
    | JobLeftRunning
    | OutputLost
    | OutputFailed
    | OutputDropped
    | CaptureFailed
    | Stopping
)
