"""Owns the keyword arguments that every way to run a command has, and the JobSpec that they make."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TypedDict

from ..core.capture import CaptureSpec
from ..core.outputs import OUTPUT_KEYS, output_files
from ..core.spec import JobSpec

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Command = str | Sequence[str | os.PathLike[str]] | JobSpec


class Options(TypedDict, total=False):
    """How to run a command; the words are those of a jobs file.

    ``working_dir``; ``environment``, which is added to ours. The six output keys copy a stream, or both
    in order, to files. ``capture`` is the capture mode, with ``watch_fds``, ``no_new_privs`` and
    ``stderr_apart``. ``wait_for``: the command's ``exit``, after which ``writers`` that it left are listened
    to for ``linger_s`` (1 s), or the last of them (an hour).
    """

    name: str
    working_dir: str | os.PathLike[str] | None
    environment: Mapping[str, str] | None
    out_append: Paths
    out_overwrite: Paths
    err_append: Paths
    err_overwrite: Paths
    combined_append: Paths
    combined_overwrite: Paths
    capture: str
    watch_fds: str
    no_new_privs: bool
    stderr_apart: bool
    wait_for: str
    linger_s: float | None


def make_spec(command: Command, options: Options) -> JobSpec:
    """The JobSpec. Raises ConfigError; TypeError for an unknown option, and when there is a JobSpec already, and options too."""
    if unknown := sorted(options.keys() - Options.__annotations__.keys()):
        raise TypeError(f"unexpected {', '.join(unknown)}; expected one of {', '.join(Options.__annotations__)}")
    if isinstance(command, JobSpec):
        if options:
            raise TypeError(f"a JobSpec says it all: unexpected {', '.join(options)}; use dataclasses.replace()")
        return command
    environment, working_dir = options.get("environment"), options.get("working_dir")
    return JobSpec(
        name=options.get("name", "run"),
        command=command if isinstance(command, str) else tuple(os.fspath(word) for word in command),
        working_dir=None if working_dir is None else os.fspath(working_dir),
        environment=None if environment is None else {**os.environ, **environment},
        outputs=tuple(output_files({key: _paths(options.get(key, ())) for key in OUTPUT_KEYS})),  # type: ignore[arg-type]
        capture=CaptureSpec(
            options.get("capture", "auto"),
            options.get("watch_fds", "1-2"),
            options.get("no_new_privs", False),
            stderr_apart=options.get("stderr_apart", False),
        ),
        wait_for=options.get("wait_for", "exit"),
        linger_s=options.get("linger_s"),
    )


def _paths(value: Paths) -> list[str]:
    return [os.fspath(value)] if isinstance(value, str | os.PathLike) else [os.fspath(path) for path in value]
