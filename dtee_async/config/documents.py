"""Owns the reading of jobs files: which files there are, in which order, each one once, and what is wrong with a file as a whole."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ..errors import ConfigError
from .tables import JobsTable, Paths
from .wrong import Path, WrongError, check_keys, convert

INCLUDE_DEPTH = 20
VALUE_DEPTH = 16
INTEGER_BITS = 128

_TOML_PLACE = re.compile(r"^(?P<text>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|(?P<end>end of document))\)$", re.DOTALL)


class Document(NamedTuple):
    """A file that was read. ``path``: as errors name it. ``folder``: absolute; its relative paths begin there."""

    path: str
    folder: str
    content: dict[str, Any]


def read_documents(paths: Sequence[str]) -> list[Document]:
    """The files and those that they include, in the order in which they are merged: each after what it includes. Raises ConfigError."""
    found: dict[str, Document] = {}
    for path in paths:
        _read(path, [], found)
    return list(found.values())


def _read(path: str, parents: list[str], found: dict[str, Document]) -> None:
    content = _parse(path)
    try:
        _check_values(content)
        check_keys((), content, JobsTable.__struct_fields__)
        included = _include(content)
        for name in included:
            _include_file(path, os.path.join(os.path.dirname(path), name), parents, found)
    except WrongError as error:
        raise ConfigError(f"{path}: {error}") from error
    found[os.path.realpath(path)] = Document(path, os.path.dirname(os.path.abspath(path)), content)


def _include(content: dict[str, Any]) -> list[str]:
    included: Paths = convert(("include",), content.get("include", []), Paths)  # type: ignore[arg-type]
    return [included] if isinstance(included, str) else included


def _include_file(path: str, included: str, parents: list[str], found: dict[str, Document]) -> None:
    chain = [*parents, path]
    identity = os.path.realpath(included)
    if identity in map(os.path.realpath, chain):
        raise WrongError(("include",), f"a cycle, of which no file comes first: {' -> '.join([*chain, included])}")
    if len(chain) > INCLUDE_DEPTH:
        raise WrongError(("include",), f"a file that is included is included by another one, and so on, more than {INCLUDE_DEPTH} times")
    if not os.path.isfile(included):
        raise WrongError(("include",), f"no such file: {included}")
    if identity not in found:
        _read(included, chain, found)


def _parse(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return tomllib.loads(file.read())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: byte {error.start} ({error.reason})") from error
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(_syntax_error(path, str(error))) from error


def _syntax_error(path: str, text: str) -> str:
    match = _TOML_PLACE.match(text)
    if match is None:
        return f"{path}: {text}"
    place = "end of file" if match["end"] else f"line {match['line']}, column {match['column']}"
    return f"{path}: {place}: {match['text']}"


def _check_values(content: dict[str, Any]) -> None:
    """That whoever looks at the values may recurse, may print each number, and may hand each string to the system."""
    left: list[tuple[Path, Any]] = [((), content)]
    while left:
        path, value = left.pop()
        if len(path) > VALUE_DEPTH:  # dotted keys nest as deep as they are long
            raise WrongError(path[:3], f"expected no more than {VALUE_DEPTH} tables and lists in each other")
        if isinstance(value, int) and value.bit_length() > INTEGER_BITS:
            raise WrongError(path, "the number is too long: write it as a string")
        if isinstance(value, str) and "\0" in value:
            raise WrongError(path, "a NUL character cannot be in it")
        left += [((*path, step), inner) for step, inner in _items(value)]


def _items(value: Any) -> Iterator[tuple[str | int, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list):
        yield from enumerate(value)
