"""Owns how a job is to be kept: after whom it starts, when it is ready, when it is started again, how it is ended. Values only."""

from __future__ import annotations

import re
import signal as _signal
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from ..errors import ConfigError

FOREVER = float("inf")

NOT_INHERITED = frozenset({"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"})
"""What a service manager says to us by these variables is not for the jobs that we run (sd_notify(3), sd_watchdog_enabled(3))."""


class Condition(StrEnum):
    """What a job waits for in one that it depends on."""

    STARTED = "process_started"
    HEALTHY = "process_healthy"
    LOG_READY = "process_log_ready"
    COMPLETED = "process_completed"
    COMPLETED_SUCCESSFULLY = "process_completed_successfully"


class Restart(StrEnum):
    """When a job that has ended is started again."""

    NO = "no"
    ON_FAILURE = "on_failure"
    ALWAYS = "always"
    UNLESS_STOPPED = "unless_stopped"
    EXIT_ON_FAILURE = "exit_on_failure"
    """Never, and a failure ends the whole run."""


@dataclass(frozen=True, slots=True)
class Availability:
    """What happens when a job has ended. Raises ConfigError.

    The n-th restart in a row waits ``backoff_seconds`` * 2^(n-1), at most ``backoff_max_seconds``,
    give or take a tenth. ``max_restarts`` within ``restart_window_seconds`` (0: as many as you like);
    a run of at least ``stable_seconds`` begins the count anew. ``exit_on_end``: when the job
    has ended for good, the whole run is stopped, and has its status.
    """

    restart: Restart = Restart.NO
    backoff_seconds: float = 1.0
    backoff_max_seconds: float = 60.0
    max_restarts: int = 0
    restart_window_seconds: float = FOREVER
    stable_seconds: float = 10.0
    exit_on_end: bool = False

    def __post_init__(self) -> None:
        check_seconds("backoff_seconds", self.backoff_seconds, zero=True)
        check_seconds("backoff_max_seconds", self.backoff_max_seconds, zero=True)
        check_seconds("restart_window_seconds", self.restart_window_seconds, forever=True)
        check_seconds("stable_seconds", self.stable_seconds, zero=True)
        if self.backoff_max_seconds < self.backoff_seconds:
            raise ConfigError(f"backoff_max_seconds: expected at least backoff_seconds, {self.backoff_seconds:g}")
        if self.max_restarts < 0:
            raise ConfigError(f"max_restarts: expected 0 (no limit) or more, got {self.max_restarts}")


@dataclass(frozen=True, slots=True)
class Shutdown:
    """How a job is ended. Raises ConfigError.

    ``command``, if there is one, is run first, by the shell, with the job's environment, and then
    the job is given ``timeout_seconds`` to end; without it the ``signal`` is sent to the process
    group (``parent_only``: to the command alone). What is left then is killed, the whole group in any case.
    """

    signal: int = _signal.SIGTERM
    timeout_seconds: float = 10.0
    command: str = ""
    parent_only: bool = False

    def __post_init__(self) -> None:
        check_seconds("timeout_seconds", self.timeout_seconds, zero=True)
        if self.signal not in _signal.valid_signals():
            raise ConfigError(f"signal: expected the number or name of a signal, got {self.signal}")


@dataclass(frozen=True, slots=True)
class ExecCheck:
    """Passes when the command exits with status 0. ``working_dir``: None for the job's."""

    command: str | Sequence[str]
    working_dir: str | None = None


