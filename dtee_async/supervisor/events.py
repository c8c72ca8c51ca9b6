"""Owns what a supervisor tells about its jobs: one frozen value an event.

``attempt``: which run of the job it is about, from 1; 0 when it was never started.
"""

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
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class JobUnguarded:
    """The job runs, but would outlive the supervisor, should that be killed by KILL: there can be no guardian."""

    job: str
    error: OSError
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class JobFailedToStart:
    """The command could not be started; ``status`` counts as its exit status."""

    job: str
    error: OSError
    status: int
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class JobReady:
    """All that can say so says that the job is ready, ``after_s`` seconds after it was started."""

    job: str
    after_s: float
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class JobNotReady:
    """The job was ready, and is not any more."""

    job: str
    reason: str
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class JobUnhealthy:
    """The job runs, but not well: it is ended, and counts as failed."""

    job: str
    reason: str
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What the job says of itself, by sd_notify(3), or what is seen of its probes."""

    job: str
    text: str
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class JobExited:
    """The command ended, and all its outputs have what they could take. ``told``: because it was told to."""

    job: str
    exit: Exit
    duration_s: float
    writers_left: bool
    lossless: bool = True
    attempt: int = 1
    told: bool = False


@dataclass(frozen=True, slots=True)
class JobRestarting:
    """The job has ended, and is started again in ``delay_s`` seconds; ``attempt`` is the one that has ended."""

    job: str
    delay_s: float
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class JobGivenUp:
    """The job was started again too often: it is not any more."""

    job: str
    reason: str
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class JobWaiting:
    """The job could start, but for ``max_parallel``, and may have to wait for ever: those that run are what others wait for."""

    job: str
    reason: str
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class JobSkipped:
    """The job is not started at all."""

    job: str
    reason: str
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class OutputLost:
    """Output of the job is, or may be, missing; ``reason``: what was seen. ``remedy`` is a line for its table in the jobs file."""

    job: str
    reason: str
    remedy: str
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class JobLeftRunning:
    """The command ended by itself and left these in its process group; they are left alone."""

    job: str
    members: list[Member]
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class StillWaiting:
    """The job was told to end ``waited_s`` seconds ago and has not; after ``timeout_s`` it is killed."""

    job: str
    pid: int
    waited_s: float
    timeout_s: float
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class ShutdownFailed:
    """The job's ``shutdown.command`` did not do its work: the job was sent the signal, or was killed."""

    job: str
    reason: str
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class JobNotEnded:
    """These processes of the job are left, although they were killed: no signal ends them."""

    job: str
    members: list[Member]
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class StraysKilled:
    """Processes that some job has left, nobody knows which: killed at the end of a stop. ``left``: those that were not to be killed."""

    members: list[Member]
    left: list[Member]


@dataclass(frozen=True, slots=True)
class OutputFailed:
    """A write to one output failed; said once per run of failures. The others go on."""

    job: str
    output: str
    error: OSError
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class OutputDropped:
    """An output was stuck when everything had to stop: it had taken these bytes and not delivered them."""

    job: str
    output: str
    size_bytes: int
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class CaptureFailed:
    """Output may have been lost, or the exit status could not be known."""

    job: str
    error: OSError
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Stopping:
    """Every job is told to end: by this signal of ours, or (0) because of ``job``, which has ended; ``now``: killed at once."""

    signal: int
    now: bool
    job: str = ""


Event = (
    JobStarted
    | JobUnguarded
    | JobFailedToStart
    | JobReady
    | JobNotReady
    | JobUnhealthy
    | JobStatus
    | JobExited
    | JobRestarting
    | JobGivenUp
    | JobWaiting
    | JobSkipped
    | JobLeftRunning
    | StillWaiting
    | ShutdownFailed
    | JobNotEnded
    | StraysKilled
    | OutputLost
    | OutputFailed
    | OutputDropped
    | CaptureFailed
    | Stopping
)
