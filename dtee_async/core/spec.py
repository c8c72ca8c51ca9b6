"""Owns JobSpec: what to run, where and with which outputs, checked; the same value behind jobs.toml and Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import ConfigError
from .outputs import OutputFile

SHELL = "/bin/sh"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One command to run. Raises ConfigError for a command that cannot be one.

    ``command``: an argument vector, or a string for the shell. ``environment``: the whole
    environment of the command; None for ours.
    """

    name: str
    command: str | Sequence[str]
    working_dir: str | None = None
    environment: Mapping[str, str] | None = None
    outputs: tuple[OutputFile, ...] = ()
    quiet: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.command, str):
            if not self.command.strip():
                raise ConfigError("command: expected a command, got an empty string")
        elif not self.command or not self.command[0]:
            raise ConfigError("command: expected a list of a command and its arguments, got an empty one")
        if any("\0" in word for word in self.argv):
            raise ConfigError("command: a NUL character cannot be in a command or an argument")

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
