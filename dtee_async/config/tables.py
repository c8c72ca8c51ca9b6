"""Owns the keys of a jobs file: what may be written where, of which type, and what each means. The JSON Schema is made from this.

No key has to be there: what one file leaves out can be in another, or in ``[defaults]``. Defaults that a value of core/policy.py
has are taken from there. There is no ``Meta(pattern=...)`` here: msgspec 0.22 frees that of a union once too often, and the
interpreter crashes later.
"""

from __future__ import annotations

import resource
from typing import Annotated

import msgspec
from msgspec import Meta

from ..core.capture import AUTO, LINGER_S, MODES, WATCH_FDS
from ..core.policy import AVAILABILITY, HEALTH, SHUTDOWN, Condition, Restart

LIMITS = tuple(sorted(name.removeprefix("RLIMIT_").lower() for name in dir(resource) if name.startswith("RLIMIT_")))
"""The resources that setrlimit(2) knows here, by the names that ulimit and systemd have for them."""

SCHEMES = ("http", "https")
UNLIMITED = "unlimited"

Paths = str | list[str]
Variables = dict[str, str | int | float]
Limit = int | Annotated[str, Meta(extra_json_schema={"enum": [UNLIMITED]})]
Port = int | str


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of which all keys are known."""


class Dependency(_Table, frozen=True):
    """What a job waits for in another one."""

    condition: Annotated[
        str, Meta(description="what is waited for", extra_json_schema={"enum": [condition.value for condition in Condition]})
    ] = Condition.STARTED.value


class Exec(_Table, frozen=True):
    """A command that exits with status 0 if all is well."""

    command: Annotated[
        str | list[str] | None, Meta(description="required: a string for /bin/sh -c, or a list of a command and its arguments")
    ] = None
    working_dir: Annotated[str | None, Meta(description="where it runs; where the job runs unless given")] = None


class HttpGet(_Table, frozen=True):
    """A GET request that is answered with the right status."""

    host: Annotated[str, Meta(description="whom to ask")] = "127.0.0.1"
    path: Annotated[str, Meta(description="what to ask for")] = "/"
    scheme: Annotated[str, Meta(description="http or https", extra_json_schema={"enum": list(SCHEMES)})] = "http"
    port: Annotated[Port | None, Meta(description="the port; that of the scheme unless given")] = None
    headers: Annotated[Variables, Meta(description="request headers")] = {}
    status_code: Annotated[int, Meta(description="the status that is right; 0 for any from 200 to 399")] = 0


class Tcp(_Table, frozen=True):
    """A connection that is accepted."""

    host: Annotated[str, Meta(description="whom to connect to")] = "127.0.0.1"
    port: Annotated[Port | None, Meta(description="required: the port")] = None


class ProbeTable(_Table, frozen=True):
    """A check that is repeated: one of exec, http_get and tcp."""

    exec: Annotated[Exec | None, Meta(description="passes when a command exits with status 0")] = None
    http_get: Annotated[HttpGet | None, Meta(description="passes when a GET is answered with the right status")] = None
    tcp: Annotated[Tcp | None, Meta(description="passes when a connection is accepted")] = None
    initial_delay_seconds: Annotated[float, Meta(description="the time before the first check")] = 0.0
    period_seconds: Annotated[float, Meta(description="the time between two checks")] = 10.0
    timeout_seconds: Annotated[float, Meta(description="how long a check may take")] = 1.0
    success_threshold: Annotated[int, Meta(description="how many successes in a row it takes to pass")] = 1
    failure_threshold: Annotated[int, Meta(description="how many failures in a row it takes to fail")] = 3


class AvailabilityTable(_Table, frozen=True):
    """What happens when a job has ended."""

    restart: Annotated[
        str, Meta(description="when it is started again", extra_json_schema={"enum": [restart.value for restart in Restart]})
    ] = AVAILABILITY.restart.value
    backoff_seconds: Annotated[float, Meta(description="the wait before the first restart; each further one waits twice as long")] = (
        AVAILABILITY.backoff_seconds
    )
    backoff_max_seconds: Annotated[float, Meta(description="the longest wait before a restart")] = AVAILABILITY.backoff_max_seconds
    max_restarts: Annotated[int, Meta(description="how many restarts there may be within restart_window_seconds; 0 for no limit")] = (
        AVAILABILITY.max_restarts
    )
    restart_window_seconds: Annotated[float, Meta(description="the time in which max_restarts are counted; no end unless given")] = (
        AVAILABILITY.restart_window_seconds
    )
    stable_seconds: Annotated[float, Meta(description="a run of this length begins the count and the waits anew")] = (
        AVAILABILITY.stable_seconds
    )
    exit_on_end: Annotated[bool, Meta(description="its end, restarts apart, is the end of the whole run")] = AVAILABILITY.exit_on_end


class ShutdownTable(_Table, frozen=True):
    """How a job is ended."""

    signal: Annotated[str | int, Meta(description='a name, with or without "SIG", or a number')] = "TERM"
    timeout_seconds: Annotated[float, Meta(description="how long it has to end before it is killed")] = SHUTDOWN.timeout_seconds
    command: Annotated[str, Meta(description="for /bin/sh -c: run instead of sending the signal")] = SHUTDOWN.command
    parent_only: Annotated[bool, Meta(description="the signal is for the command alone, not for its process group")] = SHUTDOWN.parent_only


class JobTable(_Table, frozen=True):
    """A job. The command has to be given here, in [defaults] or in another file."""

    command: Annotated[
        str | list[str] | None, Meta(description="required: a string for /bin/sh -c, or a list of a command and its arguments")
    ] = None
    working_dir: Annotated[str | None, Meta(description="where it runs; the folder of the file unless given")] = None
    environment: Annotated[Variables, Meta(description="variables for the command, added to ours")] = {}
    env_file: Annotated[Paths, Meta(description="files of NAME=value lines")] = []
    out_append: Annotated[Paths, Meta(description="files that stdout is appended to")] = []
    out_overwrite: Annotated[Paths, Meta(description="files that stdout is written to")] = []
    err_append: Annotated[Paths, Meta(description="files that stderr is appended to")] = []
    err_overwrite: Annotated[Paths, Meta(description="files that stderr is written to")] = []
    combined_append: Annotated[Paths, Meta(description="files that both streams are appended to, in order")] = []
    combined_overwrite: Annotated[Paths, Meta(description="files that both streams are written to, in order")] = []
    quiet: Annotated[bool, Meta(description="show it only if it writes to stderr or fails")] = False
    capture: Annotated[str, Meta(description="the capture mode", extra_json_schema={"enum": list(MODES)})] = AUTO.mode
    watch_fds: Annotated[
        str, Meta(description='the fds that capture = "turnstile" orders', extra_json_schema={"enum": list(WATCH_FDS)})
    ] = AUTO.watch_fds
    no_new_privs: Annotated[bool, Meta(description="no_new_privs may be set for a turnstile")] = AUTO.no_new_privs
    interactive: Annotated[bool, Meta(description='with capture = "pty": the keyboard is for this job')] = AUTO.interactive
    stderr_apart: Annotated[bool, Meta(description='with capture = "pty": stderr is not the terminal')] = AUTO.stderr_apart
    wait_for: Annotated[
        str, Meta(description="it has ended when its command has, or all its writers", extra_json_schema={"enum": list(LINGER_S)})
    ] = "exit"
    linger_s: Annotated[float | None, Meta(description="how long writers that are left are listened to")] = None
    die_with_supervisor: Annotated[bool, Meta(description="its process group is killed when the supervisor is")] = True
    description: Annotated[str, Meta(description="what it is for")] = ""
    disabled: Annotated[bool, Meta(description="not started unless it is chosen by its name")] = False
    depends_on: Annotated[
        dict[str, Dependency] | list[str], Meta(description="the jobs that it starts after; a list: once they have been started")
    ] = {}
    ready_log_line: Annotated[str, Meta(description="a regular expression: it is ready when a line matches")] = HEALTH.ready_log_line
    readiness_probe: Annotated[ProbeTable | None, Meta(description="passes when it is ready")] = None
    liveness_probe: Annotated[ProbeTable | None, Meta(description="fails when it has to be restarted")] = None
    startup_probe: Annotated[ProbeTable | None, Meta(description="has to pass once, before the other probes begin")] = None
    sd_notify: Annotated[bool, Meta(description="it says READY=1 on NOTIFY_SOCKET")] = HEALTH.sd_notify
    watchdog_seconds: Annotated[float, Meta(description="how often it has to say WATCHDOG=1 there; 0 for never")] = HEALTH.watchdog_seconds
    notification_fd: Annotated[int | None, Meta(description="it is ready when it writes a newline to this fd")] = None
    availability: Annotated[AvailabilityTable, Meta(description="what happens when it has ended")] = AvailabilityTable()
    success_exit_codes: Annotated[tuple[int, ...], Meta(description="the exit statuses that are no failure")] = (0,)
    shutdown: Annotated[ShutdownTable, Meta(description="how it is ended")] = ShutdownTable()
    user: Annotated[str | int | None, Meta(description="a name or a number; as we are unless given")] = None
    group: Annotated[str | int | None, Meta(description="a name or a number")] = None
    umask: Annotated[str | int | None, Meta(description='a string is octal: "022"')] = None
    nice: Annotated[int | None, Meta(description="-20 to 19")] = None
    limits: Annotated[
        dict[str, Limit | list[Limit]],
        Meta(
            description='resource limits: a number, [soft, hard], or "unlimited"',
            extra_json_schema={"propertyNames": {"enum": list(LIMITS)}},
        ),
    ] = {}
    replicas: Annotated[int | None, Meta(description="how many of it there are: NAME-1, NAME-2, ...")] = None


class JobsTable(_Table, frozen=True):
    """A jobs file."""

    include: Annotated[Paths, Meta(description="jobs files that this one adds to")] = []
    max_parallel: Annotated[int, Meta(description="how many jobs run at once, at most; 0 for no limit")] = 0
    vars: Annotated[Variables, Meta(description="variables for ${NAME} in the strings of jobs")] = {}
    defaults: Annotated[JobTable, Meta(description="what holds for each job that does not say otherwise")] = JobTable()
    jobs: Annotated[dict[str, JobTable], Meta(description="the jobs, by their names")] = {}
