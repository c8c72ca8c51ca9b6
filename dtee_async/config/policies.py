"""Owns how the tables of a job become the values of core/policy.py."""

from __future__ import annotations

import re
import signal as _signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from ..core.policy import (
    AVAILABILITY,
    HEALTH,
    PRIVILEGES,
    SHUTDOWN,
    Availability,
    Check,
    Condition,
    ExecCheck,
    Health,
    HttpCheck,
    Privileges,
    Probe,
    Restart,
    Shutdown,
    TcpCheck,
)
from ..errors import ConfigError
from .layers import CHECKS
from .places import check_folder
from .tables import LIMITS, SCHEMES, UNLIMITED, AvailabilityTable, Exec, HttpGet, JobTable, Limit, Port, ProbeTable, ShutdownTable, Tcp
from .wrong import Path, WrongError, meant, one_of

NO_LIMIT = -1

_HOST = re.compile(r"[\w.:%-]+")
_HEADER = re.compile(r"[!#$%&'*+.^`|~\w-]+", re.ASCII)
_PRINTABLE = re.compile(r"[\x20-\x7e\t]*")


@contextmanager
def named(path: Path) -> Iterator[None]:
    """A value's own ConfigError, ``key: text``, gets the path of the table that it was made from."""
    try:
        yield
    except ConfigError as error:
        key, _, text = str(error).partition(": ")
        raise WrongError((*path, key), text) from error


def make_depends_on(table: JobTable, replicas: Mapping[str, Sequence[str]]) -> dict[str, Condition]:
    """What is waited for in each job; a job with replicas stands for all of them."""
    if isinstance(table.depends_on, list):
        wanted = dict.fromkeys(table.depends_on, Condition.STARTED)
    else:
        wanted = {
            name: Condition(one_of(("depends_on", name, "condition"), one.condition, list(Condition)))
            for name, one in table.depends_on.items()
        }
    return {one: condition for name, condition in wanted.items() for one in replicas.get(name, (name,))}


def make_availability(table: AvailabilityTable) -> Availability:
    if table == AvailabilityTable():
        return AVAILABILITY
    values = msgspec.structs.asdict(table)
    restart = Restart(one_of(("availability", "restart"), table.restart, list(Restart)))
    with named(("availability",)):
        return Availability(**values | {"restart": restart})


def make_shutdown(table: ShutdownTable) -> Shutdown:
    if table == ShutdownTable():
        return SHUTDOWN
    number = _signal_number(table.signal) if isinstance(table.signal, str) else table.signal
    with named(("shutdown",)):
        return Shutdown(**msgspec.structs.asdict(table) | {"signal": number})


def _signal_number(name: str) -> int:
    short = name.upper().removeprefix("SIG")
    numbers = {signal.name.removeprefix("SIG"): signal for signal in _signal.Signals}
    if short not in numbers:
        raise WrongError(("shutdown", "signal"), f"expected the number or name of a signal, got {name!r}{meant(short, numbers)}")
    return numbers[short]


def make_health(table: JobTable) -> Health:
    with named(()):
        health = Health(
            table.ready_log_line,
            _probe(("readiness_probe",), table.readiness_probe),
            _probe(("liveness_probe",), table.liveness_probe),
            _probe(("startup_probe",), table.startup_probe),
            table.sd_notify,
            table.watchdog_seconds,
            table.notification_fd,
        )
    return HEALTH if health == HEALTH else health


def _probe(path: Path, table: ProbeTable | None) -> Probe | None:
    if table is None:
        return None
    values = msgspec.structs.asdict(table)
    checks = {name: check for name in CHECKS if (check := values.pop(name)) is not None}
    if len(checks) != 1:
        raise WrongError(path, f"expected one of {', '.join(CHECKS)}, got {' and '.join(checks) or 'none'}")
    ((name, check),) = checks.items()
    made = _check((*path, name), check)
    with named(path):
        return Probe(made, **values)


