"""Owns the keyword arguments of every way to run a command, and the JobSpec that they make."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from ..core.capture import AUTO
from ..core.contracts import Output
from ..core.outputs import OUTPUT_KEYS, output_files
from ..core.policy import Availability, Condition, Health, Privileges, Shutdown, check_seconds
from ..core.spec import JobSpec, variable_problem
from ..errors import ConfigError
from .stdin import Input

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Command = str | Sequence[str | os.PathLike[str]] | JobSpec
Keep = Literal["head", "tail"]
Mode = Literal["auto", "ordered", "turnstile", "pipe", "pty"]


class CommonOptions(TypedDict, total=False):
    """How to run a command, or each of a pipeline; the words are those of a jobs file.

    ``working_dir``; ``environment``, which is added to ours. ``capture`` is the capture mode, with ``watch_fds``,
    ``no_new_privs`` and ``stderr_apart``. ``wait_for``: the command's ``exit``, after which ``writers`` that it left
    are listened to for ``linger_s`` (1 s), or the last of them (an hour). ``success_exit_codes``: the statuses that are no failure;
    ``shutdown``: how it is ended; ``privileges``: as whom it runs; ``die_with_supervisor``: its process group
    is killed when this process vanishes.
    """

    working_dir: str | os.PathLike[str] | None
    environment: Mapping[str, str] | None
    capture: Mode
    watch_fds: Literal["1-2", "1-9"]
    no_new_privs: bool
    stderr_apart: bool
    wait_for: Literal["exit", "writers"]
    linger_s: float | None
    success_exit_codes: Sequence[int]
    shutdown: Shutdown
    privileges: Privileges
    die_with_supervisor: bool


class Options(CommonOptions, total=False):
    """How to run one command: CommonOptions, its ``name``, and the six output keys, which copy a stream, or both in order, to files."""

    name: str
    out_append: Paths
    out_overwrite: Paths
    err_append: Paths
    err_overwrite: Paths
    combined_append: Paths
    combined_overwrite: Paths


class RunOptions(Options, total=False):
    """All that run() takes by name: see there, and Options."""

    stdin: Input
    outputs: Sequence[Output]
    check: bool
    timeout_s: float | None
    limit_bytes: int | None
    keep: Keep
    grace_s: float | None


class JobOptions(Options, total=False):
    """How a supervisor runs a job: Options, and what only many jobs, or a job with many runs, can have.

    ``depends_on``: the jobs that it starts after, by their names, and what it waits for in each; a list of names: that they
    have started. ``availability``: whether it is started
    again; ``health``: how it is known to be ready, and alive. ``disabled``: it is not started.
    """

    description: str
    disabled: bool
    depends_on: Mapping[str, Condition | str] | Sequence[str]
    availability: Availability
    health: Health


_OF_CAPTURE = ("watch_fds", "no_new_privs", "stderr_apart")
_AS_THEY_ARE = (
    "wait_for",
    "linger_s",
    "die_with_supervisor",
    "description",
    "disabled",
    "health",
    "availability",
    "shutdown",
    "privileges",
)


def make_spec(command: Command, options: Mapping[str, Any], known: frozenset[str] = Options.__optional_keys__) -> JobSpec:
    """The JobSpec. Raises ConfigError; TypeError for an unknown option, and when there is a JobSpec already, and options too."""
    if unknown := sorted(options.keys() - known):
        raise TypeError(f"unexpected {', '.join(unknown)}; expected one of {', '.join(sorted(known))}")
    if isinstance(command, JobSpec):
        if options:
            raise TypeError(f"a JobSpec says it all: unexpected {', '.join(options)}; use dataclasses.replace()")
        return command
    environment, working_dir = options.get("environment"), options.get("working_dir")
    return JobSpec(
        name=options.get("name", "run"),
        command=command if isinstance(command, str) else _words(command),
        working_dir=None if working_dir is None else os.fspath(working_dir),
        environment=None if environment is None else {**os.environ, **_checked(environment)},
        outputs=tuple(output_files({key: _paths(options[key]) for key in OUTPUT_KEYS if key in options})),
        capture=AUTO._replace(mode=options.get("capture", AUTO.mode), **_some(options, _OF_CAPTURE)),
        depends_on=_conditions(options.get("depends_on", {})),
        success_exit_codes=tuple(options.get("success_exit_codes", (0,))),
        **_some(options, _AS_THEY_ARE),
    )


def check_patience(**seconds: float | None) -> None:
    """``timeout_s``, ``grace_s``: None is for ever, or as long as something else says. Raises ConfigError."""
    for name, value in seconds.items():
        if value is not None:
            check_seconds(name, value, zero=True, forever=True)


def _words(command: object) -> tuple[str, ...]:
    if isinstance(command, Sequence) and not isinstance(command, bytes | bytearray):
        words = tuple(os.fspath(word) if isinstance(word, os.PathLike) else word for word in command)
        if all(isinstance(word, str) for word in words):
            return words
    raise ConfigError(f"command: expected a string for the shell, or a list of strings and paths, got {command!r}")


def _checked(environment: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in environment.items():
        if problem := variable_problem(name, value):
            raise ConfigError(f"environment.{name}: {problem}")
    return environment


def _conditions(depends_on: Mapping[str, str] | Sequence[str]) -> dict[str, Condition]:
    if isinstance(depends_on, Mapping):
        return {name: condition_of(word) for name, word in depends_on.items()}
    return dict.fromkeys([depends_on] if isinstance(depends_on, str) else depends_on, Condition.STARTED)


def condition_of(word: str) -> Condition:
    """The condition of that name. Raises ConfigError."""
    try:
        return Condition(word)
    except ValueError as error:
        raise ConfigError(f"condition: expected one of {', '.join(Condition)}, got {word!r}") from error


def _some(options: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}


def _paths(value: Paths) -> list[str]:
    return [os.fspath(value)] if isinstance(value, str | os.PathLike) else [os.fspath(path) for path in value]