@dataclass(frozen=True, slots=True)
class HttpCheck:
    """Passes when a GET is answered with ``status_code``; 0: anything from 200 to 399."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    status_code: int = 0


@dataclass(frozen=True, slots=True)
class TcpCheck:
    """Passes when a connection is accepted."""

    port: int
    host: str = "127.0.0.1"


Check = ExecCheck | HttpCheck | TcpCheck


@dataclass(frozen=True, slots=True)
class Probe:
    """A check that is repeated. Raises ConfigError. The thresholds count successes and failures in a row."""

    check: Check
    initial_delay_seconds: float = 0.0
    period_seconds: float = 10.0
    timeout_seconds: float = 1.0
    success_threshold: int = 1
    failure_threshold: int = 3

    def __post_init__(self) -> None:
        check_seconds("initial_delay_seconds", self.initial_delay_seconds, zero=True)
        check_seconds("period_seconds", self.period_seconds)
        check_seconds("timeout_seconds", self.timeout_seconds)
        for key in ("success_threshold", "failure_threshold"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{key}: expected 1 or more, got {getattr(self, key)}")


@dataclass(frozen=True, slots=True)
class Health:
    """How a job says that it is ready, and that it still is. Raises ConfigError.

    ``ready_log_line``: a regular expression that is found in a line of either stream.
    ``sd_notify``: READY=1 on the socket in NOTIFY_SOCKET (sd_notify(3)); ``watchdog_seconds``: how often
    it has to say WATCHDOG=1 there, 0 for never. ``notification_fd``: a newline written to this fd
    (s6-supervise(8)). Ready is who is so by all of those that are given. The startup probe passes once,
    before the others begin; the liveness probe fails the job.
    """

    ready_log_line: str = ""
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    startup_probe: Probe | None = None
    sd_notify: bool = False
    watchdog_seconds: float = 0.0
    notification_fd: int | None = None

    def __post_init__(self) -> None:
        _check_expression("ready_log_line", self.ready_log_line)
        check_seconds("watchdog_seconds", self.watchdog_seconds, zero=True)
        if self.watchdog_seconds and not self.sd_notify:
            raise ConfigError("watchdog_seconds: goes with sd_notify = true, by which the job says that it is alive")
        if self.notification_fd is not None and not 3 <= self.notification_fd <= 1000:
            raise ConfigError(f"notification_fd: expected a number from 3 to 1000, got {self.notification_fd}")

    @property
    def tells_health(self) -> bool:
        """Whether there is anything by which it can become ready, the log line apart."""
        return bool(self.readiness_probe or self.startup_probe or self.liveness_probe or self.sd_notify or self.notification_fd is not None)

    @property
    def tells_ready(self) -> bool:
        """Whether there is anything at all by which it can become ready."""
        return self.tells_health or bool(self.ready_log_line)


@dataclass(frozen=True, slots=True)
class Privileges:
    """As whom a command runs, and with which limits; None and empty: as we do. Raises ConfigError.

    ``user`` and ``group``: a name or a number. ``limits``: by the name of the resource as ulimit and
    systemd have it in small letters (``nofile``, ``core``, ``as``, ...), soft and hard; -1 for none.
    """

    user: str | int | None = None
    group: str | int | None = None
    umask: int | None = None
    nice: int | None = None
    limits: Mapping[str, tuple[int, int]] | None = None

    def __post_init__(self) -> None:
        if self.umask is not None and not 0 <= self.umask <= 0o777:
            raise ConfigError(f"umask: expected 0 to 0o777, got {self.umask:#o}")
        if self.nice is not None and not -20 <= self.nice <= 19:
            raise ConfigError(f"nice: expected -20 to 19, got {self.nice}")

    @property
    def asked(self) -> bool:
        """Whether anything is to be other than ours."""
        return self != PRIVILEGES


def _check_expression(key: str, text: str) -> None:
    """Raises ConfigError; also for what compiles with a warning, which will mean something else one day."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            re.compile(text.encode())
        except UnicodeEncodeError as error:
            raise ConfigError(f"{key}: not UTF-8 text: {error.reason}") from error
        except (re.error, RecursionError, OverflowError, Warning) as error:
            raise ConfigError(f"{key}: not a regular expression: {error}") from error


def check_seconds(key: str, value: float, *, zero: bool = False, forever: bool = False) -> None:
    """Raises ConfigError unless it is a number of seconds that can be waited."""
    if value == FOREVER and forever:
        return
    if not isinstance(value, int | float) or not 0 <= value < FOREVER or (value == 0 and not zero):
        what = "0 or more" if zero else "more than 0"
        got = f"{value:g}" if isinstance(value, int | float) else repr(value)
        raise ConfigError(f"{key}: expected a number of seconds, {what}, got {got}")


AVAILABILITY, SHUTDOWN, HEALTH, PRIVILEGES = Availability(), Shutdown(), Health(), Privileges()
"""What holds where nothing is said."""