def _check(path: Path, table: Exec | HttpGet | Tcp) -> Check:
    match table:
        case Exec():
            if table.command is None:
                raise WrongError((*path, "command"), "missing: expected a string for the shell or a list of a command and its arguments")
            if not (table.command.strip() if isinstance(table.command, str) else table.command and table.command[0]):
                raise WrongError((*path, "command"), "expected a command, got an empty one")
            check_folder((*path, "working_dir"), table.working_dir)
            return ExecCheck(table.command, table.working_dir)
        case HttpGet():
            return _http(path, table)
        case Tcp():
            if table.port is None:
                raise WrongError((*path, "port"), "missing: expected 1 to 65535")
            return TcpCheck(_port(path, table.port), _host(path, table.host))


def _http(path: Path, table: HttpGet) -> HttpCheck:
    scheme = one_of((*path, "scheme"), table.scheme, SCHEMES)
    host = _host(path, table.host)
    place = f"[{host}]" if ":" in host else host
    if table.port is not None:
        place += f":{_port(path, table.port)}"
    if not table.path.startswith("/") or not table.path.isprintable():
        raise WrongError((*path, "path"), f"expected a path that begins with a slash, got {table.path!r}")
    if table.status_code and not 100 <= table.status_code <= 599:
        raise WrongError((*path, "status_code"), f"expected 100 to 599, or 0 for any from 200 to 399, got {table.status_code}")
    headers = {name: str(value) for name, value in table.headers.items()}
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or not _PRINTABLE.fullmatch(value):
            raise WrongError((*path, "headers", name), "expected a header of printable ASCII characters")
    return HttpCheck(f"{scheme}://{place}{table.path}", headers, table.status_code)


def _host(path: Path, host: str) -> str:
    if not _HOST.fullmatch(host):
        raise WrongError((*path, "host"), f"expected the name or address of a host, got {host!r}")
    return host


def _port(path: Path, port: Port) -> int:
    """A string is welcome: it may have been a variable."""
    if not re.fullmatch(r"[0-9]{1,9}", str(port)) or not 1 <= int(port) <= 65535:
        raise WrongError((*path, "port"), f"expected 1 to 65535, got {port}")
    return int(port)


def make_privileges(table: JobTable) -> Privileges:
    umask = _umask(table.umask) if isinstance(table.umask, str) else table.umask
    limits = {name: _limit(name, value) for name, value in table.limits.items()} or None
    for key, value in (("user", table.user), ("group", table.group)):
        if value == "" or (isinstance(value, int) and not 0 <= value < 2**32 - 1):
            raise WrongError((key,), f"expected a name or a number from 0 to 4294967294, got {value!r}")
    with named(()):
        privileges = Privileges(table.user, table.group, umask, table.nice, limits)
    return privileges if privileges.asked else PRIVILEGES


def _umask(text: str) -> int:
    if not re.fullmatch("[0-7]{1,4}", text):
        raise WrongError(("umask",), f'expected octal digits, such as "022", got {text!r}')
    return int(text, 8)


def _limit(name: str, value: Limit | list[Limit]) -> tuple[int, int]:
    path = ("limits", name)
    if name not in LIMITS:
        raise WrongError(path, "no such limit" + (meant(name, LIMITS) or f"; there are: {', '.join(LIMITS)}"))
    both = value if isinstance(value, list) else [value, value]
    if len(both) != 2 or any(one != UNLIMITED and not (isinstance(one, int) and 0 <= one < 2**63) for one in both):
        raise WrongError(path, f'expected a number, "{UNLIMITED}" or a list of two of them, soft and hard, got {value!r}')
    soft, hard = (NO_LIMIT if one == UNLIMITED else int(one) for one in both)
    if hard != NO_LIMIT and not 0 <= soft <= hard:
        raise WrongError(path, f"expected a soft limit that is not above the hard one, got {value!r}")
    return soft, hard
