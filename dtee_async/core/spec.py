"""Owns JobSpec: what to run, where and with which outputs, checked; the same value behind jobs.toml and Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import ConfigError
from .capture import AUTO, LINGER_S, CaptureSpec
from .exit import Exit
from .outputs import OutputFile
from .policy import AVAILABILITY, HEALTH, PRIVILEGES, SHUTDOWN, Availability, Condition, Health, Privileges, Shutdown, check_seconds

SHELL = "/bin/sh"
_KINDS = {"capture": CaptureSpec, "health": Health, "availability": Availability, "shutdown": Shutdown, "privileges": Privileges}


def variable_problem(name: object, value: object) -> str:
    """Why the system has no place for such an environment variable; empty: it has."""
    if not isinstance(name, str) or not isinstance(value, str):
        return f"expected strings, got {name!r} and {value!r}"
    if not name or "=" in name or "\0" in name:
        return "not a name that an environment variable can have"
    return "a NUL character cannot be in an environment variable" if "\0" in value else ""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One command to run. Raises ConfigError for a command that cannot be one.

    ``command``: an argument vector, or a string for the shell. ``environment``: the whole
    environment of the command; None for ours. ``wait_for``: the job ends with its command
    (``exit``), or when no process holds its stdout and stderr any more (``writers``); ``linger_s``
    is how long writers that are left are listened to at most. ``die_with_supervisor``: its process
    group is killed when this process vanishes. ``depends_on``: the jobs that it starts after, and
    what it waits for in each. ``success_exit_codes``: the exit statuses that are no failure.
    """

    name: str
    command: str | Sequence[str]
    working_dir: str | None = None
    environment: Mapping[str, str] | None = None
    outputs: tuple[OutputFile, ...] = ()
    quiet: bool = False
    capture: CaptureSpec = AUTO
    wait_for: str = "exit"
    linger_s: float | None = None
    die_with_supervisor: bool = False
    description: str = ""
    disabled: bool = False
    depends_on: Mapping[str, Condition] = field(default_factory=dict)
    health: Health = HEALTH
    availability: Availability = AVAILABILITY
    success_exit_codes: tuple[int, ...] = (0,)
    shutdown: Shutdown = SHUTDOWN
    privileges: Privileges = PRIVILEGES

    def __post_init__(self) -> None:
        self._check_command()
        for name, kind in _KINDS.items():
            if not isinstance(getattr(self, name), kind):
                raise ConfigError(f"{name}: expected a {kind.__name__}, got {getattr(self, name)!r}")
        if problem := self.capture.problem():
            raise ConfigError(problem)
        if self.wait_for not in LINGER_S:
            raise ConfigError(f"wait_for: expected one of {', '.join(LINGER_S)}, got {self.wait_for!r}")
        if self.linger_s is not None:
            check_seconds("linger_s", self.linger_s, zero=True)
        if wrong := [code for code in self.success_exit_codes if not (isinstance(code, int) and 0 <= code <= 255)]:
            raise ConfigError(f"success_exit_codes: expected numbers from 0 to 255, got {wrong[0]!r}")

    def _check_command(self) -> None:
        if isinstance(self.command, str):
            if not self.command.strip():
                raise ConfigError("command: expected a command, got an empty string")
        elif not self.command or not self.command[0]:
            raise ConfigError("command: expected a list of a command and its arguments, got an empty one")
        if any("\0" in word for word in self.argv):
            raise ConfigError("command: a NUL character cannot be in a command or an argument")

    def succeeded(self, exit: Exit, *, told: bool = False) -> bool:
        """Whether a run that ended so is no failure. ``told``: it was told to end, as ``shutdown`` says, and may die by that signal."""
        return exit.returncode in self.success_exit_codes or (told and self.shutdown.signal in (exit.signal, exit.status - 128))

    @property
    def listen_s(self) -> float:
        """How long writers that are left are listened to at most."""
        return LINGER_S[self.wait_for] if self.linger_s is None else self.linger_s

    @property
    def argv(self) -> list[str]:
        """What is executed."""
        return [SHELL, "-c", self.command] if isinstance(self.command, str) else list(self.command)

    @property
    def title(self) -> str:
        """The command as one would type it."""
        if isinstance(self.command, str):
            return self.command
        import shlex

        return shlex.join(self.command)
