"""Owns how a job is put together: ``[defaults]`` under its own table, one file over another, and from which file a value came."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from ..errors import ConfigError
from .variables import PROBES
from .wrong import Path, WrongError, key, kind

CHECKS = ("exec", "http_get", "tcp")
"""A probe has one of these."""


class Layer(NamedTuple):
    """A table as one file has it; ``key`` is where it stands there. Later layers win over earlier ones."""

    file: str
    folder: str
    key: Path
    table: dict[str, Any]

    def depth(self, path: Path) -> int:
        """How many steps of the path are there."""
        value: Any = self.table
        for depth, step in enumerate(path):
            try:
                value = value[step]
            except (LookupError, TypeError):
                return depth
        return len(path)


def sub_tables(layers: Sequence[Layer], name: str) -> list[Layer]:
    """The tables of that name in the layers that have one. Raises ConfigError where it is none."""
    found = []
    for layer in layers:
        if (table := layer.table.get(name)) is None:
            continue
        if not isinstance(table, dict):
            raise said_of([layer], WrongError((name,), f"expected a table, got {kind(table)}"))
        found.append(Layer(layer.file, layer.folder, (*layer.key, name), table))
    return found


def holder(layers: Sequence[Layer], path: Path) -> Layer:
    """The layer that the value at a path is from: the last one that has it, or the most of its path."""
    return max(enumerate(layers), key=lambda item: (item[1].depth(path), item[0]))[1]


def said_of(layers: Sequence[Layer], error: WrongError) -> ConfigError:
    """What is wrong in a table that was put together, said of the file and the key that it is from."""
    layer = holder(layers, error.path)
    return ConfigError(f"{layer.file}: {key((*layer.key, *error.path))}: {error.text}")


@contextmanager
def told_of(layers: Sequence[Layer]) -> Iterator[None]:
    """What is raised as WrongError becomes the ConfigError of said_of()."""
    try:
        yield
    except WrongError as error:
        raise said_of(layers, error) from error


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Both; where both have a table the tables are merged, else ``over`` wins."""
    tables = [name for name, value in over.items() if isinstance(value, dict) and isinstance(base.get(name), dict)]
    return {**base, **over, **{name: merged(base[name], over[name]) for name in tables}}


def merged_job(defaults: Sequence[Layer], own: Sequence[Layer]) -> dict[str, Any]:
    """The table of a job. A probe has the check of who is last; defaults for a probe are for the jobs that have one."""
    table: dict[str, Any] = {}
    for layer in (*defaults, *own):
        for probe in PROBES:
            if isinstance(table.get(probe), dict) and _has_check(layer.table.get(probe)):
                table[probe] = {name: value for name, value in table[probe].items() if name not in CHECKS or name in layer.table[probe]}
        table = merged(table, layer.table)
    for probe in PROBES:
        is_default = not any(probe in layer.table for layer in own)
        if is_default and isinstance(table.get(probe), dict) and not _has_check(table[probe]):
            del table[probe]
    return table


def _has_check(probe: object) -> bool:
    return isinstance(probe, dict) and any(check in probe for check in CHECKS)
