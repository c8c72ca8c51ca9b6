"""Owns what a supervisor tells about its jobs: one frozen value an event."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.exit import Exit
from ..process.group import Member


@dataclass(frozen=True, slots=True)
class JobStarted:
    """The command runs. ``mode`` is the capture mode; ``exact``: the order across its streams is exact."""

    job: str
    pid: int
    command: str
    mode: str
    exact: bool


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


Event = JobStarted | JobFailedToStart | JobExited | JobLeftRunning | OutputFailed | OutputDropped | CaptureFailed | Stopping
