"""Owns the Procfile: the jobs that honcho and foreman would run, with the same .env and the same ports."""

from __future__ import annotations

import os
import re
from collections import ChainMap
from collections.abc import Iterator, Mapping

from ..core.policy import Availability
from ..core.spec import JobSpec
from ..errors import ConfigError
from .environment import for_jobs, read_env_files
from .jobsfile import NAME_LENGTH, JobsFile
from .wrong import WrongError, key

FIRST_PORT = 5000
PORT_STEP = 100

_LINE = re.compile(rf"(?P<name>[A-Za-z0-9_-]{{1,{NAME_LENGTH}}}):\s*(?P<command>\S.*)")
_PORT = re.compile(r"[0-9]{1,5}")
_END = Availability(exit_on_end=True)
"""When one process ends, the others are stopped."""


def load_procfile(path: str, environment: Mapping[str, str]) -> JobsFile:
    """The jobs of a Procfile: ``NAME: COMMAND`` lines, comments and blank lines; commands are for the shell.

    The variables of a ``.env`` beside it are added to ``environment``. Each process type has a PORT: the one that is set
    there or 5000, and 100 more for each further type. Raises ConfigError.
    """
    folder = os.path.dirname(os.path.abspath(path))
    commands = _commands(path)
    base = _environment(path, os.path.join(folder, ".env"), for_jobs(environment))
    port = _first_port(path, base)
    jobs = [
        JobSpec(
            name,
            command,
            folder,
            ChainMap({"PORT": str(port + PORT_STEP * index)}, base),
            die_with_supervisor=True,
            availability=_END,
        )
        for index, (name, command) in enumerate(commands.items())
    ]
    return JobsFile(tuple(jobs))


def _commands(path: str) -> dict[str, str]:
    commands: dict[str, str] = {}
    for number, line in _lines(path):
        match = _LINE.fullmatch(line)
        if match is None or "\0" in line:
            raise ConfigError(f"{path}: line {number}: expected NAME: COMMAND, the name of letters, digits, - and _")
        if match["name"] in commands:
            raise ConfigError(f"{path}: line {number}: there is a {match['name']} already")
        commands[match["name"]] = match["command"]
    if not commands:
        raise ConfigError(f"{path}: expected at least one line NAME: COMMAND")
    return commands


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """The lines that say something, and their numbers from 1."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: byte {error.start} ({error.reason})") from error
    except ValueError as error:  # a NUL in the path
        raise ConfigError(f"{path}: {error}") from error
    for number, line in enumerate(text.split("\n"), 1):
        if (stripped := line.strip()) and not stripped.startswith("#"):
            yield number, stripped


def _environment(path: str, env_file: str, environment: Mapping[str, str]) -> dict[str, str]:
    try:
        files = [env_file] if os.path.isfile(env_file) else []
        return {**environment, **read_env_files((), files, environment)}
    except WrongError as error:
        place = f"{env_file}: {key(error.path)}: " if error.path else ""
        raise ConfigError(f"{path}: {place}{error.text}") from error


def _first_port(path: str, environment: Mapping[str, str]) -> int:
    port = environment.get("PORT") or str(FIRST_PORT)
    if not _PORT.fullmatch(port) or int(port) > 65535:
        raise ConfigError(f"{path}: PORT: expected a number up to 65535 in the environment or .env, got {port!r}")
    return int(port)
