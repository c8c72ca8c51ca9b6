"""Owns the paths of a job: each is relative to the file that says it. What has to be there, and that nothing is written twice."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any

from ..core.outputs import OUTPUT_KEYS, OutputFile, output_files
from ..core.spec import JobSpec
from .layers import Layer, holder
from .tables import JobTable
from .variables import PROBES
from .wrong import Path, WrongError, key

_PATHS: Sequence[tuple[str, ...]] = (
    ("working_dir",),
    ("env_file",),
    *((name,) for name in OUTPUT_KEYS),
    *((probe, "exec", "working_dir") for probe in PROBES),
)
"""The keys of a job that are paths, or lists of paths."""


def resolve_paths(table: dict[str, Any], layers: Sequence[Layer]) -> None:
    """Make the paths in a job's table absolute, in place. Without a ``working_dir`` a job runs where the file is that has its command."""
    for path in _PATHS:
        *steps, last = path
        inner: Any = table
        for step in steps:
            inner = inner.get(step) if isinstance(inner, dict) else None
        if isinstance(inner, dict) and last in inner:
            inner[last] = _joined(holder(layers, path).folder, inner[last])
    table.setdefault("working_dir", holder(layers, ("command",)).folder)


def _joined(folder: str, value: Any) -> Any:
    """An empty path stays what it is: an error, and not the folder."""
    if isinstance(value, list):
        return [_joined(folder, one) for one in value]
    return os.path.join(folder, value) if isinstance(value, str) and value else value


def check_folder(path: Path, folder: str | None) -> None:
    """Raises WrongError unless it is there, or None."""
    if folder is not None and not os.path.isdir(folder):
        raise WrongError(path, f"no such directory: {folder}")


def make_outputs(job: JobTable) -> Iterator[OutputFile]:
    """The files that a job writes. Raises WrongError for a path that cannot be a file."""
    for name in OUTPUT_KEYS:
        for file in output_files({name: getattr(job, name)}):
            if not file.path:
                raise WrongError((name,), "expected the path of a file, got an empty string")
            check_folder((name,), os.path.dirname(file.path))
            if os.path.isdir(file.path):
                raise WrongError((name,), f"{file.path} is a directory, expected a file")
            yield file


def check_outputs(specs: Sequence[JobSpec]) -> None:
    """No file may be written twice: the writers would overwrite or mix what the other wrote. Raises WrongError, its path from ``jobs``."""
    seen: dict[object, tuple[Path, str]] = {}
    for spec in specs:
        for file in spec.outputs:
            identity = _identity(file.path)
            if identity is None:
                continue
            path = ("jobs", spec.name, _output_key(file))
            if identity in seen:
                other_path, other_file = seen[identity]
                same = "" if other_file == file.path else f" (the same file as {other_file})"
                raise WrongError(path, f"{file.path} is already written by {key(other_path)}{same}: give each output a file of its own")
            seen[identity] = path, file.path


def _identity(path: str) -> object:
    """What tells two files apart; None for what may be shared: /dev/null and terminals."""
    try:
        status = os.stat(path)
    except OSError:
        return os.path.realpath(path)
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode) else None


def _output_key(file: OutputFile) -> str:
    return next(name for name, key in OUTPUT_KEYS.items() if key == (file.stream, file.append))
